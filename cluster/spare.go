package cluster

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// sparesEach is how many connections to a peer wait to be used: one for the
// first vote, one for the first entry of the log. A new leader needs both at
// once, in the milliseconds that count.
const sparesEach = 2

// spares are connections for raft that were dialled before anybody needs them.
// They live as long as the link to the peer, which notices its end.
type spares struct {
	dial func(ctx context.Context, to netip.AddrPort) (*kept, error)

	mu   sync.Mutex // guards what follows
	idle map[netip.AddrPort]*spareSet
}

// spareSet is the connections to one address.
type spareSet struct {
	conns []*kept
	taken chan struct{} // one was
}

// take gives a connection that waits for that node, or nil.
func (s *spares) take(to netip.AddrPort, id string) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.idle[to]
	if set == nil || len(set.conns) == 0 || set.conns[0].node != id {
		return nil
	}
	c := set.conns[0]
	set.conns = set.conns[1:]
	select {
	case set.taken <- struct{}{}:
	default:
	}
	return c
}

// warm keeps connections to an address ready until ctx ends. It is called once
// at a time for each address.
func (s *spares) warm(ctx context.Context, to netip.AddrPort, pause time.Duration) {
	set := &spareSet{taken: make(chan struct{}, 1)}
	s.mu.Lock()
	s.idle[to] = set
	s.mu.Unlock()
	defer s.drop(to)
	for ctx.Err() == nil {
		s.mu.Lock()
		full := len(set.conns) >= sparesEach
		s.mu.Unlock()
		if full {
			select {
			case <-set.taken:
			case <-ctx.Done():
				return
			}
			// Who takes one is in a hurry, and a handshake takes time from him.
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		dial, cancel := context.WithTimeout(ctx, 6*pause)
		c, err := s.dial(dial, to)
		cancel()
		if err != nil {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		s.mu.Lock()
		set.conns = append(set.conns, c)
		s.mu.Unlock()
	}
}

// drop closes what waits: it may lead to a process that is gone.
func (s *spares) drop(to netip.AddrPort) {
	s.mu.Lock()
	set := s.idle[to]
	delete(s.idle, to)
	s.mu.Unlock()
	for _, c := range set.conns {
		c.Close()
	}
}
