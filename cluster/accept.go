package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

func (w *Wire) acceptLoop(ctx context.Context, serving *sync.WaitGroup) error {
	pause := pauseFirst
	for {
		c, err := w.tcp.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("cluster port: %w", err)
		}
		if err != nil { // out of descriptors, as a rule
			w.refusals.trouble(err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, pauseMax)
			continue
		}
		pause = pauseFirst
		raw := newRawConn(c)
		if !w.admit(raw) {
			raw.Close()
			continue
		}
		serving.Go(func() { w.serve(ctx, raw) })
	}
}

// admit counts a connection in. Where its address or the strangers have their
// share already, the oldest of them has to go: an honest handshake takes
// milliseconds, so it is hardly ever the oldest.
func (w *Wire) admit(c *rawConn) bool {
	share := w.share(c.addr)
	w.mu.Lock()
	var out []*rawConn
	oldest := func(limit int, same func(*rawConn) bool) {
		n := 0
		for _, o := range w.waiting {
			if same(o) {
				n++
			}
		}
		if n < limit {
			return
		}
		i := slices.IndexFunc(w.waiting, same)
		out = append(out, w.waiting[i])
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
	oldest(handshakesEach, func(o *rawConn) bool { return w.share(o.addr) == share })
	if !w.expects(c.addr) {
		oldest(handshakesMax, func(o *rawConn) bool { return !w.expects(o.addr) })
	}
	closed := w.closed
	if !closed {
		w.waiting = append(w.waiting, c)
	}
	w.mu.Unlock()
	for _, o := range out {
		o.evicted.Store(true)
		o.Close()
	}
	return !closed
}

// share is what counts as one address. A stranger with IPv6 has a whole subnet
// of them.
func (w *Wire) share(a netip.Addr) netip.Addr {
	if a.Is6() && !w.expects(a) {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func (w *Wire) leave(c *rawConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.waiting, c); i >= 0 {
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
}

// serve takes an accepted connection through the handshake and hands it on.
func (w *Wire) serve(ctx context.Context, c *rawConn) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	s, refused := w.welcome(ctx, c)
	w.leave(c)
	if refused != nil {
		c.Close()
		// A process that was stopped finds what its mates have tried meanwhile, all
		// at once: that the last of it goes before the rest is no refusal.
		queued := c.evicted.Load() && w.expects(c.addr)
		if ctx.Err() != context.Canceled && refused.Reason != Itself && !queued {
			w.refusals.add(c.addr, refused, false)
		}
		return
	}
	if s == nil {
		return // a probe, which has its answer
	}
	select {
	case w.accepted[s.hello.Purpose] <- Stream{Conn: s, Hello: s.hello}:
	case <-ctx.Done():
		_ = s.Close()
		if ctx.Err() != context.Canceled {
			w.refusals.add(c.addr, &RefusedError{Reason: Busy, Detail: s.hello.Purpose.String(), Hello: s.hello}, false)
		}
	}
}

// welcome does TLS and the hellos on an accepted connection.
func (w *Wire) welcome(ctx context.Context, c *rawConn) (*wireConn, *RefusedError) {
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	t := tls.Server(c, w.identity.server)
	theirs, err := readHello(t)
	if err != nil {
		if c.evicted.Load() {
			return nil, &RefusedError{Reason: TooMany}
		}
		if !t.ConnectionState().HandshakeComplete || gone(err) || isTimeout(err) || isAlert(err, certAlerts...) {
			return nil, whyAccept(c, err)
		}
		return nil, &RefusedError{Reason: BadHello, Detail: clean(err.Error())}
	}
	ours := w.Hello()
	ours.Purpose = theirs.Purpose
	refused := ours.fits(theirs)
	w.notice(refused)
	if id, err := certifiedNode(t); err != nil || id != theirs.Node {
		refused = &RefusedError{Reason: BadHello, Detail: "the certificate names another node", Hello: theirs}
	}
	s := &wireConn{Conn: t, hello: theirs, wire: w, raw: c}
	if refused == nil && theirs.Purpose != purposeProbe {
		refused = w.join(ctx, s)
	}
	a := answer{hello: ours}
	if refused != nil {
		a.reason, a.detail = refused.Reason, refused.Detail
	}
	err = writeFrame(t, a.appendTo(nil))
	switch {
	case refused != nil:
		_ = c.end(t)
		return nil, refused
	case theirs.Purpose == purposeProbe:
		_ = c.end(t)
		return nil, nil
	case err != nil:
		_ = s.Close()
		return nil, whyAccept(c, err)
	}
	c.settle()
	return s, nil
}

func readHello(t *tls.Conn) (Hello, error) {
	if err := t.Handshake(); err != nil {
		return Hello{}, err
	}
	body, err := readFrame(t)
	if err != nil {
		return Hello{}, err
	}
	return decodeHello(body)
}
