package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"pen/internal/config"
)

// selfOf finds out which of the peers this node is: the one that was named, or
// the one that has an address of this machine.
func selfOf(l *config.Local) (config.Peer, error) {
	if l.Self.IsValid() {
		i := slices.IndexFunc(l.Peers, func(p config.Peer) bool { return p.Addr == l.Self })
		if i < 0 {
			return config.Peer{}, fmt.Errorf("self %s is not among the peers", l.Self)
		}
		return l.Peers[i], nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return config.Peer{}, fmt.Errorf("addresses of this machine: %w", err)
	}
	var mine []config.Peer
	for _, p := range l.Peers {
		if slices.ContainsFunc(addrs, func(a net.Addr) bool { return addressOf(a) == p.Addr.Addr() }) {
			mine = append(mine, p)
		}
	}
	switch len(mine) {
	case 0:
		return config.Peer{}, errors.New("no address of this machine is among the peers: add it to peers, or name this node with self")
	case 1:
		return mine[0], nil
	}
	return config.Peer{}, fmt.Errorf("this machine is both %s and %s of the peers: name one with self", mine[0].Addr, mine[1].Addr)
}

func addressOf(a net.Addr) netip.Addr {
	if n, ok := a.(*net.IPNet); ok {
		ip, _ := netip.AddrFromSlice(n.IP)
		return ip.Unmap()
	}
	return netip.Addr{}
}

// nodeName is what people call this node.
func nodeName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "pen"
	}
	return name
}

// witness tells whether this node never holds an address.
func witness(m *config.Membership) bool {
	mine := func(a netip.AddrPort) bool { return a == m.Self }
	if !m.Self.IsValid() {
		local := localAddresses()
		mine = func(a netip.AddrPort) bool { return slices.Contains(local, a.Addr()) }
	}
	i := slices.IndexFunc(m.Peers, func(p config.Peer) bool { return mine(p.Addr) })
	return i >= 0 && m.Peers[i].Witness
}

func localAddresses() []netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the node then keeps what a holder needs
	}
	var all []netip.Addr
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all
}
