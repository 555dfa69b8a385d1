package proxy

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"pen/state"
)

// ServerStats are the figures of one server on this node.
type ServerStats struct {
	Conns    int    // places taken: connections and attempts
	Sent     uint64 // bytes read from clients for it
	Received uint64 // bytes read from it
	Attempts uint64 // connects begun
	Failures uint64 // connects that failed
	Mark     state.Time
}

// ClientStats are the figures of one known client on this node.
type ClientStats struct {
	Slot     int // in the client table; -1: it has none yet
	Client   netip.Addr
	Server   int // remembered: an index, or state.None and its like
	Used     state.Time
	Connects uint64
	Sent     uint64 // bytes written to the client
	Received uint64 // bytes read from it
}

// The bits of ConnStats.State, as `connection N` prints them.
const (
	StateConnecting   = 1
	StateConnected    = 2
	StateServerClosed = 4
	StateClientClosed = 8
)

// ConnStats are the figures of one connection.
type ConnStats struct {
	Slot        int
	State       int // bits; 0: the slot is free
	DownFD      int // to the client; -1: none
	UpFD        int // to the server; -1: none
	PendingDown int // bytes read from the server that the client has not taken
	PendingUp   int // bytes read from the client that the server has not taken
	Client      int // slot in the client table; -1: none
	Server      int // index of the server

	Idler bool // kept open for no client

	client netip.Addr
}

// ServiceStats are the figures of one service on this node.
type ServiceStats struct {
	Current int // index of the server tried last
	Used    int // connection slots in use
	Last    int // the connection slot used last
	Max     int // connection slots there are

	Accepted   uint64
	Refused    map[string]uint64 // clients turned away, by reason
	Handshakes int               // of TLS, under way
	Idlers     int               // connections that are kept open for no client
	Reset      uint64            // clients reset because this node stands by
	Failovers  uint64            // connections that moved on to another server
	Opaque     uint64            // connects that left from another address than the client's, against transparent

	// Recent is the number of decisions that this node has taken and the
	// replicated table does not yet show, RecentAge the age of the oldest.
	Recent    int
	RecentAge time.Duration

	Unrecorded uint64 // visits of clients who were served but will not be remembered
	Retried    uint64 // proposals that failed and were made again

	Pipes   int    // in use for splicing, by all services
	Buffers int    // held for peers that do not read, by all services
	Files   int    // descriptors in use, by all services
	Evicted uint64 // flows that ended for others because there was no place
	Spilled uint64 // datagrams that could not be sent on, and were dropped

	AcceptPauses uint64 // times that accepting had to wait for descriptors or memory
}

// Servers returns the figures of a service's servers, in the order of the list.
func (p *Proxy) Servers(service string) []ServerStats {
	f := p.front(service)
	if f == nil {
		return nil
	}
	p.engine.credit(f)
	return f.serverStats()
}

// Special returns the figures of a service's emergency and abuse server.
func (p *Proxy) Special(service string) (emergency, abuse ServerStats) {
	f := p.front(service)
	if f == nil {
		return emergency, abuse
	}
	p.engine.credit(f)
	return f.specialStats()
}

// Clients returns the known clients of a service: those of the client table in
// the order of their slots, then those that will get one in a moment. They are
// read as the caller goes on, so that a million of them never stand in memory.
// He may take his time: nobody waits for him, and what changes meanwhile he sees as
// it is before or after. Each loop over the result begins anew.
func (p *Proxy) Clients(service string) iter.Seq[ClientStats] {
	return func(yield func(ClientStats) bool) {
		f := p.front(service)
		if f == nil {
			return
		}
		p.engine.credit(f)
		f.clientStats(p.opts.Clock.At(time.Now()))(yield)
	}
}

// Connections returns the connections of a service in the order of their slots.
func (p *Proxy) Connections(service string) []ConnStats {
	f := p.front(service)
	if f == nil {
		return nil
	}
	conns := p.engine.connections(f)
	for i := range conns {
		conns[i].known(f.memory)
	}
	slices.SortFunc(conns, func(a, b ConnStats) int { return a.Slot - b.Slot })
	return conns
}

// known finds the client in the table.
func (c *ConnStats) known(m *memory) {
	if !c.Idler {
		c.Client = m.slot(c.client)
	}
}

// Connection returns the connection in a slot; that of a free slot is zero but
// for its descriptors, which are -1, as in the original. False: there is no such
// slot.
func (p *Proxy) Connection(service string, slot int) (ConnStats, bool) {
	f := p.front(service)
	if f == nil {
		return ConnStats{}, false
	}
	if slots, _, _ := f.slots.figures(); slot < 0 || slot >= slots {
		return ConnStats{}, false
	}
	if c, ok := p.engine.connection(f, slot); ok {
		c.known(f.memory)
		return c, true
	}
	return ConnStats{Slot: slot, DownFD: -1, UpFD: -1}, true
}

// CloseConnection closes the connection in a slot at once. False: there is none.
func (p *Proxy) CloseConnection(service string, slot int) bool {
	f := p.front(service)
	return f != nil && p.engine.closeConnection(f, slot)
}

// Stats returns the figures of a service itself.
func (p *Proxy) Stats(service string) ServiceStats {
	f := p.front(service)
	if f == nil {
		return ServiceStats{}
	}
	s := ServiceStats{
		Current:      int(f.current.Load()),
		Accepted:     f.accepted.Load(),
		Refused:      f.refusalCounts(),
		Idlers:       int(f.idlers.open.Load()),
		Reset:        f.cut.Load(),
		Failovers:    f.failovers.Load(),
		Opaque:       f.opaque.Load(),
		AcceptPauses: f.pauses.Load(),
		Evicted:      f.evicted.Load(),
		Spilled:      f.spilled.Load(),
		Files:        p.engine.files(),
	}
	s.Refused["descriptors"] = f.lost.Load()
	if full, flooded := f.full.Load(), f.flooded.Load(); full+flooded > 0 || f.settings.Load().Protocol == state.UDP {
		s.Refused["full"], s.Refused["flood"] = full, flooded
	}
	if f.secure.Load() != nil {
		for r := range spurnedHeader {
			s.Refused[r.String()] = f.spurned[r].Load()
		}
		s.Handshakes = f.shaking.underWay()
	}
	for r := spurnedHeader; r < spurnedReasons && f.settings.Load().ProxyIn != state.Numbered(state.NoList); r++ {
		s.Refused[r.String()] = f.spurned[r].Load()
	}
	for r := faultNone + 1; r < faults; r++ {
		if n := f.faults[r].Load(); n > 0 || headsOf(f.settings.Load()) != nil {
			s.Refused[r.String()] = n
		}
	}
	s.Max, s.Used, s.Last = f.slots.figures()
	s.Recent, s.RecentAge = f.memory.figures(p.opts.Clock.At(time.Now()))
	s.Unrecorded, s.Retried = f.troubles()
	s.Pipes, s.Buffers = p.engine.held()
	return s
}
