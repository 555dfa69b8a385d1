package proxy

import (
	"net/netip"
	"sync/atomic"

	"pen/state"
)

// identity tells servers of a service apart: a slot, and what is in it.
type identity struct {
	index int // in the list, or state.Emergency, state.Abuse
	host  state.Address
	port  uint16
}

// server is the running side of one slot of a service's list, for as long as
// the slot holds the same address. Connections point to it, so it outlives
// changes of the settings and even the slot itself.
type server struct {
	identity
	addr netip.AddrPort // invalid for a Unix socket
	path string         // of a Unix socket

	places             atomic.Int64 // connections and attempts: what limits are about
	sent, received     atomic.Uint64
	attempts, failures atomic.Uint64
	mark               atomic.Int64 // state.Time of the last failure not followed by a success; 0: none

	news news
}

func newServer(id identity, mark state.Time) *server {
	v := &server{identity: id}
	if id.host.Path() {
		v.path = id.host.Host
	} else {
		v.addr = netip.AddrPortFrom(id.host.IP, id.port)
	}
	v.news.seen = mark
	v.mark.Store(int64(mark))
	return v
}

// key stands for the server's address when hashing, alike on all nodes.
func (v *server) key() uint64 {
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
func (v *server) String() string {
	if v.path != "" {
		return v.path
	}
	return v.addr.String()
}
