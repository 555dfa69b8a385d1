package cluster

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// lan is a network in memory, for bubbles where time is not real. A cut takes
// effect on what is dialled and sent from then on, and ends what stands.
type lan struct {
	mu      sync.Mutex // guards what follows
	ports   map[netip.AddrPort]*lanPort
	sockets map[netip.AddrPort]*lanSocket
	conns   map[*lanConn]struct{}
	cut     func(a, b netip.Addr) bool
}

func newLAN() *lan {
	return &lan{ports: map[netip.AddrPort]*lanPort{}, sockets: map[netip.AddrPort]*lanSocket{}, conns: map[*lanConn]struct{}{}, cut: func(_, _ netip.Addr) bool { return false }}
}

// partition cuts the network as told; nil heals it.
func (l *lan) partition(cut func(a, b netip.Addr) bool) {
	if cut == nil {
		cut = func(_, _ netip.Addr) bool { return false }
	}
	l.mu.Lock()
	l.cut = cut
	var gone []*lanConn
	for c := range l.conns {
		if cut(c.local.Addr(), c.remote.Addr()) {
			gone = append(gone, c)
		}
	}
	l.mu.Unlock()
	for _, c := range gone {
		c.Close()
	}
}

type lanPort struct {
	lan    *lan
	at     netip.AddrPort
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *lan) Listen(at netip.AddrPort) (net.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ports[at] != nil {
		return nil, syscall.EADDRINUSE
	}
	p := &lanPort{lan: l, at: at, queue: make(chan net.Conn, 64), closed: make(chan struct{})}
	l.ports[at] = p
	return p, nil
}

func (p *lanPort) Accept() (net.Conn, error) {
	select {
	case c := <-p.queue:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *lanPort) Close() error {
	p.once.Do(func() {
		p.lan.mu.Lock()
		delete(p.lan.ports, p.at)
		p.lan.mu.Unlock()
		close(p.closed)
	})
	return nil
}

func (p *lanPort) Addr() net.Addr { return net.TCPAddrFromAddrPort(p.at) }

func (l *lan) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	l.mu.Lock()
	p, cut := l.ports[to], l.cut(from, to.Addr())
	l.mu.Unlock()
	fail := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	switch {
	case cut:
		<-ctx.Done()
		return nil, fail(ctx.Err())
	case p == nil:
		return nil, fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	a, b := net.Pipe()
	here, there := netip.AddrPortFrom(from, 40000), to
	ours, theirs := &lanConn{Conn: a, lan: l, local: here, remote: there}, &lanConn{Conn: b, lan: l, local: there, remote: here}
	l.mu.Lock()
	l.conns[ours], l.conns[theirs] = struct{}{}, struct{}{}
	l.mu.Unlock()
	select {
	case p.queue <- theirs:
		return ours, nil
	case <-p.closed:
		ours.Close()
		return nil, fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	case <-ctx.Done():
		ours.Close()
		return nil, fail(ctx.Err())
	}
}

type lanConn struct {
	net.Conn
	lan           *lan
	local, remote netip.AddrPort
}

func (c *lanConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *lanConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *lanConn) Close() error {
	c.lan.mu.Lock()
	delete(c.lan.conns, c)
	c.lan.mu.Unlock()
	return c.Conn.Close()
}

type lanPacket struct {
	b    []byte
	from netip.AddrPort
}

type lanSocket struct {
	lan    *lan
	at     netip.AddrPort
	queue  chan lanPacket
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex // guards what follows
	until time.Time
	moved chan struct{} // closed when until changes
}

func (l *lan) ListenPacket(at netip.AddrPort) (net.PacketConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sockets[at] != nil {
		return nil, syscall.EADDRINUSE
	}
	s := &lanSocket{lan: l, at: at, queue: make(chan lanPacket, 256), closed: make(chan struct{}), moved: make(chan struct{})}
	l.sockets[at] = s
	return s, nil
}

func (s *lanSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		s.mu.Lock()
		until, moved := s.until, s.moved
		s.mu.Unlock()
		var late <-chan time.Time
		if !until.IsZero() {
			late = time.After(time.Until(until))
		}
		select {
		case p := <-s.queue:
			return copy(b, p.b), net.UDPAddrFromAddrPort(p.from), nil
		case <-s.closed:
			return 0, nil, net.ErrClosed
		case <-late:
			return 0, nil, os.ErrDeadlineExceeded
		case <-moved:
		}
	}
}

func (s *lanSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	at := addrPort(to)
	s.lan.mu.Lock()
	defer s.lan.mu.Unlock()
	if s.lan.sockets[s.at] != s {
		return 0, net.ErrClosed
	}
	if other := s.lan.sockets[at]; other != nil && !s.lan.cut(s.at.Addr(), at.Addr()) {
		select {
		case other.queue <- lanPacket{append([]byte(nil), b...), s.at}:
		default:
		}
	}
	return len(b), nil
}

func (s *lanSocket) Close() error {
	s.once.Do(func() {
		s.lan.mu.Lock()
		delete(s.lan.sockets, s.at)
		s.lan.mu.Unlock()
		close(s.closed)
	})
	return nil
}

func (s *lanSocket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = t
	close(s.moved)
	s.moved = make(chan struct{})
	return nil
}

func (s *lanSocket) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(s.at) }
func (s *lanSocket) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *lanSocket) SetWriteDeadline(time.Time) error { return nil }
