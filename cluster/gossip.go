package cluster

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Times of gossip. It informs; what moves the address is quicker and elsewhere.
const (
	probeEvery  = 500 * time.Millisecond
	gossipEvery = 200 * time.Millisecond
	syncEvery   = 10 * time.Second
	rejoinEvery = 2 * time.Second
	metaEvery   = 500 * time.Millisecond
	streamTime  = time.Second
	leaveTime   = 300 * time.Millisecond
	membersMax  = 64             // beside this node
	deadKept    = 24 * time.Hour // a member that is not listed
)

// bye begins the message of a process that is about to stop; its boot id follows.
const bye = "bye 1 "

// MemberState is what gossip knows of a node. It is some seconds late.
type MemberState uint8

// The states.
const (
	Unseen MemberState = iota // listed, and never heard of
	Alive
	Dead // it does not answer
	Left // it said good-bye
)

func (s MemberState) String() string { return [...]string{"unseen", "alive", "dead", "left"}[s] }

// MarshalText makes documents show what String shows.
func (s MemberState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Member is a node as gossip knows it.
type Member struct {
	ID       ID // zero: never seen
	Boot     ID
	Name     string
	Addr     netip.AddrPort
	Listed   bool // it is among the peers of the configuration
	Self     bool
	State    MemberState
	Since    time.Time // of the state; zero: never seen
	Priority int32
	Witness  bool
	// Heartbeat is its heartbeat timeout.
	Heartbeat    time.Duration
	StateVersion uint32
	Formation    ID
	Generation   uint64
	Meta         Meta // as it was last heard

	bye bool // this process has said it
}

// Gossip finds the other nodes and tells them about this one, for as long as it
// runs: every listed peer that is not alive is called every two seconds, for
// ever. Nothing may depend on it but what people read: it never moves the
// address.
type Gossip struct {
	wire *Wire
	log  *slog.Logger
	name string // of the cluster
	key  []byte

	has  func(ctx context.Context, id ID, at netip.AddrPort) bool // that node is there
	poke chan struct{}                                            // there is something to announce or to log

	mu      sync.Mutex       // guards what follows
	peers   []netip.AddrPort // replaced, never changed
	since   time.Time
	meta    Meta
	members map[ID]Member // the others
	list    *memberlist.Memberlist
	changed chan struct{}
	events  []event // to be logged
}

// NewGossip prepares gossip over a Wire, whose key and name it has. The peers may
// contain this node. Only one can run on a Wire.
func NewGossip(w *Wire, key Key, peers []netip.AddrPort, log *slog.Logger) *Gossip {
	h := w.Hello()
	g := &Gossip{
		wire: w, log: log, has: w.has, name: h.Cluster, key: key.gossip(h.Cluster),
		poke: make(chan struct{}, 1), members: map[ID]Member{}, changed: make(chan struct{}), peers: unmap(peers),
	}
	return g
}

// event is what announce logs, as callbacks of memberlist must not.
type event struct {
	Member
	rival netip.AddrPort // valid: another process has its id
}

// SetMeta says what the others should see of this node. They see it within a
// second or so; what comes quicker is coalesced. It never blocks.
func (g *Gossip) SetMeta(m Meta) {
	m = m.fit()
	g.mu.Lock()
	g.meta = m
	g.mu.Unlock()
	g.wake()
}

func (g *Gossip) wake() {
	select {
	case g.poke <- struct{}{}:
	default:
	}
}

// Changed returns a channel that is closed at the next change of a member.
func (g *Gossip) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// Members lists this node, every listed peer, in the order of the list, and
// whoever else was heard of lately.
func (g *Gossip) Members() []Member {
	peers := g.listed()
	g.mu.Lock()
	self := g.self()
	all := []Member{self}
	for _, m := range g.members {
		all = append(all, m)
	}
	g.mu.Unlock()
	for i, m := range all {
		all[i].Listed = slices.Contains(peers, m.Addr)
	}
	for _, p := range peers {
		if !slices.ContainsFunc(all, func(m Member) bool { return m.Addr == p }) {
			all = append(all, Member{Addr: p, Listed: true})
		}
	}
	place := func(m Member) int {
		if i := slices.Index(peers, m.Addr); i >= 0 {
			return i
		}
		return len(peers)
	}
	slices.SortFunc(all, func(a, b Member) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return all
}

// self is this node as the others see it. The lock is held.
func (g *Gossip) self() Member {
	m := memberOf(g.wire.Hello(), g.meta)
	m.State, m.Self, m.Since = Alive, true, g.since
	return m
}

func memberOf(h Hello, meta Meta) Member {
	return Member{
		ID: h.Node, Boot: h.Boot, Name: h.Name, Addr: h.Addr, Priority: h.Priority, Witness: h.Witness,
		Heartbeat: h.Heartbeat, StateVersion: h.StateVersion, Formation: h.Formation, Generation: h.Generation, Meta: meta,
	}
}

// Run gossips until ctx ends; then it says good-bye and returns nil. The Wire
// must run as long.
func (g *Gossip) Run(ctx context.Context) error {
	g.mu.Lock()
	g.since = time.Now()
	g.mu.Unlock()
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // saying good-bye comes after ctx
	defer end()
	transport, err := newGossipTransport(life, g.wire, g.name, g.key)
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	list, err := memberlist.Create(g.config(transport))
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	g.mu.Lock()
	g.list = list
	g.mu.Unlock()
	_ = g.wire.udp.SetReadDeadline(time.Time{}) // of who ran before
	var running sync.WaitGroup
	running.Go(transport.readPackets)
	running.Go(transport.takeStreams)
	running.Go(func() { g.rejoin(ctx, list) })
	running.Go(func() { g.announce(ctx, list) })
	<-ctx.Done()
	if !g.wire.over() {
		g.leave(list)
	}
	err = list.Shutdown()
	end()
	_ = g.wire.udp.SetReadDeadline(time.Now()) // wakes the reader
	running.Wait()
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	return nil
}

func (g *Gossip) config(t *gossipTransport) *memberlist.Config {
	h := g.wire.Hello()
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.SecretKey, c.Transport = h.Node.String(), g.name, g.key, t
	c.BindAddr, c.BindPort = h.Addr.Addr().String(), int(h.Addr.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.ProtocolVersion = 5 // pinned: all nodes of a cluster send the same
	c.TCPTimeout = streamTime
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult, c.SuspicionMaxTimeoutMult = probeEvery, probeEvery/2, 3, 2
	c.PushPullInterval, c.GossipInterval = syncEvery, gossipEvery
	c.DeadNodeReclaimTime = time.Millisecond // a node may come back at another address
	c.EnableCompression = false
	c.DNSConfigPath = os.DevNull // addresses are numbers
	c.Delegate, c.Events, c.Alive, c.Conflict = gossipDelegate{g}, gossipDelegate{g}, gossipDelegate{g}, gossipDelegate{g}
	c.Logger = log.New(&gossipLog{log: g.log, over: g.wire.over}, "", 0)
	return c
}

// rejoin calls every listed peer that is not alive, for ever: memberlist forgets
// the dead, and two halves of a healed network would never meet again.
func (g *Gossip) rejoin(ctx context.Context, list *memberlist.Memberlist) {
	tick := time.NewTicker(rejoinEvery)
	defer tick.Stop()
	for {
		var calls sync.WaitGroup
		for _, p := range g.absent() {
			calls.Go(func() { _, _ = list.Join([]string{p.String()}) }) // who is missing is known
		}
		calls.Wait()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// absent are the listed peers that are not alive.
func (g *Gossip) absent() []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	self := g.wire.Hello().Addr
	var out []netip.AddrPort
	for _, p := range g.peers {
		if p != self && !g.aliveAt(p) {
			out = append(out, p)
		}
	}
	return out
}

func (g *Gossip) aliveAt(p netip.AddrPort) bool {
	for _, m := range g.members {
		if m.Addr == p && m.State == Alive {
			return true
		}
	}
	return false
}

// announce tells the others what is new here, and logs what is new of them.
func (g *Gossip) announce(ctx context.Context, list *memberlist.Memberlist) {
	defer g.report(context.WithoutCancel(ctx))
	// Not everything that is told comes by SetMeta.
	tick := time.NewTicker(rejoinEvery)
	defer tick.Stop()
	told := g.told()
	for {
		select {
		case <-g.poke:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		g.report(ctx)
		if now := g.told(); !bytes.Equal(now, told) {
			told = now
			_ = list.UpdateNode(metaEvery) // if nobody gets it now, it goes out with the next sync
		}
		select {
		case <-time.After(metaEvery):
		case <-ctx.Done():
			return
		}
	}
}

// report logs what happened to members.
func (g *Gossip) report(ctx context.Context) {
	g.mu.Lock()
	events := g.events
	g.events = nil
	g.mu.Unlock()
	for _, e := range events {
		if e.rival.IsValid() {
			if !g.has(ctx, e.ID, e.Addr) || !g.has(ctx, e.ID, e.rival) {
				continue // it has moved, and gossip is late
			}
			detail := fmt.Sprintf("%s lives at %s and claims to at %s, too", e.ID, e.Addr, e.rival)
			g.wire.refusals.add(e.rival.Addr(), &RefusedError{Reason: DuplicateNode, Detail: detail, Hello: Hello{Node: e.ID, Name: e.Name}}, false)
			continue
		}
		g.log.Info("member "+e.State.String(), "member", e.Name, "id", e.ID, "addr", e.Addr, "version", e.Meta.Version)
	}
}

// leave lets the others know that this is not a failure. memberlist does not
// tell them which it was, so they hear it from us, before or after.
func (g *Gossip) leave(list *memberlist.Memberlist) {
	g.sayBye(list)
	_ = list.Leave(leaveTime)
	g.sayBye(list)
}

// Bye tells the others that this process is about to stop, in packets that may
// get lost. Run does so, too, but the port may be closed by then.
func (g *Gossip) Bye() {
	g.mu.Lock()
	list := g.list
	g.mu.Unlock()
	if list != nil {
		g.sayBye(list)
	}
}

func (g *Gossip) sayBye(list *memberlist.Memberlist) {
	boot := g.wire.Hello().Boot
	for _, n := range list.Members() {
		_ = list.SendBestEffort(n, append([]byte(bye), boot[:]...)) // without it, they see it die
	}
}

// left notes that a process said good-bye.
func (g *Gossip) left(boot ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, m := range g.members {
		if m.Boot != boot {
			continue
		}
		m.bye = true
		g.members[id] = m
		if m.State == Dead {
			m.State = Left
			g.changeTo(m)
		}
	}
}

// told is what this node tells about itself.
func (g *Gossip) told() []byte {
	h := g.wire.Hello()
	g.mu.Lock()
	defer g.mu.Unlock()
	return metadata{hello: h, meta: g.meta}.encode()
}

// heard takes in what memberlist says about another node.
func (g *Gossip) heard(n *memberlist.Node, state MemberState) {
	m, err := memberFrom(n)
	if err != nil || m.ID == g.wire.Hello().Node {
		return // it was let in, so it has no error
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.members[m.ID]
	m.bye = old.bye && old.Boot == m.Boot && state == Dead
	if m.bye {
		state = Left
	}
	m.State = state
	g.changeTo(m)
}

// changeTo is how a member is from now on.
func (g *Gossip) changeTo(m Member) {
	now := time.Now()
	old, known := g.members[m.ID]
	m.Since = now
	if known && old.State == m.State {
		m.Since = old.Since
	}
	g.members[m.ID] = m
	g.replace(now)
	if !known || old.State != m.State {
		g.happened(event{Member: m})
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// replace forgets nodes that are gone for good. A wiped machine comes back with
// another id at the same address.
func (g *Gossip) replace(now time.Time) {
	self := g.wire.Hello().Addr
	for id, o := range g.members {
		switch {
		case o.State == Alive:
		case o.Addr == self, g.aliveAt(o.Addr), !slices.Contains(g.peers, o.Addr) && now.Sub(o.Since) > deadKept:
			delete(g.members, id)
		}
	}
}

func (g *Gossip) happened(e event) {
	if len(g.events) < membersMax {
		g.events = append(g.events, e)
	}
	g.wake()
}

// admits tells why a node can not be a member, nil if it can.
func (g *Gossip) admits(n *memberlist.Node) error {
	m, err := memberFrom(n)
	if err != nil {
		return err
	}
	h := g.wire.Hello()
	if m.ID == h.Node {
		return nil // memberlist sorts out what others remember of us
	}
	if refused := h.fits(Hello{
		Min: h.Min, Max: h.Max, Cluster: h.Cluster, Formation: m.Formation, Generation: m.Generation, Node: m.ID, Boot: m.Boot, StateVersion: m.StateVersion,
	}); refused != nil {
		return refused
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.members[m.ID]; !known && len(g.members) >= membersMax {
		return fmt.Errorf("%d members are enough", membersMax)
	}
	return nil
}

// gossipDelegate is what memberlist calls. It holds locks of its own then, so
// nothing here waits, logs or calls it.
type gossipDelegate struct{ g *Gossip }

func (d gossipDelegate) NodeMeta(int) []byte                  { return d.g.told() }
func (d gossipDelegate) GetBroadcasts(int, int) [][]byte      { return nil }
func (d gossipDelegate) LocalState(bool) []byte               { return nil }
func (d gossipDelegate) MergeRemoteState([]byte, bool)        {}
func (d gossipDelegate) NotifyAlive(n *memberlist.Node) error { return d.g.admits(n) }
func (d gossipDelegate) NotifyJoin(n *memberlist.Node)        { d.g.heard(n, Alive) }
func (d gossipDelegate) NotifyUpdate(n *memberlist.Node)      { d.g.heard(n, Alive) }
func (d gossipDelegate) NotifyLeave(n *memberlist.Node)       { d.g.heard(n, Dead) }

func (d gossipDelegate) NotifyConflict(existing, other *memberlist.Node) {
	m, err := memberFrom(existing)
	if err != nil {
		return
	}
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.g.happened(event{Member: m, rival: nodeAddr(other)})
}

func (d gossipDelegate) NotifyMsg(b []byte) {
	if boot, ok := bytes.CutPrefix(b, []byte(bye)); ok && len(boot) == len(ID{}) {
		d.g.left(ID(boot))
	}
}
