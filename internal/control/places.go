package control

import (
	"io"
	"slices"
	"sync"
)

// places are the connections that are served at once, at most MaxPeers.
//
// When all are taken, a newcomer displaces whoever has been there longest
// without having asked anything, or having been answered and not gone. So
// silent peers can not lock out an operator, however many they are and however
// fast they return: penctl sends its line at once. A connection that is being
// answered keeps its place.
type places struct {
	mu    sync.Mutex
	taken []*place // in order of arrival; guarded by mu, and so is place.idle
}

// place is one connection's.
type place struct {
	conn stream
	idle bool // may be displaced
}

// enter takes a place for p. It returns the connection that lost its place by
// it, for the caller to close; false if no place could be had.
func (s *places) enter(p *place) (displaced io.Closer, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.taken) >= MaxPeers {
		i := slices.IndexFunc(s.taken, func(q *place) bool { return q.idle })
		if i < 0 {
			return nil, false
		}
		displaced = s.taken[i].conn
		s.taken = slices.Delete(s.taken, i, i+1)
	}
	s.taken = append(s.taken, p)
	return displaced, true
}

// leave gives the place back, unless it was lost before.
func (s *places) leave(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = slices.DeleteFunc(s.taken, func(q *place) bool { return q == p })
}

// keep tells whether p still has its place, and from now on can not lose it.
func (s *places) keep(p *place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.idle = false
	return slices.Contains(s.taken, p)
}

// release lets newcomers displace p again.
func (s *places) release(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.idle = true
}

// closeIdle closes the connections that are not being answered; they lose their
// places, so that none begins to be.
func (s *places) closeIdle() { s.closeIf(func(p *place) bool { return p.idle }) }

// closeAll closes every connection.
func (s *places) closeAll() { s.closeIf(func(*place) bool { return true }) }

func (s *places) closeIf(cond func(*place) bool) {
	var found []*place
	s.mu.Lock()
	s.taken = slices.DeleteFunc(s.taken, func(p *place) bool {
		hit := cond(p)
		if hit {
			found = append(found, p)
		}
		return hit
	})
	s.mu.Unlock()
	for _, p := range found {
		p.conn.Close()
	}
}
