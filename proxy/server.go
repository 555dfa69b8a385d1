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

	news news
}

func newServer(id identity, s *state.Server) *server {
	v := &server{identity: id}
	v.news.seen, v.news.was, v.news.port = s.Mark, s.Address, s.Port
	v.mark.Store(int64(s.Mark))
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

// shunned tells whether v failed so recently that it is left alone. A mark in
// the future shuns until then and for the whole time after it.
func (v *server) shunned(now state.Time, seconds int) bool {
	mark := state.Time(v.mark.Load())
	return mark != 0 && seconds > 0 && now-mark < state.Time(seconds)*1000
}

// fail marks v as failed now, unless it is marked until later.
func (v *server) fail(now state.Time) {
	for {
		mark := v.mark.Load()
		if mark >= int64(now) || v.mark.CompareAndSwap(mark, int64(now)) {
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
