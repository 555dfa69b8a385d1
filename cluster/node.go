package cluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"pen/state"
)

// Peer is a listed node.
type Peer struct {
	Addr     netip.AddrPort
	Witness  bool // votes, and never holds the address
	Priority int
}

// Config is what a Node is made of. Name, Key, Peers and Heartbeat are the same
// on all nodes.
type Config struct {
	Name      string // of the cluster
	Key       Key
	Peers     []Peer
	Self      netip.AddrPort // which of the peers this node is
	Node      string         // its name, for people
	Dir       string
	Heartbeat time.Duration // after so much silence a leader is taken for dead
	// Preempt is how long a node of a better priority must have been ready until
	// the address moves to it; zero: the address stays where it is.
	Preempt time.Duration
	Version string // of the program, for status
	Digest  uint64 // of the configuration file, for status; zero: none
	Log     *slog.Logger
}

// The bounds of Config.Heartbeat: below, pauses of the scheduler are elections.
const (
	MinHeartbeat = 100 * time.Millisecond
	MaxHeartbeat = 10 * time.Second
)

// Node is this process's part in a cluster. Its methods may be called by any
// goroutine.
type Node struct {
	cfg     Config
	self    Peer
	log     *slog.Logger
	archive *archive
	wire    *Wire
	gossip  *Gossip
	streams streams
	machine *state.Machine
	fsm     *fsm
	former  *former
	logs    logStore
	snaps   raft.SnapshotStore
	logger  hclog.Logger
	quiet   time.Duration
	bring   []byte // the state of a single node, to begin with
	core    atomic.Pointer[core]
	formed  chan struct{}
	down    chan struct{} // closed when Run ends
	moving  sync.Mutex    // held by the transfer under way

	mu       sync.Mutex // guards what follows
	founded  bool
	eligible bool
	why      string
	heir     map[uint64]string // of terms that are being handed over
	notes    map[ID]heardNote
	changed  chan struct{}
	release  map[ID]*ReleaseConn
	last     Move
	moves    int
	leader   string
	closed   bool
}

type heardNote struct {
	note
	hello Hello
	at    time.Time
}

// Open opens the directory and the port of a node. Nothing is started: that is
// for Run. The caller closes the node.
func Open(cfg Config) (*Node, error) {
	n, err := openNode(cfg)
	if err != nil {
		return nil, fmt.Errorf("open cluster %s: %w", cfg.Name, err)
	}
	return n, nil
}

func openNode(cfg Config) (_ *Node, err error) {
	n := &Node{
		cfg: cfg, log: cfg.Log, machine: state.New(), why: "not ready yet",
		formed: make(chan struct{}), down: make(chan struct{}), changed: make(chan struct{}),
		heir: map[uint64]string{}, notes: map[ID]heardNote{}, release: map[ID]*ReleaseConn{},
	}
	i := slices.IndexFunc(cfg.Peers, func(p Peer) bool { return p.Addr == cfg.Self })
	switch {
	case i < 0:
		return nil, fmt.Errorf("%s is not among the peers", cfg.Self)
	case cfg.Heartbeat < MinHeartbeat || cfg.Heartbeat > MaxHeartbeat:
		return nil, fmt.Errorf("heartbeat timeout %s is outside %s..%s", cfg.Heartbeat, MinHeartbeat, MaxHeartbeat)
	case cfg.Dir == "":
		return nil, errors.New("a cluster needs a directory for its log")
	}
	n.self = cfg.Peers[i]
	n.fsm = newFSM(n.machine)
	n.logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: newRaftLog(cfg.Log), DisableTime: true})
	dir := filepath.Join(cfg.Dir, "cluster")
	if n.archive, err = openArchive(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.closeStores()
		}
	}()
	if n.logs, err = openWAL(filepath.Join(dir, "log"), n.logger); err != nil {
		return nil, err
	}
	if n.snaps, err = openSnapshots(dir, cfg.Log); err != nil {
		return nil, err
	}
	p := n.archive.papers
	if n.archive.past {
		// What was acknowledged just before counts from the old timeout.
		n.quiet = max(cfg.Heartbeat, p.Heartbeat)
	}
	p.Heartbeat = cfg.Heartbeat
	if err := n.archive.save(p); err != nil {
		return nil, err
	}
	if p.Formation.IsZero() {
		if n.bring, err = singleState(cfg.Dir, cfg.Log); err != nil {
			return nil, err
		}
	}
	if err := n.openWire(p); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Node) openWire(p papers) (err error) {
	cfg := n.cfg
	var addrs []netip.Addr
	var listed []netip.AddrPort
	for _, peer := range cfg.Peers {
		addrs = append(addrs, peer.Addr.Addr())
		listed = append(listed, peer.Addr)
	}
	n.wire, err = NewWire(WireConfig{
		Key: cfg.Key, Listen: cfg.Self, Peers: addrs, Log: cfg.Log,
		Hello: Hello{
			Cluster: cfg.Name, Node: p.Node, Boot: NewID(), Name: cfg.Node, Heartbeat: cfg.Heartbeat,
			Formation: p.Formation, Generation: p.Generation, Priority: int32(n.self.Priority), Witness: n.self.Witness, StateVersion: 1,
		},
	})
	if err != nil {
		return err
	}
	n.streams = n.wire
	n.gossip = NewGossip(n.wire, cfg.Key, listed, cfg.Log)
	n.former = newFormer(cfg.Self, listed, n.streams, p, n.archive.save, max(cfg.Heartbeat/2, 100*time.Millisecond), cfg.Log)
	n.former.state = n.bring != nil
	return nil
}

// singleState returns the state that a single node has kept in dir, if any.
func singleState(dir string, log *slog.Logger) ([]byte, error) {
	kept, err := filepath.Glob(filepath.Join(dir, "*"+logs))
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	s, err := OpenSolo(dir, log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }() // it was only read
	if s.View().Index == 0 {
		return nil, nil
	}
	snap := s.machine.Snapshot()
	defer snap.Release()
	var b bytes.Buffer
	b.Write(make([]byte, 8)) // no entry of raft's log is in it
	_, err = snap.WriteTo(&b)
	return b.Bytes(), err
}

func (n *Node) closeStores() {
	if n.logs != nil {
		_ = n.logs.Close()
	}
	n.archive.close()
}

// Run is the node's life: it forms or joins the cluster and takes part in it
// until ctx ends. It returns nil then; any error is news. It is called once.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	fail := func(f func(context.Context) error) {
		all.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	fail(n.wire.Run)
	fail(n.gossip.Run)
	all.Go(func() { n.former.serve(ctx) })
	fail(n.take)
	<-ctx.Done()
	close(n.down)
	all.Wait()
	n.dropRelease()
	n.closeOnce()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func (n *Node) closeOnce() {
	n.mu.Lock()
	closed := n.closed
	n.closed = true
	n.mu.Unlock()
	if !closed {
		n.closeStores()
	}
}

// Close gives up what Open has opened. Run must have returned, if it was called.
func (n *Node) Close() error {
	n.closeOnce()
	return n.wire.Close()
}

// take forms, then takes part.
func (n *Node) take(ctx context.Context) error {
	founds, err := n.former.run(ctx)
	if err != nil {
		return err
	}
	p := n.former.now()
	n.wire.SetFormation(p.Formation, p.Generation)
	c := coreConfig{
		id: p.Node.String(), self: n.cfg.Self, rank: rank{n.self.Witness, n.self.Priority}, hb: n.cfg.Heartbeat, quiet: n.quiet,
		streams: n.streams, fsm: n.fsm, logs: n.logs, stable: n.logs, snaps: n.snaps, log: n.log, where: n.where,
	}
	if founds {
		if c.found, err = n.founders(p); err != nil {
			return err
		}
	}
	k, err := newCore(c)
	if err != nil {
		return err
	}
	if founds {
		if err := n.former.keep(func(p *papers) { p.Found, p.Promise = false, nil }); err != nil {
			_ = k.trans.Close()
			return errors.Join(err, k.raft.Shutdown().Error())
		}
		n.mu.Lock()
		n.founded = true
		n.mu.Unlock()
	}
	k.links.peers, k.links.note, k.links.heard, k.links.change = n.others, n.note, n.heard, n.serveChange
	n.core.Store(k)
	close(n.formed)
	n.tell()
	var all sync.WaitGroup
	all.Go(func() { n.pilot(ctx, k) })
	all.Go(func() { n.notice(ctx, k) })
	all.Go(func() { n.hearReleases(ctx) })
	k.run(ctx)
	all.Wait()
	return nil
}

// founders is the configuration to begin with; nil if raft has one already,
// because the process died between the two steps.
func (n *Node) founders(p papers) (*raft.Configuration, error) {
	has, err := raft.HasExistingState(n.logs, n.logs, n.snaps)
	if has || err != nil {
		return nil, err
	}
	var c raft.Configuration
	for _, m := range p.Promise.Members {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(m.Node.String()), Address: raft.ServerAddress(m.Addr.String())})
	}
	return &c, nil
}

// where returns the newest address of a node.
func (n *Node) where(id string) (netip.AddrPort, bool) {
	node, err := ParseID(id)
	if err != nil {
		return netip.AddrPort{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.notes[node]
	return h.hello.Addr, ok && h.hello.Addr.IsValid()
}

// others are the addresses to be connected with.
func (n *Node) others() []netip.AddrPort {
	var all []netip.AddrPort
	add := func(a netip.AddrPort) {
		if a.IsValid() && a != n.cfg.Self && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	for _, p := range n.cfg.Peers {
		add(p.Addr)
	}
	if k := n.core.Load(); k != nil {
		for _, s := range k.raft.GetConfiguration().Configuration().Servers {
			if a, ok := n.where(string(s.ID)); ok {
				add(a)
			} else if a, err := netip.ParseAddrPort(string(s.Address)); err == nil {
				add(a)
			}
		}
	}
	return all
}

func (n *Node) note() note {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := note{Eligible: n.eligible && !n.self.Witness, Why: n.why}
	if k := n.core.Load(); k != nil {
		o.Applied = k.raft.AppliedIndex()
	}
	if n.self.Witness {
		o.Why = "witness"
	}
	return o
}

func (n *Node) heard(h Hello, o note) {
	n.mu.Lock()
	was, known := n.notes[h.Node]
	n.notes[h.Node] = heardNote{o, h, time.Now()}
	n.mu.Unlock()
	if !known || was.Eligible != o.Eligible {
		n.tell()
	}
}

func (n *Node) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// Changed returns a channel that is closed when a role, a term, the lease or
// the members change. Who takes the channel first and then looks misses nothing.
func (n *Node) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Formed returns a channel that is closed when this node is part of a cluster.
func (n *Node) Formed() <-chan struct{} { return n.formed }

// Fresh tells that this node has founded the cluster just now and brought no
// state along: somebody has to say what the settings are. See Formed.
func (n *Node) Fresh() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.founded && n.bring == nil
}

// View returns the state as this node knows it.
func (n *Node) View() *state.View { return n.machine.View() }

// Watch returns a channel that is closed when the view changes, see
// state.Machine.
func (n *Node) Watch() <-chan struct{} { return n.machine.Watch() }

// Chown gives the files to another user, whom this process is about to become.
func (n *Node) Chown(uid, gid int) error {
	if err := n.archive.chown(uid, gid); err != nil {
		return fmt.Errorf("give the log to user %d: %w", uid, err)
	}
	return nil
}

// Lease is this node's lease as it is now. Until moves on without notice.
func (n *Node) Lease() Lease {
	k := n.core.Load()
	if k == nil {
		return Lease{}
	}
	return k.elector.lease()
}

// Released says that this node does not answer for the address any more, and
// will not in that term. It opens its vote and tells the others, who need not
// wait for the end of the lease then.
func (n *Node) Released(term uint64) {
	k := n.core.Load()
	if k == nil {
		return
	}
	n.mu.Lock()
	heir := n.heir[term]
	n.mu.Unlock()
	k.elector.released(term, heir)
	go func() { // the caller has better things to do than to wait for the network
		ctx, cancel := context.WithTimeout(context.Background(), n.cfg.Heartbeat)
		defer cancel()
		k.links.released(ctx, term, heir)
	}()
}

// SetEligible says whether this node could hold the address, and why not.
func (n *Node) SetEligible(ok bool, reason string) {
	n.mu.Lock()
	same := n.eligible == ok && n.why == reason
	n.eligible, n.why = ok, reason
	n.mu.Unlock()
	if same {
		return
	}
	if k := n.core.Load(); k != nil {
		k.links.announce()
		k.elector.nudge()
	}
	n.tell()
}

// Drain makes a node, by name, id or address, ineligible until Undrain.
func (n *Node) Drain(ctx context.Context, node string) error { return n.setDrained(ctx, node, true) }

// Undrain takes Drain back.
func (n *Node) Undrain(ctx context.Context, node string) error {
	return n.setDrained(ctx, node, false)
}

func (n *Node) setDrained(ctx context.Context, node string, drained bool) error {
	m, err := n.find(node)
	if err != nil {
		return err
	}
	r, err := n.Propose(ctx, state.Command{Time: state.At(time.Now()), Ops: []state.Op{state.SetNode{Node: m.ID.String(), Drained: drained}}})
	if err != nil {
		return err
	}
	return r.Err
}

// find returns the one member with that name, id or address.
func (n *Node) find(node string) (MemberStatus, error) {
	var found []MemberStatus
	for _, m := range n.Status().Members {
		if m.ID.String() == node || m.Name == node || m.Addr.String() == node || m.Addr.Addr().String() == node {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		return MemberStatus{}, fmt.Errorf("%d members are called %q", len(found), node)
	}
	return found[0], nil
}

// notice tells others what raft and the lease do, and moves the address away
// from a leader that can not hold it.
func (n *Node) notice(ctx context.Context, k *core) {
	news := make(chan raft.Observation, 16)
	watch := raft.NewObserver(news, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState, raft.PeerObservation:
			return true
		}
		return false
	})
	k.raft.RegisterObserver(watch)
	defer k.raft.DeregisterObserver(watch)
	tick := time.NewTicker(n.cfg.Heartbeat)
	defer tick.Stop()
	for {
		lease := k.elector.watchLease()
		n.noteLeader(k)
		select {
		case <-ctx.Done():
			return
		case <-news:
			n.tell()
		case <-lease:
			n.tell()
		case <-tick.C:
		}
	}
}

// Move is a change of the leader.
type Move struct {
	From, To string // ids
	At       time.Time
	Term     uint64
}

func (n *Node) noteLeader(k *core) {
	_, id := k.raft.LeaderWithID()
	term := k.raft.CurrentTerm()
	n.mu.Lock()
	defer n.mu.Unlock()
	if id == "" || string(id) == n.leader {
		return
	}
	if n.leader != "" {
		n.moves++
		n.last = Move{n.leader, string(id), time.Now(), term}
	}
	n.leader = string(id)
	n.log.Info("leader", "leader", id, "term", term)
}

// pilot does what only a leader does, for as long as this node is it: it keeps
// raft's configuration to the list, and gives the address away if this node can
// not hold it.
func (n *Node) pilot(ctx context.Context, k *core) {
	tick := time.NewTicker(max(n.cfg.Heartbeat/2, 50*time.Millisecond))
	defer tick.Stop()
	var brought bool
	var pause time.Time
	var better string // who has a better priority, and since when
	var since time.Time
	for {
		o := n.note()
		n.gossip.SetMeta(Meta{Version: n.cfg.Version, Digest: n.cfg.Digest, Applied: o.Applied, Eligible: o.Eligible, Reason: o.Why})
		lease := k.elector.watchLease()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-lease:
		}
		if k.raft.State() != raft.Leader {
			continue
		}
		if !brought && n.bring != nil {
			brought = n.bringState(k)
		}
		if n.fsm.bytes.Load() > 32<<20 {
			_ = k.raft.Snapshot().Error() // it is tried again, and raft logs it
		}
		n.configure(k)
		to := n.best(k)
		if !n.ranksAbove(to, k) {
			better = ""
		} else if to != better {
			better, since = to, time.Now()
		}
		ok, why := n.serves(k.id)
		if ok && n.cfg.Preempt > 0 && better != "" && time.Since(since) >= n.cfg.Preempt {
			ok, why = false, "another has a better priority"
		}
		if !ok && to != "" && k.elector.lease().Valid && time.Now().After(pause) {
			n.log.Info("giving the address away", "reason", why, "member", to)
			if err := n.Transfer(ctx, to); err != nil {
				n.log.Warn("the address stays here", "reason", why, "err", err)
			}
			pause = time.Now().Add(max(time.Second, 2*n.cfg.Heartbeat))
		}
	}
}

// bringState makes the state of the single node that this one was the cluster's.
func (n *Node) bringState(k *core) bool {
	n.mu.Lock()
	founded := n.founded
	n.mu.Unlock()
	if !founded || n.machine.View().Index > 0 {
		return true
	}
	err := k.raft.Restore(&raft.SnapshotMeta{Version: 1, Size: int64(len(n.bring))}, io.NopCloser(bytes.NewReader(n.bring)), 10*time.Second)
	if err != nil {
		n.log.Error("the state of the single node is not in the cluster yet", "err", err)
		return false
	}
	n.log.Info("the state of the single node is the cluster's now")
	return true
}

// configure makes one change of raft's configuration, if one is due. A listed
// node is never removed because it is dead: only because its place was taken.
func (n *Node) configure(k *core) {
	c := k.raft.GetConfiguration().Configuration()
	n.mu.Lock()
	notes := make(map[ID]heardNote, len(n.notes))
	for id, h := range n.notes {
		if time.Since(h.at) < 3*noteEvery {
			notes[id] = h
		}
	}
	n.mu.Unlock()
	act, s, what := reconfigure(c.Servers, notes, n.cfg.Peers, k.id, k.raft.LastIndex())
	var f raft.IndexFuture
	switch act {
	case memberKeep:
		return
	case memberRemove:
		f = k.raft.RemoveServer(s.ID, 0, time.Second)
	case memberLearn:
		f = k.raft.AddNonvoter(s.ID, s.Address, 0, time.Second)
	case memberVote:
		f = k.raft.AddVoter(s.ID, s.Address, 0, time.Second)
	}
	if err := f.Error(); err != nil {
		n.log.Warn("members stay as they are", "member", s.ID, "addr", s.Address, "err", err)
		return
	}
	n.log.Info("members changed", "member", s.ID, "addr", s.Address, "change", what)
	n.tell()
}

type memberAct uint8

const (
	memberKeep memberAct = iota
	memberRemove
	memberLearn
	memberVote
)

// learnerLag is how many entries a new node may be behind when it gets its vote.
const learnerLag = 64

// reconfigure decides which change is due, from raft's servers, the nodes that
// are heard of, and the list.
func reconfigure(servers []raft.Server, alive map[ID]heardNote, peers []Peer, self string, last uint64) (memberAct, raft.Server, string) {
	byID := func(id string) int {
		return slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == id })
	}
	ids := make([]ID, 0, len(alive))
	for id := range alive {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		h := alive[id]
		want := raft.Server{ID: raft.ServerID(id.String()), Address: raft.ServerAddress(h.hello.Addr.String())}
		listed := slices.ContainsFunc(peers, func(p Peer) bool { return p.Addr == h.hello.Addr })
		i := byID(string(want.ID))
		if !listed && i < 0 || string(want.ID) == self {
			continue
		}
		taken := slices.IndexFunc(servers, func(s raft.Server) bool { return s.Address == want.Address && s.ID != want.ID })
		switch {
		case taken >= 0:
			old := servers[taken]
			if _, lives := alive[idOf(old.ID)]; lives || string(old.ID) == self || !safeWithout(servers, alive, old.ID, self) {
				continue
			}
			return memberRemove, old, "its disk was replaced"
		case i < 0:
			return memberLearn, want, "it is new"
		case servers[i].Address != want.Address && servers[i].Suffrage == raft.Voter:
			return memberVote, want, "its address changed"
		case servers[i].Suffrage != raft.Voter && h.Applied+learnerLag >= last:
			return memberVote, want, "it has caught up"
		}
	}
	return memberKeep, raft.Server{}, ""
}

func idOf(s raft.ServerID) ID {
	id, _ := ParseID(string(s)) // one that is none is nobody's
	return id
}

// safeWithout tells whether those who live are a majority of the voters that
// are left.
func safeWithout(servers []raft.Server, alive map[ID]heardNote, gone raft.ServerID, self string) bool {
	voters, living := 0, 0
	for _, s := range servers {
		if s.ID == gone || s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if _, ok := alive[idOf(s.ID)]; ok || string(s.ID) == self {
			living++
		}
	}
	return living >= voters/2+1
}

// serves tells whether a node could hold the address, and why not.
func (n *Node) serves(id string) (bool, string) {
	if n.View().Drained(id) {
		return false, "drained"
	}
	if k := n.core.Load(); k != nil && id == k.id {
		o := n.note()
		return o.Eligible, o.Why
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.notes[idOf(raft.ServerID(id))]
	switch {
	case !ok || time.Since(h.at) > 3*noteEvery:
		return false, "not heard of"
	case h.hello.Witness:
		return false, "witness"
	}
	return h.Eligible, h.Why
}

// best is the node that should have the address if this one should not.
func (n *Node) best(k *core) string {
	type candidate struct {
		id   string
		rank rank
	}
	var all []candidate
	for _, id := range voters(k.raft) {
		if ok, _ := n.serves(id); ok && id != k.id {
			n.mu.Lock()
			h := n.notes[idOf(raft.ServerID(id))].hello
			n.mu.Unlock()
			all = append(all, candidate{id, rank{h.Witness, int(h.Priority)}})
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(a.rank.compare(b.rank), cmp.Compare(a.id, b.id))
	})
	return all[0].id
}

// ranksAbove tells whether a node has a better priority than this one.
func (n *Node) ranksAbove(id string, k *core) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.notes[idOf(raft.ServerID(id))]
	return ok && rank{h.hello.Witness, int(h.hello.Priority)}.compare(k.elector.rank) < 0
}

// ErrNoCandidate says that no other node could take the address.
var ErrNoCandidate = errors.New("no other node is eligible")

// Transfer gives the leadership, and with it the address, to another node: the
// best one if to is empty, else the one of that name, id or address. What was
// proposed before is applied there first. While it goes on, Lease says Handing,
// and waits for Released until the lease is over. If it fails this node takes
// the leadership again, in a new term.
func (n *Node) Transfer(ctx context.Context, to string) error {
	k := n.core.Load()
	if k == nil {
		return ErrNoLeader
	}
	if to != "" {
		if _, err := ParseID(to); err != nil {
			m, err := n.find(to)
			if err != nil {
				return fmt.Errorf("transfer: %w", err)
			}
			to = m.ID.String()
		}
	}
	if k.raft.State() != raft.Leader {
		return n.transferElsewhere(ctx, k, to)
	}
	if !n.moving.TryLock() {
		return errors.New("transfer: one is under way")
	}
	defer n.moving.Unlock()
	if to == "" {
		if to = n.best(k); to == "" {
			return fmt.Errorf("transfer: %w", ErrNoCandidate)
		}
	}
	if to == k.id {
		return nil
	}
	if ok, why := n.serves(to); !ok {
		return fmt.Errorf("transfer to %s: %s", to, cmp.Or(why, "not eligible"))
	}
	if err := n.transfer(ctx, k, to); err != nil {
		return fmt.Errorf("transfer to %s: %w", to, err)
	}
	return nil
}

func (n *Node) transferElsewhere(ctx context.Context, k *core, to string) error {
	addr, id := k.raft.LeaderWithID()
	if id == "" || string(id) == k.id {
		return fmt.Errorf("transfer: %w", ErrNoLeader)
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	r, _, err := n.carry(ctx, string(id), addr, change{Transfer: true, To: to}, nil)
	if err == nil && !r.Done {
		err = errors.New(r.Err)
	}
	return err
}

func (n *Node) transfer(ctx context.Context, k *core, to string) error {
	if err := k.raft.Barrier(time.Second).Error(); err != nil {
		return err
	}
	term := k.raft.CurrentTerm()
	n.mu.Lock()
	clear(n.heir)
	n.heir[term] = to
	n.mu.Unlock()
	if until, ok := k.elector.hand(term); ok {
		n.tell()
		if err := k.elector.awaitRelease(ctx, term, until); err != nil {
			// The others may have been told; the lease of this term is over anyway.
			n.reclaim(k, term)
			return err
		}
	}
	// The others must know before they are asked to vote.
	told, cancel := context.WithTimeout(ctx, patience)
	k.links.released(told, term, to)
	cancel()
	at, _ := n.where(to)
	err := k.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(at.String())).Error()
	if err != nil {
		n.reclaim(k, term)
	}
	return err
}

// reclaim makes this node stand again: what was handed over in a term does not
// come back in that term.
func (n *Node) reclaim(k *core, term uint64) {
	n.mu.Lock()
	clear(n.heir)
	n.mu.Unlock()
	k.elector.released(term, "")
	if k.raft.State() == raft.Leader && k.raft.CurrentTerm() == term {
		k.elector.stand()
	}
}

// MemberStatus is what this node knows of a member.
type MemberStatus struct {
	ID       ID             `json:"id"`
	Name     string         `json:"name"`
	Addr     netip.AddrPort `json:"addr"`
	Role     string         `json:"role"` // voter, witness, learner, absent
	Leader   bool           `json:"leader"`
	Self     bool           `json:"self"`
	Alive    bool           `json:"alive"`
	Heard    time.Time      `json:"heard"` // when it last spoke to this node
	Priority int            `json:"priority"`
	Applied  uint64         `json:"applied"`
	Lag      uint64         `json:"lag"` // entries behind the last that this node knows
	Eligible bool           `json:"eligible"`
	Why      string         `json:"why,omitempty"` // why not
	Drained  bool           `json:"drained"`
	Version  string         `json:"version"`
	Digest   uint64         `json:"digest"` // of its configuration file
	// Heartbeat differs from this node's only by a mistake: the smallest counts.
	Heartbeat time.Duration `json:"heartbeat_ns"`
}

// NodeStatus is how the cluster looks from this node.
type NodeStatus struct {
	Cluster    string         `json:"cluster"`
	Formation  ID             `json:"formation"` // zero: not formed yet
	Generation uint64         `json:"generation"`
	Self       ID             `json:"self"`
	Role       string         `json:"role"`   // of raft: Leader, Follower, Candidate; forming
	Leader     string         `json:"leader"` // id; empty: none
	Term       uint64         `json:"term"`
	Quorum     bool           `json:"quorum"` // a majority of the voters is alive, this node's among them
	Voters     int            `json:"voters"`
	Living     int            `json:"living"` // voters that are alive
	Last       uint64         `json:"last"`
	Applied    uint64         `json:"applied"`
	Contact    time.Time      `json:"contact"` // last word of the leader
	Moves      int            `json:"moves"`   // changes of the leader since this node started
	LastMove   Move           `json:"last_move"`
	Lease      Lease          `json:"lease"`
	Members    []MemberStatus `json:"members"`
	Refused    []Refusal      `json:"refused"` // who was not let in
	Held       int64          `json:"held"`    // votes and questions that had to wait
	Late       int64          `json:"late"`    // votes that did not leave
}

// Status reports how the cluster looks from here. It asks nobody, and works
// without a leader.
func (n *Node) Status() NodeStatus {
	p := n.former.now()
	s := NodeStatus{
		Cluster: n.cfg.Name, Formation: p.Formation, Generation: p.Generation, Self: p.Node, Role: "forming",
		Refused: n.wire.Refused(), Lease: n.Lease(),
	}
	var servers []raft.Server
	if k := n.core.Load(); k != nil {
		_, leader := k.raft.LeaderWithID()
		s.Role, s.Leader, s.Term = k.raft.State().String(), string(leader), k.raft.CurrentTerm()
		s.Last, s.Applied, s.Contact = k.raft.LastIndex(), k.raft.AppliedIndex(), k.raft.LastContact()
		if s.Role == raft.Leader.String() {
			s.Contact = time.Now()
		}
		s.Held, s.Late = k.elector.held.Load(), k.elector.late.Load()
		servers = k.raft.GetConfiguration().Configuration().Servers
	}
	n.mu.Lock()
	s.Moves, s.LastMove = n.moves, n.last
	n.mu.Unlock()
	seen := map[ID]Member{}
	var absent []Member
	for _, g := range n.gossip.Members() {
		seen[g.ID] = g
		if g.Listed && !slices.ContainsFunc(servers, func(r raft.Server) bool { return idOf(r.ID) == g.ID }) {
			absent = append(absent, g)
		}
	}
	for _, r := range servers {
		m := n.memberStatus(idOf(r.ID), s)
		m.Version, m.Digest = seen[m.ID].Meta.Version, seen[m.ID].Meta.Digest
		if m.Name == "" { // not heard of since this node started
			m.Name = seen[m.ID].Name
		}
		if !m.Addr.IsValid() {
			m.Addr, _ = netip.ParseAddrPort(string(r.Address))
		}
		switch {
		case r.Suffrage != raft.Voter:
			m.Role = "learner"
		case m.Role == "":
			m.Role = "voter"
		}
		if r.Suffrage == raft.Voter {
			s.Voters++
			if m.Alive {
				s.Living++
			}
		}
		s.Members = append(s.Members, m)
	}
	for _, g := range absent {
		s.Members = append(s.Members, MemberStatus{
			ID: g.ID, Name: g.Name, Addr: g.Addr, Role: "absent", Self: g.Self, Alive: g.State == Alive, Why: "not part of the cluster",
			Priority: int(g.Priority), Heartbeat: g.Heartbeat, Version: g.Meta.Version, Digest: g.Meta.Digest,
		})
	}
	s.Quorum = s.Voters > 0 && s.Living >= s.Voters/2+1
	return s
}

func (n *Node) memberStatus(id ID, s NodeStatus) MemberStatus {
	m := MemberStatus{ID: id, Leader: s.Leader == id.String(), Self: id == s.Self, Drained: n.View().Drained(id.String())}
	var o note
	if m.Self {
		o = n.note()
		m.Name, m.Addr, m.Alive, m.Heard, m.Heartbeat = n.cfg.Node, n.cfg.Self, true, time.Now(), n.cfg.Heartbeat
		m.Priority = n.self.Priority
		if n.self.Witness {
			m.Role = "witness"
		}
	} else {
		n.mu.Lock()
		h := n.notes[id]
		n.mu.Unlock()
		o = h.note
		m.Name, m.Addr, m.Heard, m.Heartbeat = h.hello.Name, h.hello.Addr, h.at, h.hello.Heartbeat
		m.Priority, m.Alive = int(h.hello.Priority), time.Since(h.at) < 3*noteEvery
		if h.hello.Witness {
			m.Role = "witness"
		}
	}
	m.Applied, m.Eligible, m.Why = o.Applied, o.Eligible && m.Alive && !m.Drained, o.Why
	switch {
	case m.Drained:
		m.Why = "drained"
	case !m.Alive:
		m.Why = "not heard of"
	case m.Eligible:
		m.Why = ""
	}
	if m.Applied < s.Last {
		m.Lag = s.Last - m.Applied
	}
	return m
}

// ReleaseConn is a bare connection on which another process can say that the
// address is free. See Node.ReleaseMessage.
type ReleaseConn struct {
	Peer   ID
	Conn   net.Conn // a *net.TCPConn; the Node closes it
	stream Stream
}

const releaseMagic = "pen released\n"

// ReleaseMessage is what says on a ReleaseConn of this node that it does not
// answer for the address any more in that term. It can be made long before it is
// sent, and must not be known to anybody before: whoever has it can say so.
func (n *Node) ReleaseMessage(term uint64) []byte {
	h := n.wire.Hello()
	return releaseMessage(n.cfg.Key, h.Node, h.Boot, term)
}

func releaseMessage(key Key, node, boot ID, term uint64) []byte {
	b := append([]byte(releaseMagic), node[:]...)
	b = append(b, boot[:]...)
	b = binary.BigEndian.AppendUint64(b, term)
	mac := hmac.New(sha256.New, key.derive("release", 32))
	mac.Write(b)
	return mac.Sum(b)
}

const releaseSize = len(releaseMagic) + 16 + 16 + 8 + sha256.Size

// ReleaseConns returns connections to the other nodes that speak no TLS any more
// and can be inherited by another process. They are made anew when they break;
// the Node closes them.
func (n *Node) ReleaseConns() []ReleaseConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []ReleaseConn
	for _, c := range n.release {
		all = append(all, *c)
	}
	return all
}

func (n *Node) dropRelease() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, c := range n.release {
		c.stream.Close()
		delete(n.release, id)
	}
}
