package proxy

import (
	"context"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A client who talks TLS is accepted by a loop and served by goroutines: there the
// cryptography dominates. The engine owns both. Places, slots, descriptors and
// connections are counted once, for all.

// newSecure returns the half of the engine that ends TLS.
func newSecure(e *engine) *netEngine {
	s := newNetEngine(e.log, e.opts)
	s.inUse = &e.inUse
	s.freedOne = e.freed
	s.began = func() { e.conns.Add(1) }
	s.ended = e.closed
	s.carryOn = e.carryOn
	return s
}

// relays returns the half of the engine that serves with goroutines.
func (e *engine) relays() *netEngine { return e.secure }

// freed looks after the clients who wait for a place at f, after a goroutine has
// given one back: the first loop takes in as many as there are places for.
func (e *engine) freed(f *front) {
	for _, ln := range f.open() {
		if !ln.suspended.Load() {
			continue
		}
		if loops := e.running(); len(loops) > 0 {
			loops[0].post(func(l *loop) { l.kick(f) })
		}
		return
	}
}

// handOver gives a client to the goroutines. His place is taken, as in welcome.
func (l *loop) handOver(ctx context.Context, f *front, fd int32) {
	l.engine.conns.Add(1)
	client, port := l.addr.peer()
	l.engine.secure.welcome(ctx, f, &handed{os.NewFile(uintptr(fd), "client"), netip.AddrPortFrom(client, port)})
}

// handed is a socket that a loop has accepted, as a connection for goroutines: a
// file waits by Go's poller, too. Package net would duplicate the descriptor and ask
// and set a dozen things that are known and as they should be, which is a
// twentieth of what a handshake costs.
type handed struct {
	*os.File
	client netip.AddrPort // invalid for a Unix socket
}

// RemoteAddr returns the client's address.
func (c *handed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.client) }

// LocalAddr asks for the address that the client has connected to.
func (c *handed) LocalAddr() net.Addr {
	var local netip.AddrPort
	_ = c.call(func(fd int) error {
		local = localAddress(fd)
		return nil
	})
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(local.Addr().Unmap(), local.Port()))
}

// CloseWrite ends the stream to the client.
func (c *handed) CloseWrite() error {
	return c.call(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// SetLinger says what becomes of bytes under way when it is closed.
func (c *handed) SetLinger(seconds int) error {
	return c.call(func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(seconds)})
	})
}

// call does something with the descriptor, unless that is closed.
func (c *handed) call(f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return err
	}
	return result
}
