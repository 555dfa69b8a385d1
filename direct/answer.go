package direct

import (
	"encoding/binary"
	"net/netip"
)

// The frames that we make ourselves. Each is put at the end of b, which is returned.

func ethernet(b []byte, to, from mac, kind uint16) []byte {
	b = append(b, to[:]...)
	b = append(b, from[:]...)
	return binary.BigEndian.AppendUint16(b, kind)
}

// tell answers that addr is at own. Who asked without an address of its own looks
// whether anybody has this one, and for IPv6 can only be told as everybody is.
func tell(b []byte, own mac, addr netip.Addr, to mac, asker netip.Addr) []byte {
	if addr.Is4() {
		b = ethernet(b, to, own, etherTypeARP)
		return arpBody(b, 2, own, addr, to, asker)
	}
	const solicited, override = 0x40, 0x20
	flags := byte(solicited | override)
	if asker.IsUnspecified() {
		asker, to, flags = allNodes, groupMAC(allNodes), override
	}
	b = ethernet(b, to, own, etherTypeIPv6)
	return discovery(b, advertisement, flags, addr, asker, addr, 2, own)
}

// ask asks where addr is, without an address of our own: everybody, or who had it
// last. Nobody changes its mind by being asked.
func ask(b []byte, own mac, addr netip.Addr, to mac) []byte {
	everybody := to == mac{}
	if addr.Is4() {
		if everybody {
			to = broadcast
		}
		b = ethernet(b, to, own, etherTypeARP)
		return arpBody(b, 1, own, netip.IPv4Unspecified(), mac{}, addr)
	}
	group := solicitedNode(addr)
	if everybody {
		to = groupMAC(group)
	}
	b = ethernet(b, to, own, etherTypeIPv6)
	return discovery(b, solicitation, 0, netip.IPv6Unspecified(), group, addr, 0, own)
}

// announce tells everybody that addr is at own. For IPv4 in the form of a request:
// Linux ignores that of a reply for a second after a change.
func announce(b []byte, own mac, addr netip.Addr) []byte {
	if addr.Is4() {
		return arpBody(ethernet(b, broadcast, own, etherTypeARP), 1, own, addr, mac{}, addr)
	}
	return tell(b, own, addr, mac{}, netip.IPv6Unspecified())
}

func arpBody(b []byte, op uint16, sender mac, from netip.Addr, target mac, to netip.Addr) []byte {
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(b, sender[:]...)
	b = appendAddr(b, from)
	b = append(b, target[:]...)
	return appendAddr(b, to)
}

// discovery is a message of neighbour discovery; option is the kind of the link
// layer address that it carries, 0 for none.
func discovery(b []byte, kind, flags byte, from, to, target netip.Addr, option byte, own mac) []byte {
	size := 24
	if option != 0 {
		size += 8
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = append(b, icmp6, 255)
	b = appendAddr(appendAddr(b, from), to)
	body := len(b)
	b = append(b, kind, 0, 0, 0, flags, 0, 0, 0)
	b = appendAddr(b, target)
	if option != 0 {
		b = append(append(b, option, 1), own[:]...)
	}
	binary.BigEndian.PutUint16(b[body+2:], checksum(b[body:], pseudo(from, to, icmp6, size)))
	return b
}

var allNodes = netip.MustParseAddr("ff02::1")

// solicitedNode is the group in which who has addr is asked (RFC 4291 2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	a, g := addr.As16(), [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff}
	copy(g[13:], a[13:])
	return netip.AddrFrom16(g)
}

func groupMAC(group netip.Addr) mac {
	g := group.As16()
	return mac{0x33, 0x33, g[12], g[13], g[14], g[15]}
}

// What the tarpit says of itself. The sequence number is the original's. The window
// is so small that hardly anything can be said in it, and what is said is never
// acknowledged: the other side waits for as long as it has patience.
const (
	tarSequence = 42
	tarWindow   = 3
	tarTTL      = 64
)

// swallow accepts the connection that a SYN asks for. syn is what frame was parsed to.
func swallow(b []byte, own mac, frame []byte, syn packet) []byte {
	to := mac(frame[6:12])
	if syn.dst.Is4() {
		b = ethernet(b, to, own, etherTypeIPv4)
		ip := len(b)
		b = append(b, 0x45, 0, 0, ipv4Len+tcpLen, 0, 0, 0x40, 0, tarTTL, tcp, 0, 0) // do not fragment
		b = appendAddr(appendAddr(b, syn.dst), syn.src)
		binary.BigEndian.PutUint16(b[ip+10:], checksum(b[ip:], 0))
	} else {
		b = ethernet(b, to, own, etherTypeIPv6)
		b = append(b, 0x60, 0, 0, 0, 0, tcpLen, tcp, tarTTL)
		b = appendAddr(appendAddr(b, syn.dst), syn.src)
	}
	head := len(b)
	b = binary.BigEndian.AppendUint16(b, syn.dport)
	b = binary.BigEndian.AppendUint16(b, syn.sport)
	b = binary.BigEndian.AppendUint32(b, tarSequence)
	b = binary.BigEndian.AppendUint32(b, binary.BigEndian.Uint32(frame[syn.payload+4:])+1)
	b = append(b, tcpLen/4<<4, flagSYN|flagACK)
	b = binary.BigEndian.AppendUint16(b, tarWindow)
	b = append(b, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[head+16:], checksum(b[head:], pseudo(syn.dst, syn.src, tcp, tcpLen)))
	return b
}

const flagFIN, flagSYN, flagRST, flagACK = 1, 2, 4, 16

// opens tells whether a segment asks for a new connection.
func (p *packet) opens() bool {
	return p.kind == segment && p.proto == tcp && p.flags&(flagFIN|flagSYN|flagRST|flagACK) == flagSYN
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(b, four[:]...)
	}
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

// pseudo is the sum of what a checksum counts beside the message.
func pseudo(from, to netip.Addr, proto uint8, size int) uint32 {
	var b [32]byte
	return sum(appendAddr(appendAddr(b[:0], from), to)) + uint32(proto) + uint32(size)
}

func sum(b []byte) (s uint32) {
	for len(b) >= 2 {
		s += uint32(b[0])<<8 | uint32(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

// checksum is that of the Internet, over at most some kilobytes.
func checksum(b []byte, more uint32) uint16 {
	s := sum(b) + more
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
