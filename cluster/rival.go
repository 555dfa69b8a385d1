package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// sighting is which process had a node id, and where.
type sighting struct {
	boot ID
	addr netip.AddrPort
	last time.Time
}

// join takes a stream among those that stand, unless another process has its
// node id. A process that does not answer for its id any more has lost it, and
// with it what is left of its streams. Two live ones happen when a data directory
// is copied; the first stays.
func (w *Wire) join(ctx context.Context, s *wireConn) *RefusedError {
	for {
		rival, refused := w.tryJoin(s)
		if rival == nil {
			return refused
		}
		// Whoever answers at its address now is what became of it.
		if s.dialed != rival.addr && w.lives(ctx, *rival) {
			return &RefusedError{
				Reason: DuplicateNode, Hello: s.hello,
				Detail: fmt.Sprintf("%s lives at %s and claims to at %s, too", s.hello.Node, rival.addr, s.hello.Addr),
			}
		}
		w.drop(s.hello.Node, *rival)
	}
}

func (w *Wire) tryJoin(s *wireConn) (rival *sighting, refused *RefusedError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, &RefusedError{Reason: Closed, Detail: "shutting down", Hello: s.hello}
	}
	if seen, ok := w.nodes[s.hello.Node]; ok && (seen.boot != s.hello.Boot || seen.addr != s.hello.Addr) {
		return &seen, nil
	}
	n := 0
	for o := range w.streams {
		if o.accepted() && o.hello.Node == s.hello.Node {
			n++
		}
	}
	if s.accepted() && n >= streamsEach {
		return nil, &RefusedError{Reason: TooMany, Detail: fmt.Sprintf("%d streams of %s", n, s.hello.Node), Hello: s.hello}
	}
	w.streams[s] = struct{}{}
	w.sight(s.hello)
	return nil, nil
}

// sight remembers a process. Whoever has the key could make up nodes without
// end: the one seen longest ago is forgotten then.
func (w *Wire) sight(h Hello) {
	if _, ok := w.nodes[h.Node]; !ok && len(w.nodes) >= nodesMax {
		var oldest ID
		for id, s := range w.nodes {
			if oldest.IsZero() || s.last.Before(w.nodes[oldest].last) {
				oldest = id
			}
		}
		delete(w.nodes, oldest)
	}
	w.nodes[h.Node] = sighting{boot: h.Boot, addr: h.Addr, last: time.Now()}
}

// lives asks the process at an address who it is. A restarted node has the
// address of its predecessor as a rule, so that this takes as long as a
// handshake.
func (w *Wire) lives(ctx context.Context, seen sighting) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	s, err := w.dial(ctx, seen.addr, purposeProbe)
	if err == nil {
		_ = s.raw.end(s.Conn)
		return s.hello.Boot == seen.boot
	}
	refused, ok := errors.AsType[*RefusedError](err)
	return ok && refused.Hello.Boot == seen.boot
}

// has tells whether a process at an address has a node id now.
func (w *Wire) has(ctx context.Context, id ID, at netip.AddrPort) bool {
	if h := w.Hello(); h.Node == id && h.Addr == at {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	s, err := w.dial(ctx, at, purposeProbe)
	if err == nil {
		_ = s.raw.end(s.Conn)
		return s.hello.Node == id
	}
	refused, ok := errors.AsType[*RefusedError](err)
	return ok && refused.Hello.Node == id
}

// drop forgets a process and closes its streams.
func (w *Wire) drop(node ID, seen sighting) {
	w.mu.Lock()
	if now := w.nodes[node]; now.boot == seen.boot && now.addr == seen.addr {
		delete(w.nodes, node)
	}
	var gone []*wireConn
	for s := range w.streams {
		if s.hello.Node == node && s.hello.Boot == seen.boot && s.hello.Addr == seen.addr {
			gone = append(gone, s)
		}
	}
	w.mu.Unlock()
	for _, s := range gone {
		s.raw.Close() // there is nobody to say good-bye to
		_ = s.Close()
	}
}

func (w *Wire) forget(s *wireConn) {
	w.mu.Lock()
	delete(w.streams, s)
	w.mu.Unlock()
}
