package proxy

import (
	"net/netip"
	"time"

	"pen/state"
)

// A flow is the conversation of a client's port with a server by datagrams. It
// goes through the same trial as a connection, with these differences: its connect
// succeeds at once and proves nothing, the first reply does; and it may be placed
// again while it lasts.

// flowIdle is how long a flow lasts without traffic where idle_timeout says nothing:
// nobody ever says that it is over.
const flowIdle = 60 * time.Second

// idleOf returns how long a connection may be idle; 0: for ever.
func idleOf(set *state.Settings) time.Duration {
	if set.Protocol == state.UDP && set.Idle <= 0 {
		return flowIdle
	}
	return time.Duration(max(set.Idle, 0)) * time.Second
}

// resume is begin for a flow that has to be placed again: the client has not
// come anew.
func (s *service) resume(client netip.Addr, port uint16, now state.Time) trial {
	client = bare(client)
	return s.opening(client, port, s.memory.remembered(client, now), s.memory.slot(client), now)
}

// settled notes that a flow has its server. Its place stays taken until release.
func (s *service) settled() { s.pending.Add(-1) }

// keeps tells whether a flow may stay with v: v is still a server, and not shunned.
func (s *service) keeps(v *server, now state.Time) bool {
	p := s.plan.Load()
	seat := p.seat(v.index)
	return seat != nil && seat.server == v && seat.usable && !v.shunned(now, p.Blacklist)
}

// broke notes that v turned out to be away while a flow had it: as if a connect
// had failed. The flow still has its place.
func (s *service) broke(v *server, reason error, now state.Time) {
	v.failures.Add(1)
	s.shun(v, reason, now)
}
