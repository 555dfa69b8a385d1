package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
)

// Dial opens a stream to a peer. It takes at most 3 s. A RefusedError says that
// somebody is there, but must not be talked to. Any other error means that nobody
// was reached; that the port is closed (the process is gone, the machine is not)
// is found with errors.Is(err, syscall.ECONNREFUSED). The caller closes the
// stream.
func (w *Wire) Dial(ctx context.Context, to netip.AddrPort, p Purpose) (Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	s, err := w.dial(ctx, to, p)
	if err == nil {
		s.dialed = to
		if refused := w.join(ctx, s); refused != nil {
			s.raw.Close()
			err = refused
		}
	}
	if refused, ok := errors.AsType[*RefusedError](err); ok && refused.Reason != Itself {
		w.refusals.add(to.Addr().Unmap(), refused, true)
	}
	if err != nil {
		return Stream{}, fmt.Errorf("connect to %s for %s: %w", to, p, err)
	}
	s.raw.settle()
	return Stream{Conn: s, Hello: s.hello}, nil
}

// dial does not look at who else is connected.
func (w *Wire) dial(ctx context.Context, to netip.AddrPort, p Purpose) (*wireConn, error) {
	conn, err := w.network.Dial(ctx, w.from, to)
	if err != nil {
		return nil, err
	}
	c := newRawConn(conn)
	s, err := w.introduce(ctx, c, p)
	if err != nil {
		c.Close()
	}
	return s, err
}

// introduce does TLS and the hellos on a connection of ours.
func (w *Wire) introduce(ctx context.Context, c *rawConn, p Purpose) (*wireConn, error) {
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	t := tls.Client(c, w.identity.client)
	ours := w.Hello()
	ours.Purpose = p
	a, err := exchange(t, ours)
	if err != nil {
		if refused := whyDial(err); refused != nil {
			return nil, refused
		}
		return nil, err
	}
	if id, err := certifiedNode(t); err != nil || id != a.hello.Node {
		return nil, &RefusedError{Reason: BadHello, Detail: "the certificate names another node", Hello: a.hello}
	}
	if refused := ours.fits(a.hello); refused != nil {
		w.notice(refused)
		return nil, refused
	}
	if a.hello.Purpose != p {
		return nil, &RefusedError{Reason: BadHello, Detail: "an answer for " + a.hello.Purpose.String(), Hello: a.hello}
	}
	if a.reason != 0 {
		return nil, &RefusedError{Reason: a.reason, Detail: a.detail, ByPeer: true, Hello: a.hello}
	}
	return &wireConn{Conn: t, hello: a.hello, wire: w, raw: c}, nil
}

func exchange(t *tls.Conn, ours Hello) (answer, error) {
	if err := t.Handshake(); err != nil {
		return answer{}, err
	}
	if err := writeFrame(t, ours.appendTo(nil)); err != nil {
		return answer{}, err
	}
	body, err := readFrame(t)
	if errors.Is(err, errNoHello) {
		return answer{}, &RefusedError{Reason: BadHello, Detail: clean(err.Error())}
	}
	if err != nil {
		return answer{}, err
	}
	a, err := decodeAnswer(body)
	if err != nil {
		return answer{}, &RefusedError{Reason: BadHello, Detail: clean(err.Error())}
	}
	return a, nil
}
