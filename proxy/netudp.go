package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"pen/state"
)

// netPackets is a listener of datagrams. A client's flow is a connection like
// others, whose client side is a netPeer.
//
// It does what the event loops do, with three differences: when all places are
// taken, the datagram for which a flow ends is dropped; there is no bound for one
// client alone; and a listener on all addresses answers from the one that the system
// chooses.
type netPackets struct {
	*net.UDPConn

	mu    sync.Mutex // guards peers
	peers map[netip.AddrPort]*netPeer
}

// netPeer is the client side of a flow.
type netPeer struct {
	packets *netPackets
	client  netip.AddrPort
	conn    *netConn    // set before anybody else sees the peer
	inbox   chan []byte // what has come and is not read
	gone    chan struct{}
	once    sync.Once
}

// inboxSize is how many datagrams wait for a flow's goroutine at most.
const inboxSize = 64

// Accept is not how datagrams are taken.
func (*netPackets) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }

// Addr returns where the socket is.
func (p *netPackets) Addr() net.Addr { return p.LocalAddr() }

// Read returns the next datagram.
func (p *netPeer) Read(b []byte) (int, error) {
	select {
	case d := <-p.inbox:
		return copy(b, d), nil
	case <-p.gone:
		return 0, net.ErrClosed
	}
}

// Write sends a datagram. One that can not be sent is lost, as in a network.
func (p *netPeer) Write(b []byte) (int, error) {
	_, _ = p.packets.WriteToUDPAddrPort(b, p.client)
	return len(b), nil
}

// Close ends the flow: the client's next datagram makes another one.
func (p *netPeer) Close() error {
	p.once.Do(func() {
		p.packets.mu.Lock()
		if p.packets.peers[p.client] == p {
			delete(p.packets.peers, p.client)
		}
		p.packets.mu.Unlock()
		close(p.gone)
	})
	return nil
}

// LocalAddr and what follows make it a net.Conn.
func (p *netPeer) LocalAddr() net.Addr { return p.packets.LocalAddr() }

// RemoteAddr returns the client's address.
func (p *netPeer) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(p.client) }

// SetDeadline does nothing, and so do the others.
func (*netPeer) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (*netPeer) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (*netPeer) SetWriteDeadline(time.Time) error { return nil }

// openUDP opens a listener of datagrams.
func openUDP(network string, at netip.AddrPort) (net.Listener, error) {
	conn, err := net.ListenUDP("udp"+network[len("tcp"):], net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	return &netPackets{UDPConn: conn, peers: map[netip.AddrPort]*netPeer{}}, nil
}

// receiveAll takes datagrams until ctx ends or ln is retired. Then its flows end.
func (e *netEngine) receiveAll(ctx context.Context, ln *netListener) {
	p := ln.Listener.(*netPackets)
	buf := make([]byte, 64<<10)
	for ctx.Err() == nil && !ln.retired.Load() {
		n, client, err := p.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed), ctx.Err() != nil, ln.retired.Load():
			continue
		default:
			sleep(ctx, 5*time.Millisecond)
			continue
		}
		if client.Port() == 0 || e.turnsAway() {
			continue
		}
		data := append([]byte(nil), buf[:n]...)
		if peer := e.peer(ctx, ln.front.Load(), p, client); peer != nil {
			select {
			case peer.inbox <- data:
			default:
				peer.conn.front.spilled.Add(1)
			}
		}
	}
	p.mu.Lock()
	var rest []*netPeer
	for _, peer := range p.peers {
		rest = append(rest, peer)
	}
	p.mu.Unlock()
	for _, peer := range rest {
		peer.conn.blame(ListenerClosed)
		peer.conn.close()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	ln.started = false
	if ln.retired.Load() {
		ln.Close()
		e.leaving--
		e.tellEmpty()
	}
}

// peer returns the flow of a client, a new one if there is none or its server is
// not wanted any more. nil: there is no place.
func (e *netEngine) peer(ctx context.Context, f *front, p *netPackets, client netip.AddrPort) *netPeer {
	p.mu.Lock()
	peer := p.peers[client]
	p.mu.Unlock()
	moved := false
	if peer != nil {
		if peer.conn.front == f && peer.conn.settled(e.opts.Clock.At(time.Now())) {
			return peer
		}
		peer.conn.blame(Moved)
		peer.conn.close()
		moved = true
	}
	if !e.reserve(f) {
		e.evict(f)
		f.full.Add(1)
		return nil
	}
	peer = &netPeer{packets: p, client: client, inbox: make(chan []byte, inboxSize), gone: make(chan struct{})}
	if moved {
		f.failovers.Add(1)
	}
	p.mu.Lock()
	p.peers[client] = peer
	p.mu.Unlock()
	e.welcome(ctx, f, peer)
	return peer
}

// settled tells whether the flow may stay with the server that it has, or will get.
func (c *netConn) settled(now state.Time) bool {
	c.mu.Lock()
	v, open := c.server, c.open
	c.mu.Unlock()
	return v == nil || !open || c.front.keeps(v, now)
}

// evict ends the flow of f that was used longest ago.
func (e *netEngine) evict(f *front) {
	var oldest *netConn
	for _, c := range e.of(f) {
		if oldest == nil || c.active.Load() < oldest.active.Load() {
			oldest = c
		}
	}
	if oldest != nil {
		f.evicted.Add(1)
		oldest.blame(Evicted)
		oldest.close()
	}
}

// isAway tells whether an error on a flow's socket is news of its server, which
// came as an ICMP message.
func isAway(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
