package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Stream is a connection to a peer that has the key, whose hello fits, and that
// is meant for one purpose. Whoever got it closes it. Close does not wait for the
// peer.
type Stream struct {
	net.Conn
	Hello Hello // the peer's
}

// Protocol is the newest wire protocol that both ends speak.
func (s Stream) Protocol() uint16 { return min(ProtocolMax, s.Hello.Max) }

// StepOut ends TLS on a stream for PurposeRelease, at either end, before
// anything was sent on it. It gives the bare connection, which another process
// can inherit, and a secret that only the two ends of this one connection have:
// what goes over it from now on can be seen and cut off by others, but a message
// with a MAC under the secret was made for this connection. The stream is still
// what must be closed.
//
// Only the end that dialled may send. It can do so at once: the other has read
// its hello and nothing beyond.
func (s Stream) StepOut() (net.Conn, [32]byte, error) {
	c, ok := s.Conn.(*wireConn)
	if !ok || s.Hello.Purpose != PurposeRelease {
		return nil, [32]byte{}, fmt.Errorf("step out of tls on a stream for %s", s.Hello.Purpose)
	}
	state := c.Conn.ConnectionState()
	secret, err := state.ExportKeyingMaterial("EXPORTER-pen-release", nil, 32)
	if err != nil {
		return nil, [32]byte{}, fmt.Errorf("step out of tls: %w", err)
	}
	c.out.Store(true)
	return c.raw.Conn, [32]byte(secret), nil
}

// wireConn is a stream as the Wire knows it.
type wireConn struct {
	*tls.Conn
	hello  Hello // the peer's
	wire   *Wire
	raw    *rawConn
	dialed netip.AddrPort // not valid: it was accepted
	out    atomic.Bool    // TLS is over, see Stream.StepOut
	closed atomic.Bool
}

func (c *wireConn) accepted() bool { return !c.dialed.IsValid() }

func (c *wireConn) Close() error {
	if c.closed.Swap(true) {
		return nil // somebody else is at it; nobody waits for that
	}
	c.wire.forget(c)
	if c.out.Load() {
		return c.raw.Close()
	}
	return c.raw.end(c.Conn)
}

// rawConn is the connection below TLS.
type rawConn struct {
	net.Conn
	addr     netip.Addr   // of the other end
	left     atomic.Int64 // what may still be read; negative: anything
	otherKey atomic.Bool  // the peer has named another key
	evicted  atomic.Bool  // closed in favour of others
	closing  atomic.Bool
}

func newRawConn(c net.Conn) *rawConn {
	r := &rawConn{Conn: c, addr: addrPort(c.RemoteAddr()).Addr()}
	r.left.Store(handshakeBytes)
	return r
}

var errTooMuch = errors.New("more than a handshake has")

func (c *rawConn) Read(b []byte) (int, error) {
	left := c.left.Load()
	if left < 0 {
		return c.Conn.Read(b)
	}
	if left == 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), left)])
	c.left.Add(-int64(n))
	return n, err
}

// settle lifts the limits of the handshake.
func (c *rawConn) settle() {
	c.left.Store(-1)
	c.SetDeadline(time.Time{})
}

// SetWriteDeadline lets nobody wait long for the end of TLS: crypto/tls would
// wait 5 s for a peer that does not read.
func (c *rawConn) SetWriteDeadline(t time.Time) error {
	if limit := time.Now().Add(closeTime); c.closing.Load() && t.After(limit) {
		t = limit
	}
	return c.Conn.SetWriteDeadline(t)
}

// end closes a connection with the good-bye of TLS.
func (c *rawConn) end(t net.Conn) error {
	c.closing.Store(true)
	return t.Close()
}

// gone tells that the peer closed the connection, or we did.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || isReset(err)
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
