package direct

import (
	"encoding/binary"
	"net/netip"
)

// A mac is the address of a machine on its segment of network.
type mac [6]byte

var broadcast = mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

const (
	ethernetLen = 14
	arpLen      = 28
	ipv4Len     = 20
	ipv6Len     = 40
	tcpLen      = 20

	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd

	icmp4 = 1
	tcp   = 6
	udp   = 17
	icmp6 = 58

	hopByHop    = 0
	routing     = 43
	fragment    = 44
	destination = 60

	solicitation  = 135
	advertisement = 136
)

// kind is what a frame is about, as far as it is about us.
type kind uint8

const (
	other   kind = iota // nothing to us
	broken              // says that it is something, and is not
	arpAsk              // who has dst? src tells from is its
	arpTell             // src is at from
	ndAsk               // the same for IPv6
	ndTell
	segment // TCP or UDP, with its ports
	piece   // of a datagram, not the first: without ports
	report  // an ICMP error about a packet that a server has sent as ours
)

// A packet is what parse reads from a frame.
type packet struct {
	kind  kind
	proto uint8 // TCP or UDP; of a report, what it is about
	flags uint8 // of TCP
	more  bool  // pieces follow
	// src is the client and dst the address that it talks to, also in a report, which
	// is about a packet the other way.
	src, dst     netip.Addr
	sport, dport uint16
	id           uint32 // of the datagram that pieces belong to
	from         mac    // link layer address that src claims in arpAsk, arpTell, ndAsk, ndTell
	at           int    // where the network header begins
	payload      int    // where that of TCP or UDP begins
}

// parse reads a frame. It allocates nothing, and what it finds lies within the frame.
func parse(b []byte) packet {
	p := packet{at: ethernetLen}
	if len(b) < ethernetLen {
		return p
	}
	copy(p.from[:], b[6:12])
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherTypeARP:
		p.arp(b[ethernetLen:])
	case etherTypeIPv4:
		p.ipv4(b[ethernetLen:])
	case etherTypeIPv6:
		p.ipv6(b[ethernetLen:])
	}
	return p
}

// arp reads the form of Ethernet and IPv4: there is no other that we know.
func (p *packet) arp(b []byte) {
	const ipv4ByEthernet = 0x0001_0800_06_04
	if len(b) < arpLen || binary.BigEndian.Uint64(b)>>16 != ipv4ByEthernet {
		return
	}
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		p.kind = arpAsk
	case 2:
		p.kind = arpTell
	default:
		return
	}
	copy(p.from[:], b[8:14])
	p.src, p.dst = netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
}

func (p *packet) ipv4(b []byte) {
	if len(b) < ipv4Len {
		p.kind = broken
		return
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		total = len(b) // a GSO frame of 64 KiB and more
	}
	if b[0]>>4 != 4 || head < ipv4Len || total < head || total > len(b) {
		p.kind = broken
		return
	}
	p.src, p.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.proto, p.id = b[9], uint32(binary.BigEndian.Uint16(b[4:]))
	part := binary.BigEndian.Uint16(b[6:])
	p.more = part&0x2000 != 0
	p.payload = p.at + head
	if part&0x1fff != 0 {
		p.kind = piece
		return
	}
	if p.proto == icmp4 {
		p.report(b[head:total], 8, func(kind uint8) bool { return kind == 3 || kind == 11 || kind == 12 })
		return
	}
	p.transport(b[head:total])
}

func (p *packet) ipv6(b []byte) {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		p.kind = broken
		return
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if total == ipv6Len {
		total = len(b) // likewise
	}
	if total > len(b) {
		p.kind = broken
		return
	}
	p.src, p.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, at := b[6], ipv6Len
	// What comes before the transport is walked through, to the length that anybody
	// has a use for.
	for range 8 {
		rest := b[at:total]
		switch next {
		case hopByHop, routing, destination:
			if len(rest) < 8 || len(rest) < 8+8*int(rest[1]) {
				p.kind = broken
				return
			}
			next, at = rest[0], at+8+8*int(rest[1])
			continue
		case fragment:
			if len(rest) < 8 {
				p.kind = broken
				return
			}
			part := binary.BigEndian.Uint16(rest[2:])
			p.more, p.id = part&1 != 0, binary.BigEndian.Uint32(rest[4:])
			next, at = rest[0], at+8
			if part&0xfff8 != 0 {
				p.kind, p.proto = piece, next
				return
			}
			continue
		}
		break
	}
	p.proto, p.payload = next, p.at+at
	if next == icmp6 {
		p.icmp6(b[at:total], b[7])
		return
	}
	p.transport(b[at:total])
}

// icmp6 reads neighbour discovery, which comes from this segment alone, and errors.
func (p *packet) icmp6(b []byte, hops uint8) {
	const targetAt, options = 8, 24
	if len(b) < options || b[0] != solicitation && b[0] != advertisement {
		p.report(b, 8, func(kind uint8) bool { return 1 <= kind && kind <= 4 })
		return
	}
	if hops != 255 || b[1] != 0 {
		p.kind = broken
		return
	}
	target := netip.AddrFrom16([16]byte(b[targetAt:options]))
	const sourceLink, targetLink = 1, 2
	if b[0] == solicitation {
		p.kind, p.dst = ndAsk, target
		p.option(b[options:], sourceLink)
		return
	}
	p.kind, p.src = ndTell, target
	p.option(b[options:], targetLink)
}

// option looks for a link layer address among the options. Without one it is where
// the frame came from.
func (p *packet) option(b []byte, which uint8) {
	for len(b) >= 8 && b[1] != 0 && int(b[1])*8 <= len(b) {
		if b[0] == which && b[1] == 1 {
			copy(p.from[:], b[2:8])
			return
		}
		b = b[int(b[1])*8:]
	}
}

func (p *packet) transport(b []byte) {
	switch {
	case p.proto != tcp && p.proto != udp:
		return
	case p.proto == tcp && len(b) < tcpLen, len(b) < 8:
		p.kind = broken
		return
	}
	p.kind = segment
	p.sport, p.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if p.proto == tcp {
		p.flags = b[13]
	}
}

// report reads an ICMP error. What it cites is a packet that has left a server for a
// client, from the address that the error has come to.
func (p *packet) report(b []byte, head int, is func(uint8) bool) {
	if len(b) < head || !is(b[0]) {
		return
	}
	cited := packet{}
	address := p.dst
	if inner := b[head:]; address.Is4() {
		if len(inner) < ipv4Len || inner[0]>>4 != 4 || len(inner) < int(inner[0]&15)*4+4 || inner[0]&15 < 5 || binary.BigEndian.Uint16(inner[6:])&0x1fff != 0 {
			return
		}
		cited.src, cited.dst, cited.proto = netip.AddrFrom4([4]byte(inner[12:16])), netip.AddrFrom4([4]byte(inner[16:20])), inner[9]
		cited.ports(inner[int(inner[0]&15)*4:])
	} else {
		if len(inner) < ipv6Len+4 || inner[0]>>4 != 6 {
			return
		}
		cited.src, cited.dst, cited.proto = netip.AddrFrom16([16]byte(inner[8:24])), netip.AddrFrom16([16]byte(inner[24:40])), inner[6]
		cited.ports(inner[ipv6Len:])
	}
	if cited.src != address || cited.proto != tcp && cited.proto != udp {
		return
	}
	p.kind, p.proto = report, cited.proto
	p.src, p.sport, p.dport = cited.dst, cited.dport, cited.sport
}

func (p *packet) ports(b []byte) {
	p.sport, p.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
}
