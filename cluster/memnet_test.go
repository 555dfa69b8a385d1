package cluster

import (
	"context"
	"errors"
	"io"
	"math/rand"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// memNet is a network in memory: streams with delays, one-way cuts, and ends
// that vanish with or without a word.
type memNet struct {
	mu    sync.Mutex
	rng   *rand.Rand
	slow  int // percent of slow chunks
	cut   map[[2]int]bool
	hosts map[netip.AddrPort]*memHost // who listens
	off   map[int]bool                // hosts without power
	conns map[*memConn]bool
}

// memHost is one life of one node on the network.
type memHost struct {
	net    *memNet
	place  int
	addr   netip.AddrPort
	hello  Hello
	accept map[Purpose]chan Stream
	dead   bool
}

func newMemNet(seed int64) *memNet {
	return &memNet{
		rng: rand.New(rand.NewSource(seed)), cut: map[[2]int]bool{}, off: map[int]bool{},
		hosts: map[netip.AddrPort]*memHost{}, conns: map[*memConn]bool{},
	}
}

func memAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), DefaultPort)
}

func (n *memNet) host(i int, h Hello) *memHost {
	m := &memHost{net: n, place: i, addr: memAddr(i), hello: h, accept: map[Purpose]chan Stream{}}
	for p := PurposeRaft; p <= PurposeForm; p++ {
		m.accept[p] = make(chan Stream, 16)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[m.addr], n.off[i] = m, false
	return m
}

func (n *memNet) delay() time.Duration { // mu held
	if n.rng.Intn(100) < n.slow {
		return time.Duration(n.rng.Intn(300)) * time.Millisecond
	}
	return time.Duration(n.rng.Intn(1500)) * time.Microsecond
}

// vanish takes a life off the network. With power lost nobody is told.
func (m *memHost) vanish(power bool) {
	n := m.net
	n.mu.Lock()
	defer n.mu.Unlock()
	m.dead = true
	if n.hosts[m.addr] == m {
		delete(n.hosts, m.addr)
	}
	n.off[m.place] = power
	for c := range n.conns {
		if c.host != m {
			continue
		}
		delete(n.conns, c)
		c.in.end(net.ErrClosed, time.Now())
		if !power {
			c.out.end(io.EOF, time.Now().Add(n.delay()))
		}
	}
}

func (m *memHost) Accept(p Purpose) <-chan Stream { return m.accept[p] }

func (m *memHost) Dial(ctx context.Context, to netip.AddrPort, p Purpose) (Stream, error) {
	n := m.net
	n.mu.Lock()
	there, back := n.delay(), n.delay()
	n.mu.Unlock()
	lost := func(a, b int) bool { n.mu.Lock(); defer n.mu.Unlock(); return n.cut[[2]int{a, b}] || n.off[b] }
	place := int(to.Addr().As4()[3]) - 1
	sleep := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := sleep(there); err != nil {
		return Stream{}, err
	}
	if lost(m.place, place) {
		<-ctx.Done()
		return Stream{}, ctx.Err()
	}
	if err := sleep(back); err != nil {
		return Stream{}, err
	}
	if lost(place, m.place) {
		<-ctx.Done()
		return Stream{}, ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	peer := n.hosts[to]
	if m.dead {
		return Stream{}, net.ErrClosed
	}
	if peer == nil {
		return Stream{}, syscall.ECONNREFUSED
	}
	ab, ba := newMemPipe(n, m.place, place), newMemPipe(n, place, m.place)
	near, far := &memConn{host: m, in: ba, out: ab}, &memConn{host: peer, in: ab, out: ba}
	near.peer, far.peer = far, near
	hello := m.hello
	hello.Purpose = p
	select {
	case peer.accept[p] <- Stream{Conn: far, Hello: hello}:
		n.conns[near], n.conns[far] = true, true
		return Stream{Conn: near, Hello: peer.hello}, nil
	default:
		return Stream{}, errors.New("busy")
	}
}

// memPipe is one direction of a connection.
type memPipe struct {
	net      *memNet
	from, to int

	mu     sync.Mutex
	chunks []memChunk
	last   time.Time // when the last chunk arrives: nothing overtakes in a stream
	over   error
	overAt time.Time
	limit  time.Time
	wake   chan struct{}
}

type memChunk struct {
	at   time.Time
	data []byte
}

func newMemPipe(n *memNet, from, to int) *memPipe {
	return &memPipe{net: n, from: from, to: to, wake: make(chan struct{}, 1)}
}

func (p *memPipe) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *memPipe) end(err error, at time.Time) {
	p.mu.Lock()
	if p.over == nil || errors.Is(err, net.ErrClosed) {
		p.over, p.overAt = err, later(at, p.last)
		if errors.Is(err, net.ErrClosed) {
			p.overAt, p.chunks = at, nil
		}
	}
	p.mu.Unlock()
	p.nudge()
}

func (p *memPipe) read(b []byte) (int, error) {
	for {
		p.net.mu.Lock()
		cut := p.net.cut[[2]int{p.from, p.to}]
		p.net.mu.Unlock()
		now := time.Now()
		p.mu.Lock()
		wait := time.Hour
		switch {
		case errors.Is(p.over, net.ErrClosed):
			p.mu.Unlock()
			return 0, net.ErrClosed
		case !p.limit.IsZero() && !now.Before(p.limit):
			p.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(p.chunks) > 0 && !cut && !now.Before(p.chunks[0].at):
			k := copy(b, p.chunks[0].data)
			if p.chunks[0].data = p.chunks[0].data[k:]; len(p.chunks[0].data) == 0 {
				p.chunks = p.chunks[1:]
			}
			p.mu.Unlock()
			return k, nil
		case len(p.chunks) > 0:
			wait = p.chunks[0].at.Sub(now)
		case p.over != nil && !cut && !now.Before(p.overAt):
			err := p.over
			p.mu.Unlock()
			return 0, err
		case p.over != nil:
			wait = p.overAt.Sub(now)
		}
		if cut {
			wait = max(wait, 20*time.Millisecond) // until TCP tries again
		}
		if !p.limit.IsZero() {
			wait = min(wait, p.limit.Sub(now))
		}
		p.mu.Unlock()
		timer := time.NewTimer(max(wait, time.Microsecond))
		select {
		case <-timer.C:
		case <-p.wake:
		}
		timer.Stop()
	}
}

// memConn is one end of a connection.
type memConn struct {
	host    *memHost
	peer    *memConn
	in, out *memPipe
}

func (c *memConn) Read(b []byte) (int, error) { return c.in.read(b) }

func (c *memConn) Write(b []byte) (int, error) {
	n := c.host.net
	n.mu.Lock()
	d, gone := n.delay(), c.peer.host.dead && !n.off[c.peer.host.place]
	n.mu.Unlock()
	now := time.Now()
	if gone { // the host is there, the connection is not
		c.in.end(syscall.ECONNRESET, now.Add(d))
		return len(b), nil
	}
	c.in.mu.Lock()
	over := c.in.over
	c.in.mu.Unlock()
	if errors.Is(over, net.ErrClosed) {
		return 0, over
	}
	p := c.out
	p.mu.Lock()
	if p.over == nil {
		p.last = later(p.last, now.Add(d))
		p.chunks = append(p.chunks, memChunk{p.last, append([]byte(nil), b...)})
	}
	p.mu.Unlock()
	p.nudge()
	return len(b), nil
}

func (c *memConn) Close() error {
	n := c.host.net
	n.mu.Lock()
	delete(n.conns, c)
	at := time.Now().Add(n.delay())
	n.mu.Unlock()
	c.in.end(net.ErrClosed, time.Now())
	c.out.end(io.EOF, at)
	return nil
}

func (c *memConn) LocalAddr() net.Addr           { return net.TCPAddrFromAddrPort(c.host.addr) }
func (c *memConn) RemoteAddr() net.Addr          { return net.TCPAddrFromAddrPort(c.peer.host.addr) }
func (c *memConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }
func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	c.in.limit = t
	c.in.mu.Unlock()
	c.in.nudge()
	return nil
}
func (c *memConn) SetWriteDeadline(time.Time) error { return nil } // writes never wait
