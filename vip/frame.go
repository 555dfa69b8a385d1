package vip

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
)

const (
	ethernetLen   = 14
	ipv6Len       = 40
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd
	icmpv6        = 58
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nobody    = net.HardwareAddr{0, 0, 0, 0, 0, 0}
	allNodes  = netip.MustParseAddr("ff02::1")
)

// announcement is the frame that tells all neighbours that addr is at mac.
//
// For IPv4 it is a gratuitous ARP in the form of a request: Linux ignores the
// form of a reply for a second after the entry has changed. For IPv6 it is an
// unsolicited neighbour advertisement with Override.
func announcement(mac net.HardwareAddr, addr netip.Addr) ([]byte, error) {
	if addr.Is4() {
		return arpFrame(mac, addr, addr)
	}
	return ndpFrame(mac, addr, allNodes, &ndp.NeighborAdvertisement{
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	})
}

// probe is the frame that makes another owner of addr answer, and that changes
// nobody's mind about where it is (RFC 5227 2.1.1, RFC 4862 5.4.2).
func probe(mac net.HardwareAddr, addr netip.Addr) ([]byte, error) {
	if addr.Is4() {
		return arpFrame(mac, netip.IPv4Unspecified(), addr)
	}
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return nil, err
	}
	return ndpFrame(mac, netip.IPv6Unspecified(), group, &ndp.NeighborSolicitation{TargetAddress: addr})
}

func arpFrame(mac net.HardwareAddr, sender, target netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(arp.OperationRequest, mac, sender, nobody, target)
	if err != nil {
		return nil, err
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return append(ethernetHeader(broadcast, mac, etherTypeARP), b...), nil
}

func ndpFrame(mac net.HardwareAddr, from, to netip.Addr, m ndp.Message) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(m, from, to)
	if err != nil {
		return nil, err
	}
	group := to.As16()
	b := ethernetHeader(net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}, mac, etherTypeIPv6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, icmpv6, ndp.HopLimit)
	b = append(b, from.AsSlice()...)
	b = append(b, group[:]...)
	return append(b, body...), nil
}

func ethernetHeader(to, from net.HardwareAddr, kind uint16) []byte {
	b := make([]byte, 0, 128)
	b = append(b, to...)
	b = append(b, from...)
	return binary.BigEndian.AppendUint16(b, kind)
}

// claimOf reads from a frame who claims which address: the sender of any ARP
// packet, the target of a neighbour advertisement, the sender of a neighbour
// solicitation. False: the frame claims nothing.
func claimOf(frame []byte) (addr netip.Addr, mac net.HardwareAddr, ok bool) {
	if len(frame) < ethernetLen {
		return addr, nil, false
	}
	source, body := net.HardwareAddr(frame[6:12]), frame[ethernetLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP:
		addr, mac = arpClaim(body)
	case etherTypeIPv6:
		addr, mac = ndpClaim(body)
	}
	if !addr.IsValid() || addr.IsUnspecified() {
		return netip.Addr{}, nil, false
	}
	if mac == nil {
		mac = source
	}
	return addr, append(net.HardwareAddr(nil), mac...), true
}

// arpClaim reads the fixed form of Ethernet and IPv4 only: other lengths are
// none of our business.
func arpClaim(b []byte) (netip.Addr, net.HardwareAddr) {
	const ipv4ByEthernet = 0x0001_0800_06_04
	if len(b) < 28 || binary.BigEndian.Uint64(b)>>16 != ipv4ByEthernet {
		return netip.Addr{}, nil
	}
	return netip.AddrFrom4([4]byte(b[14:18])), net.HardwareAddr(b[8:14])
}

func ndpClaim(b []byte) (netip.Addr, net.HardwareAddr) {
	// Extension headers do not occur in neighbour discovery (RFC 6980), and a hop
	// limit below 255 would come from elsewhere than this segment.
	if len(b) < ipv6Len || b[6] != icmpv6 || b[7] != ndp.HopLimit {
		return netip.Addr{}, nil
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length > len(b)-ipv6Len {
		return netip.Addr{}, nil
	}
	m, err := ndp.ParseMessage(b[ipv6Len : ipv6Len+length])
	if err != nil {
		return netip.Addr{}, nil
	}
	switch m := m.(type) {
	case *ndp.NeighborAdvertisement:
		return m.TargetAddress, linkLayer(m.Options, ndp.Target)
	case *ndp.NeighborSolicitation:
		return netip.AddrFrom16([16]byte(b[8:24])), linkLayer(m.Options, ndp.Source)
	}
	return netip.Addr{}, nil
}

func linkLayer(options []ndp.Option, way ndp.Direction) net.HardwareAddr {
	for _, o := range options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == way {
			return l.Addr
		}
	}
	return nil
}
