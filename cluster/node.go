package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
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
	// Answer answers what other nodes ask with Query. It is called by several
	// goroutines; nil: nothing is answered.
	Answer func(ctx context.Context, what string) ([]byte, error)
	Log    *slog.Logger
}

// The bounds of Config.Heartbeat: below, pauses of the scheduler are elections.
const (
	MinHeartbeat = 100 * time.Millisecond
	MaxHeartbeat = 10 * time.Second
)

// transferLook is how often the end of a transfer is looked for, at the end.
const transferLook = 2 * time.Millisecond

// Node is this process's part in a cluster. Its methods may be called by any
// goroutine.
type Node struct {
	cfg     Config
	list    atomic.Pointer[list]
	log     *slog.Logger
	archive *archive
	forced  *forced
	wire    *Wire
	gossip  *Gossip
	streams streams
	machine *state.Machine
	fsm     *fsm
	former  *former
	logs    logStore
	health  *health
	snaps   raft.SnapshotStore
	logger  hclog.Logger
	quiet   time.Duration
	bring   *single // the state of a single node, to begin with
	core    atomic.Pointer[core]
	formed  chan struct{}
	current chan struct{}              // see Current
	digest  atomic.Uint64              // see SetDigest
	assumed atomic.Pointer[state.View] // see Assume; nil: nothing was
	led     chan struct{}              // this node leads a new term
	down    chan struct{}              // closed when Run ends
	moving  sync.Mutex                 // held by the transfer under way
	later   atomic.Uint64              // generation that has overtaken this node; zero: none

	recoveries chan recovery
	afresh     chan struct{} // a later generation is to be taken up, see overtaken

	mu       sync.Mutex // guards what follows
	founded  bool
	eligible bool
	why      string
	heir     map[uint64]releasedTerm // of terms that are being handed over
	notes    map[ID]heardNote
	changed  chan struct{}
	release  map[ID]*ReleaseConn
	last     Move
	moves    int
	leader   string    // the last one
	since    time.Time // when this node saw it lead; zero: it sees none now
	lead     lead      // what this node says if it leads
	facts    Facts
	out      map[ID]ID // who was removed while this node led, and the process that it was
	outBy    string    // who has removed this node; empty: nobody
	born     time.Time // set once
	alone    Alone     // what it says of itself while it holds without a quorum
	falls    bool      // see SetFalls
	waiting  bool      // see pairFalls
	closed   bool
}

// Open opens the directory and the port of a node. Nothing is started: that is
// for Run. The caller closes the node.
func Open(cfg Config) (*Node, error) {
	n, err := openNode(cfg)
	if err != nil {
		return nil, fmt.Errorf("open cluster %s: %w", cfg.Name, refusal(err))
	}
	return n, nil
}

func openNode(cfg Config) (_ *Node, err error) {
	n := &Node{
		recoveries: make(chan recovery), afresh: make(chan struct{}, 1), cfg: cfg, log: cfg.Log, born: time.Now(), machine: newMachine(), why: "not ready yet",
		formed: make(chan struct{}), current: make(chan struct{}), led: make(chan struct{}, 1), down: make(chan struct{}), changed: make(chan struct{}),
		heir: map[uint64]releasedTerm{}, notes: map[ID]heardNote{}, release: map[ID]*ReleaseConn{}, out: map[ID]ID{},
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
	n.list.Store(&list{peers: cfg.Peers, self: cfg.Peers[i], preempt: cfg.Preempt})
	n.digest.Store(cfg.Digest)
	n.fsm = newFSM(n.machine)
	n.logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: newRaftLog(cfg.Log), DisableTime: true})
	// The way to it is for everybody: another user may have to go it later.
	if err = os.MkdirAll(filepath.Dir(filepath.Clean(cfg.Dir)), 0o755); err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.Dir, "cluster")
	if n.archive, err = openArchive(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.closeStores()
		}
	}()
	if n.forced, err = openForced(n.archive, cfg.Log); err != nil {
		return nil, err
	}
	n.health = newHealth(dir, cfg.Log)
	if n.logs, err = openWAL(filepath.Join(dir, logDir), n.health, n.logger); err != nil {
		return nil, err
	}
	if n.snaps, err = openSnapshots(dir, n.logs, cfg.Log); err != nil {
		return nil, err
	}
	p := n.archive.papers
	if err := p.startable(); err != nil {
		return nil, err
	}
	if n.archive.past {
		// What was acknowledged just before counts from the old timeout.
		n.quiet = max(cfg.Heartbeat, p.Heartbeat)
	}
	if p.Heartbeat != cfg.Heartbeat {
		p.Heartbeat = cfg.Heartbeat
		if err := n.archive.save(p); err != nil {
			return nil, err
		}
	}
	if p.Formation.IsZero() || p.Brings {
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
	cfg, self := n.cfg, n.list.Load().self
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
			Formation: p.Formation, Generation: p.Generation, Priority: int32(self.Priority), Witness: self.Witness, StateVersion: uint32(state.Newest), Level: p.Level,
		},
	})
	if err != nil {
		return err
	}
	n.streams = n.wire
	n.later.Store(p.Overtaken)
	n.wire.later = n.overtaken
	n.gossip = NewGossip(n.wire, cfg.Key, listed, cfg.Log)
	n.former = newFormer(cfg.Self, listed, n.streams, p, n.archive.save, max(cfg.Heartbeat/2, 100*time.Millisecond), cfg.Log)
	n.former.brings = n.bring
	return nil
}

// single is the state that a single node has kept.
type single struct {
	dir   string
	what  string // is in it, for people
	bytes []byte
}

// singleState returns the state that a single node has kept in dir, if any.
func singleState(dir string, log *slog.Logger) (*single, error) {
	kept, err := filepath.Glob(filepath.Join(dir, "*"+logs))
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	s, err := OpenSolo(dir, log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }() // it was only read
	v := s.View()
	if v.Index == 0 {
		return nil, nil
	}
	snap := s.machine.Snapshot()
	defer snap.Release()
	var b bytes.Buffer
	b.Write(make([]byte, 8)) // no entry of raft's log is in it
	_, err = snap.WriteTo(&b)
	return &single{dir, inventory(v), b.Bytes()}, err
}

// inventory tells what somebody would lose with a state.
func inventory(v *state.View) string {
	servers, clients, entries := 0, 0, 0
	for _, s := range v.Services {
		servers += len(s.Servers)
		clients += s.Clients().Len()
	}
	for _, l := range v.ACL {
		entries += len(l.Entries)
	}
	for _, l := range v.Named {
		entries += len(l.Entries)
	}
	return fmt.Sprintf("%d services with %d servers, %d clients, %d acl entries, %d commands", len(v.Services), servers, clients, entries, v.Index)
}

func (n *Node) closeStores() {
	if n.logs != nil {
		_ = n.logs.Close()
	}
	n.archive.close()
}

// Run is the node's life: it forms or joins the cluster and takes part in it
// until ctx ends. It returns nil then; any error is news. It is called once.
//
// What Released and Transfer have begun is told to the others before it returns,
// so that they need not wait for silence.
func (n *Node) Run(stop context.Context) error {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(stop))
	defer cancel(nil)
	defer context.AfterFunc(stop, func() {
		n.farewell()
		n.gossip.Bye() // the port closes at once: that tells the others more than words
		cancel(context.Canceled)
	})()
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
	all.Go(func() { n.proposeForced(ctx) })
	fail(n.take)
	<-ctx.Done()
	close(n.down)
	all.Wait()
	n.dropRelease()
	n.closeOnce()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// farewell lets what is on its way get out, for a heartbeat timeout at most:
// later the others find the silence by themselves.
func (n *Node) farewell() {
	k := n.core.Load()
	if k == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.Heartbeat)
	defer cancel()
	for !n.moving.TryLock() { // a transfer that is under way
		select {
		case <-time.After(transferLook):
		case <-ctx.Done():
			return
		}
	}
	defer n.moving.Unlock()
	k.links.flush(ctx)
}

func (n *Node) closeOnce() {
	n.mu.Lock()
	closed := n.closed
	n.closed = true
	n.mu.Unlock()
	if k := n.core.Load(); k != nil && k.stuck.Load() {
		return // closing would wait for the same write
	}
	if !closed {
		n.closeStores()
	}
}

// Close gives up what Open has opened. Run must have returned, if it was called.
func (n *Node) Close() error {
	n.closeOnce()
	return n.wire.Close()
}

// recentEntries of the log are kept in memory: batches of visits have up to
// 100 KiB.
const recentEntries = 32

// take forms, then takes part.
func (n *Node) take(ctx context.Context) error {
	founds, err := n.former.run(ctx)
	if err != nil {
		return err
	}
	p := n.former.now()
	n.wire.SetFormation(p.Formation, p.Generation)
	if err = n.takeUp(); err == nil {
		err = n.reduce() // of a recovery that has not ended
	}
	var k *core
	if err == nil {
		k, err = n.enter(founds, n.quiet)
	}
	for err == nil {
		r := n.live(ctx, k)
		if r == nil {
			return nil
		}
		n.health.reopen()
		if r.done == nil {
			err = n.takeUp()
		} else if err = n.begin(*r); err == nil {
			err = n.reduce()
		}
		if err == nil {
			n.mu.Lock()
			clear(n.notes) // they are of the others of before
			n.mu.Unlock()
			k, err = n.enter(false, n.cfg.Heartbeat) // as after a start
		}
		if r.done != nil {
			r.done <- err
		}
	}
	return err
}

// enter begins a life of raft, silent for as long as that.
func (n *Node) enter(founds bool, quiet time.Duration) (*core, error) {
	// Raft looks at the last entries for each heartbeat to each follower.
	recent, err := raft.NewLogCache(recentEntries, n.logs)
	if err != nil {
		return nil, err
	}
	p, self := n.former.now(), n.list.Load().self
	c := coreConfig{
		id: p.Node.String(), self: n.cfg.Self, rank: rank{self.Witness, self.Priority}, hb: n.cfg.Heartbeat, quiet: quiet,
		streams: n.streams, fsm: n.fsm, logs: recent, stable: n.logs, snaps: n.snaps, log: n.log, where: n.where, health: n.health,
	}
	if founds {
		if c.found, err = n.founders(p); err != nil {
			return nil, err
		}
	}
	k, err := newCore(c)
	if err != nil {
		return nil, err
	}
	if founds {
		if err := n.former.keep(func(p *papers) { p.Found, p.Promise = false, nil }); err != nil {
			_ = k.trans.Close()
			return nil, errors.Join(err, k.raft.Shutdown().Error())
		}
	}
	n.mu.Lock()
	n.founded = n.founded || founds || p.Brings
	n.mu.Unlock()
	k.links.peers, k.links.note, k.links.heard, k.links.change = n.others, n.note, n.heard, n.serveChange
	k.links.query = n.serveQuery
	k.links.removed = n.expelled
	if n.core.Swap(k) == nil {
		close(n.formed)
	}
	n.tell()
	return k, nil
}

// live takes part until ctx ends, or until somebody asks for a recovery or a later
// generation is to be taken up: raft has ended then.
func (n *Node) live(ctx context.Context, k *core) *recovery {
	ctx, end := context.WithCancel(ctx)
	defer end()
	var all sync.WaitGroup
	var wanted *recovery
	all.Go(func() {
		select {
		case r := <-n.recoveries:
			wanted = &r
			end()
		case <-n.afresh:
			wanted = &recovery{}
			end()
		case <-ctx.Done():
		}
	})
	all.Go(func() { n.pilot(ctx, k) })
	all.Go(func() { n.catchUps(ctx, k) })
	all.Go(func() { n.notice(ctx, k) })
	all.Go(func() { n.hearReleases(ctx) })
	all.Go(func() { n.watchDisk(ctx, k) })
	k.run(ctx)
	all.Wait()
	return wanted
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

// View returns the state as this node knows it, with what was forced on it.
func (n *Node) View() *state.View { return n.forced.over(n.view()) }

// Snapshot returns the state as this node knows it. The caller releases it.
func (n *Node) Snapshot() *state.Snapshot {
	n.fsm.turn.Lock()
	defer n.fsm.turn.Unlock()
	return n.machine.Snapshot()
}

// Watch returns a channel that is closed when the view changes, see
// state.Machine. For what is forced there is WatchForced.
func (n *Node) Watch() <-chan struct{} { return n.machine.Watch() }

// Chown gives the directory and the files to another user, whom this process is
// about to become.
func (n *Node) Chown(uid, gid int) error {
	if err := errors.Join(os.Chown(n.cfg.Dir, uid, gid), n.archive.chown(uid, gid)); err != nil {
		return fmt.Errorf("give the log to user %d: %w", uid, err)
	}
	return nil
}

// Lease is this node's lease as it is now. Until moves on without notice.
func (n *Node) Lease() Lease {
	k := n.core.Load()
	if k == nil || n.later.Load() != 0 {
		return Lease{}
	}
	l := k.elector.lease()
	n.mu.Lock()
	defer n.mu.Unlock()
	l.Current = l.Term != 0 && n.lead.Term == l.Term && n.lead.Applied > 0
	return l
}

// SetDigest says what Config.Digest is from now on: the file was read again.
func (n *Node) SetDigest(digest uint64) { n.digest.Store(digest) }

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
