package cluster

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Network is what a Wire is built on. Tests have one in memory, where time is
// theirs.
type Network interface {
	Listen(at netip.AddrPort) (net.Listener, error)
	ListenPacket(at netip.AddrPort) (net.PacketConn, error)
	// Dial connects from an address; from any if it is not valid.
	Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)
}

// addrPort is the address of one of our sockets.
func addrPort(a net.Addr) netip.AddrPort {
	var p netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		p = a.AddrPort()
	case *net.UDPAddr:
		p = a.AddrPort()
	case nil:
	default:
		p, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// kernel is the real network.
type kernel struct{}

// A peer that is gone without a word is found out by this, if by nothing else.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 5}

func (kernel) Listen(at netip.AddrPort) (net.Listener, error) {
	l := net.ListenConfig{KeepAliveConfig: keepAlive}
	l.SetMultipathTCP(false)
	return l.Listen(context.Background(), "tcp", at.String())
}

func (kernel) ListenPacket(at netip.AddrPort) (net.PacketConn, error) {
	return new(net.ListenConfig).ListenPacket(context.Background(), "udp", at.String())
}

func (kernel) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	d.SetMultipathTCP(false)
	if from.IsValid() && from.Is4() == to.Addr().Unmap().Is4() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, "tcp", to.String())
}
