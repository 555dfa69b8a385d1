package vip

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Deafen says which packets the kernel shall not hear although it holds the address:
// somebody else has taken them before it, and it would answer that nobody listens there.
// It replaces what an earlier call said, and never waits. Without the kernel lease it
// can not be done; then Passing never is true.
func (v *VIP) Deafen(ports []Port) {
	v.mu.Lock()
	same := slices.Equal(v.deaf, ports)
	v.deaf = slices.Clone(ports)
	v.mu.Unlock()
	if !same {
		kick(v.leaseKick)
	}
}

// Passing tells whether, at this moment, packets to the addresses may be taken and
// whether anybody may be told where they are: the lease stands, and the kernel lease has
// been opened. It is for those who take packets past the kernel, where its fences do not
// reach, and who ask just before they do anything with them.
func (v *VIP) Passing() (packets, answers bool) {
	v.mu.Lock()
	fence := v.facts.fence
	v.mu.Unlock()
	if !fence {
		return false, false
	}
	return v.allowed()
}

// deafness is what Deafen has said last.
func (v *VIP) deafness() []Port {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.deaf
}

// deafen adds the rules for the ports that the kernel shall not hear.
func (f *fence) deafen(c *nftables.Conn, in *nftables.Chain) {
	for _, p := range f.deaf {
		if !slices.Contains(f.addrs, p.Addr) {
			continue
		}
		matches := [][]expr.Any{addressed(p.Addr), protocol(unix.IPPROTO_TCP)}
		if p.UDP {
			matches[1] = protocol(unix.IPPROTO_UDP)
		}
		if p.Port != 0 {
			const destination = 2
			matches = append(matches, equal(expr.PayloadBaseTransportHeader, destination, binary.BigEndian.AppendUint16(nil, p.Port)))
		}
		exprs := append(slices.Concat(matches...), &expr.Verdict{Kind: expr.VerdictDrop})
		c.AddRule(&nftables.Rule{Table: in.Table, Chain: in, Exprs: exprs})
		f.made++
	}
}

// addressed matches packets to an address.
func addressed(a netip.Addr) []expr.Any {
	const ip4To, ip6To = 16, 24
	if a.Is4() {
		return slices.Concat(family(unix.NFPROTO_IPV4), equal(expr.PayloadBaseNetworkHeader, ip4To, a.AsSlice()))
	}
	return slices.Concat(family(unix.NFPROTO_IPV6), equal(expr.PayloadBaseNetworkHeader, ip6To, a.AsSlice()))
}
