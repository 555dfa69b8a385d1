package proxy

import (
	"cmp"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pen/state"
)

// How much the overlay holds, and how exactly it records when clients came.
const (
	overlayMax = 256 << 10 // clients
	coarse     = 1000      // milliseconds: uses closer together are one
)

// memory knows which client has which server. It is what this node decided
// moments ago, the overlay, over the replicated table. The data plane reads and
// writes it without waiting for anybody; a batcher carries the overlay into the
// table, see (*memory).run. An entry leaves the overlay when the table has it.
//
// The overlay is bounded. A client that finds it full is served, but not
// recorded, and counted.
//
// Methods of the data plane take bare addresses and the present time, and are
// safe from all loops at once.
type memory struct {
	service  string
	id       uint32
	log      *slog.Logger
	propose  propose
	limit    int // overlayMax, less in tests
	clock    *state.Clock
	table    atomic.Pointer[state.Table]
	tracking atomic.Int64 // seconds after which a client is forgotten; <= 0: never
	tallies  tallies
	wake     chan struct{}

	flushing sync.Mutex // held while a batch is under way; guards what follows
	failing  bool       // the last proposal failed, and the log says so
	spilled  uint64     // overflow that the log knows of
	full     pace       // of warnings about it

	overflow atomic.Uint64 // visits that were not recorded
	failures atomic.Uint64 // proposals that failed, each of which is tried again
	refused  atomic.Uint64 // clients that the state would not record

	mu    sync.Mutex           // guards the rest; held for moments
	index map[netip.Addr]int32 // numbers of nodes
	nodes []*[nodeChunk]node   // in pieces, so that growing copies none
	made  int32                // nodes that were ever in use
	spare []int32              // those that are not any more
	head  int32                // list of all in use, by last use; the oldest
	tail  int32                // the latest
	uses  uint64
}

const nodeChunk = 512

// node is a client in the overlay.
type node struct {
	client  netip.Addr
	used    state.Time // last use
	serial  uint64     // of all uses, for the order within a moment
	born    uint64     // serial of the use by which a fresh client came
	since   state.Time // when it was first changed after the table had it
	server  int        // what the client remembers, as far as we know
	tally   tally      // what has no slot to be counted in yet
	next    int32      // towards the tail; -1: none
	prev    int32
	inUse   bool
	keep    bool // the table knows the server already
	fresh   bool // the table does not have the client
	flying  bool // in the batch that is being proposed
	changed bool // not as in that batch
}

func newMemory(log *slog.Logger, propose propose, sv *state.Service) *memory {
	m := &memory{
		service: sv.Name, id: sv.ID, log: log, propose: propose, limit: overlayMax,
		wake: make(chan struct{}, 1), index: map[netip.Addr]int32{}, head: -1, tail: -1,
	}
	m.configure(sv)
	return m
}

// configure takes over the table and the tracking time of sv.
func (m *memory) configure(sv *state.Service) {
	m.table.Store(sv.Clients())
	m.tracking.Store(int64(sv.Tracking))
}

// expired tells whether a client last seen at used is forgotten by now.
func expired(used, now state.Time, tracking int) bool {
	return tracking > 0 && now-used > state.Time(tracking)*1000
}

// recent tells whether a use at used is so near to now that another one then
// changes nothing. A use in the future is not: the clock was set back since, and
// who comes must be noted as ever. The clocks of the loops may differ by a moment.
func recent(used, now state.Time) bool { return used-coarse < now && now < used+coarse }

// visit notes that the client has come and counts the connection. It returns
// the server that the client remembers, or state.None, and its slot in the
// table, or -1.
func (m *memory) visit(client netip.Addr, now state.Time) (server, slot int) {
	one := tally{connects: 1}
	m.mu.Lock()
	if i, ok := m.index[client]; ok {
		defer m.mu.Unlock()
		return m.again(i, now, one), -1
	}
	m.mu.Unlock()

	e, ok := m.lookup(client, now)
	server, slot = state.None, -1
	if ok {
		server, slot = e.Server, e.Slot
		m.tallies.add(slot, fingerprint(client), one, false)
		one = tally{}
		if recent(e.Used, now) {
			return server, slot
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, there := m.index[client]; there { // another loop was quicker
		return m.again(i, now, one), slot
	}
	m.add(node{client: client, used: now, server: server, tally: one, keep: ok, fresh: !ok}, now)
	return server, slot
}

// put records that the client has the server from now on.
func (m *memory) put(client netip.Addr, server int, now state.Time) {
	m.mu.Lock()
	if i, ok := m.index[client]; ok {
		m.set(i, server, now)
		m.mu.Unlock()
		return
	}
	m.mu.Unlock()

	e, ok := m.lookup(client, now)
	if ok && e.Server == server && recent(e.Used, now) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, there := m.index[client]; there {
		m.set(i, server, now)
		return
	}
	m.add(node{client: client, used: now, server: server, fresh: !ok}, now)
}

// remembered returns the server that the client remembers, or state.None.
func (m *memory) remembered(client netip.Addr, now state.Time) int {
	m.mu.Lock()
	if i, ok := m.index[client]; ok {
		defer m.mu.Unlock()
		if n := m.node(i); !expired(n.used, now, int(m.tracking.Load())) {
			return n.server
		}
		return state.None
	}
	m.mu.Unlock()
	if e, ok := m.lookup(client, now); ok {
		return e.Server
	}
	return state.None
}

// credit adds to the client's counters. The slot is where they probably are; -1
// is no hint. A client that neither the table nor the overlay has is not counted.
func (m *memory) credit(client netip.Addr, slot int, d tally) {
	owner := fingerprint(client)
	if m.tallies.addIf(slot, owner, d) {
		return
	}
	m.mu.Lock()
	if i, ok := m.index[client]; ok && m.node(i).fresh {
		m.node(i).tally.add(d)
		m.mu.Unlock()
		return
	}
	m.mu.Unlock()
	if e, ok := m.table.Load().Lookup(client); ok {
		m.tallies.add(e.Slot, owner, d, false)
	}
}

// slot returns the client's slot in the table, or -1.
func (m *memory) slot(client netip.Addr) int {
	if e, ok := m.table.Load().Lookup(bare(client)); ok {
		return e.Slot
	}
	return -1
}

// figures returns how many clients the table does not show as they are, and how
// long the first of them has waited.
func (m *memory) figures(now state.Time) (size int, age time.Duration) {
	oldest := now
	m.each(func(n *node) {
		size++
		oldest = min(oldest, n.since)
	})
	return size, time.Duration(now-oldest) * time.Millisecond
}

// copy returns the overlay, and its clients by last use.
func (m *memory) copy() (map[netip.Addr]node, []netip.Addr) {
	all := map[netip.Addr]node{}
	m.each(func(n *node) { all[n.client] = *n })
	order := slices.Collect(maps.Keys(all))
	slices.SortFunc(order, func(a, b netip.Addr) int {
		return cmp.Or(cmp.Compare(all[a].used, all[b].used), cmp.Compare(all[a].serial, all[b].serial))
	})
	return all, order
}

// each calls f for every client in the overlay. Between the pieces it lets the
// data plane go on, so it may miss who moves meanwhile, and see him twice.
func (m *memory) each(f func(*node)) {
	for i, more := int32(0), true; more; {
		m.mu.Lock()
		for end := min(i+nodeChunk, m.made); i < end; i++ {
			if n := m.node(i); n.inUse {
				f(n)
			}
		}
		more = i < m.made
		m.mu.Unlock()
	}
}

// lookup asks the table. The tracking time counts from the present: the table's
// own time stands still while nobody comes.
func (m *memory) lookup(client netip.Addr, now state.Time) (state.Entry, bool) {
	e, ok := m.table.Load().Lookup(client)
	return e, ok && !expired(e.Used, now, int(m.tracking.Load()))
}

// node returns a node by its number. The caller holds mu, as for all below.
func (m *memory) node(i int32) *node { return &m.nodes[i/nodeChunk][i%nodeChunk] }

// again notes another use of node i.
func (m *memory) again(i int32, now state.Time, d tally) (server int) {
	n := m.node(i)
	if expired(n.used, now, int(m.tracking.Load())) {
		n.server, n.keep, n.fresh, n.tally = state.None, false, true, tally{connects: 1}
		m.touch(i, now)
		n.born = n.serial
		return n.server
	}
	n.tally.add(d)
	if !n.flying || !recent(n.used, now) {
		m.touch(i, now)
	}
	return n.server
}

// set gives node i a server.
func (m *memory) set(i int32, server int, now state.Time) {
	n := m.node(i)
	if n.server == server && n.flying && recent(n.used, now) {
		return
	}
	n.keep = n.keep && n.server == server
	n.server = server
	m.touch(i, now)
}

// touch makes node i the latest.
func (m *memory) touch(i int32, now state.Time) {
	n := m.node(i)
	m.uses++
	if now > n.used || !recent(n.used, now) {
		n.used = now
	}
	n.serial = m.uses
	n.changed = true
	if m.tail != i {
		m.unlink(i)
		m.link(i)
	}
	m.rouse()
}

// add makes a node, unless the overlay is full.
func (m *memory) add(n node, now state.Time) {
	if len(m.index) >= m.limit {
		m.overflow.Add(1)
		return
	}
	m.uses++
	n.since, n.serial, n.born, n.changed, n.inUse = now, m.uses, m.uses, true, true
	i := m.made
	if k := len(m.spare); k > 0 {
		i, m.spare = m.spare[k-1], m.spare[:k-1]
	} else {
		if i%nodeChunk == 0 {
			m.nodes = append(m.nodes, new([nodeChunk]node))
		}
		m.made++
	}
	*m.node(i) = n
	m.index[n.client] = i
	m.link(i)
	m.rouse()
}

// remove frees node i, and all memory after a crowd has gone.
func (m *memory) remove(i int32) {
	m.unlink(i)
	delete(m.index, m.node(i).client)
	*m.node(i) = node{}
	m.spare = append(m.spare, i)
	if len(m.index) == 0 && m.made > 4*batchMax {
		m.nodes, m.made, m.spare, m.index = nil, 0, nil, map[netip.Addr]int32{}
	}
}

// link makes node i the tail of the list.
func (m *memory) link(i int32) {
	n := m.node(i)
	n.prev, n.next = m.tail, -1
	if m.tail >= 0 {
		m.node(m.tail).next = i
	} else {
		m.head = i
	}
	m.tail = i
}

func (m *memory) unlink(i int32) {
	n := m.node(i)
	if n.prev >= 0 {
		m.node(n.prev).next = n.next
	} else {
		m.head = n.next
	}
	if n.next >= 0 {
		m.node(n.next).prev = n.prev
	} else {
		m.tail = n.prev
	}
}

// rouse wakes the batcher.
func (m *memory) rouse() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
