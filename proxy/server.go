package proxy

import (
	"net/netip"
	"sync/atomic"

	"pen/state"
)

// identity tells servers of a service apart: a slot, and the address in it.
type identity struct {
	index int            // in the list, or state.Emergency, state.Abuse
	addr  netip.AddrPort // invalid for a Unix socket
	path  string         // of a Unix socket
}

func identityOf(index int, s *state.Server) identity {
	if s.Path() {
		return identity{index: index, path: s.Host}
	}
	return identity{index: index, addr: netip.AddrPortFrom(s.IP, s.Port)}
}

// server is the running side of one slot of a service's list, for as long as
// the slot holds the same address. Connections point to it, so it outlives
// changes of the settings and even the slot itself.
type server struct {
	identity

	places             atomic.Int64 // connections and attempts: what limits are about
	sent, received     atomic.Uint64
	attempts, failures atomic.Uint64
	mark               atomic.Int64 // state.Time of the last failure not followed by a success; 0: none
	given              atomic.Int64 // the mark that other hands gave it last: an operator, another node, a life before this one

	opaque atomic.Bool // that it does not see its clients' addresses was said

	news news
}

func newServer(id identity, s *state.Server) *server {
	v := &server{identity: id}
	v.news.seen, v.news.was, v.news.port = s.Mark, s.Address, s.Port
	v.adopt(s.Mark)
	return v
}

// key stands for the address when hashing, alike on all nodes.
func (v identity) key() uint64 {
	if v.path != "" {
		return hashText(v.path)
	}
	return mix(hashAddr(v.addr.Addr()) ^ uint64(v.addr.Port()))
}

// take takes a place if fewer than limit are taken. A burst of callers never
// gets more places than there are.
func (v *server) take(limit int64) bool {
	for {
		n := v.places.Load()
		if n >= limit {
			return false
		}
		if v.places.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// give gives a place back.
func (v *server) give() { v.places.Add(-1) }

// adopt takes over a mark that other hands have set.
func (v *server) adopt(mark state.Time) {
	v.given.Store(int64(mark))
	v.mark.Store(int64(mark))
}

// stale tells whether v has a mark that we set ourselves in what is now the
// future: the clock was set back since, and the mark says nothing any more. The
// clocks of the loops may differ by a moment. What other hands have set may lie in
// the future, because somebody wanted it so.
func (v *server) stale(mark, now state.Time) bool {
	return mark > now+coarse && int64(mark) != v.given.Load()
}

// shunned tells whether v failed so recently that it is left alone. A mark in
// the future shuns until then and for the whole time after it, unless the clock
// was set back.
func (v *server) shunned(now state.Time, seconds int) bool {
	mark := state.Time(v.mark.Load())
	return mark != 0 && seconds > 0 && now-mark < state.Time(seconds)*1000 && !v.stale(mark, now)
}

// fail marks v as failed now, unless it is marked until later.
func (v *server) fail(now state.Time) {
	for {
		mark := state.Time(v.mark.Load())
		if mark >= now && !v.stale(mark, now) || v.mark.CompareAndSwap(int64(mark), int64(now)) {
			return
		}
	}
}

func (v *server) stats() ServerStats {
	return ServerStats{
		Conns:    int(v.places.Load()),
		Sent:     v.sent.Load(),
		Received: v.received.Load(),
		Attempts: v.attempts.Load(),
		Failures: v.failures.Load(),
		Mark:     state.Time(v.mark.Load()),
	}
}

// String is how logs name the server.
func (v identity) String() string {
	if v.path != "" {
		return v.path
	}
	return v.addr.String()
}
