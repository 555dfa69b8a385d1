//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Where everybody is in IPv6. The front network's machines have these beside
// their addresses of IPv4 after Dual.
var (
	VIP6     = netip.MustParseAddr("fd00:0:0:a::10")
	front6   = netip.MustParsePrefix("fd00:0:0:a::/64")
	clients6 = netip.MustParsePrefix("fd00:0:0:c::/64")
	gateway6 = netip.MustParseAddr("fe80::1") // the clients' router, and nobody can ask beyond the link
)

// Addr6 is the node's address after Dual.
func (n *Node) Addr6() netip.Addr { return host6(front6, firstNode+n.number) }

// ClientAddr6 is the address of a client after Dual.
func ClientAddr6(client int) netip.Addr { return host6(clients6, 1+client) }

// host6 is the address number n of a network, read as people read decimals: pen1
// is ::11.
func host6(p netip.Prefix, n int) netip.Addr {
	return netip.MustParseAddr(strings.TrimSuffix(p.Addr().String(), "::") + fmt.Sprintf("::%d", n))
}

// Dual gives the front network IPv6, too. The way from the nodes to the clients
// leads over a gateway that has only a link-local address there.
func (l *Lab) Dual() error {
	l.dual = true
	for _, n := range l.Nodes {
		if err := n.configure6("eth0"); err != nil {
			return err
		}
	}
	// A local route is enough to be bound to in IPv4, and not in IPv6.
	if err := l.clients.do(func() error { return set("ipv6/ip_nonlocal_bind", "1") }); err != nil {
		return err
	}
	lines := fmt.Sprintf("addr add %s/64 dev eth0 nodad\naddr add %s/64 dev eth0 nodad\nroute add local %s dev lo",
		host6(front6, routerHost), gateway6, clients6)
	return l.clients.dual("eth0", lines)
}

// configure6 gives a node its address and its way to the clients in IPv6, as far as
// they are not there.
func (n *Node) configure6(link string) error {
	if !n.lab.dual {
		return nil
	}
	return n.cell.dual(link, fmt.Sprintf("addr replace %s/64 dev %s nodad\nroute replace %s via %s dev %s", n.Addr6(), link, clients6, gateway6, link))
}

func (c *cell) dual(link, lines string) error {
	err := c.do(func() error {
		conf := "ipv6/conf/" + link
		return errors.Join(set(conf+"/accept_dad", "0"), set("ipv6/conf/lo/disable_ipv6", "0"), set(conf+"/disable_ipv6", "0"))
	})
	if err != nil {
		return err
	}
	return ip(c.name, lines)
}

// Advertisement is one that tells all neighbours where the virtual address is.
type Advertisement struct {
	At       time.Time
	Node     string // empty: none of the nodes
	Override bool
}

// Discovery is what an observer has seen of neighbour discovery. It is made by
// Lab.Discover.
type Discovery struct {
	// Answers are rows of questions that the same nodes have answered.
	Answers []Answer
	// Advertisements that nobody had asked for.
	Advertisements []Advertisement
	Began          time.Time // of the first question
	Stalls         []Stall
	Err            error
}

// Doubles are the questions that two nodes have answered.
func (d Discovery) Doubles() (n int) {
	for _, a := range d.Answers {
		if len(a.Nodes) > 1 {
			n += a.Questions
		}
	}
	return n
}

// discoverer asks in neighbour solicitations who has the virtual address, as
// asker does in ARP: each question has a sender of its own, to whom the answer goes.
type discoverer struct {
	lab       *Lab
	began     time.Time
	fd, timer int
	nodes     map[[6]byte]int
	count     int
	ring      [asked]question
	answers   []answers
	spoken    []Advertisement
	stalls    []Stall
}

// Discover looks on until stop is closed.
func (l *Lab) Discover(stop <-chan struct{}) (<-chan Discovery, error) {
	d := &discoverer{lab: l, began: time.Now(), fd: -1, timer: -1, nodes: map[[6]byte]int{}}
	for i, n := range l.Nodes {
		d.nodes[[6]byte(n.mac())] = i
	}
	if err := l.observer.do(d.open); err != nil {
		d.close()
		return nil, fmt.Errorf("observer of neighbour discovery: %w", err)
	}
	seen := make(chan Discovery, 1)
	go func() { seen <- d.run(stop) }()
	return seen, nil
}

func (d *discoverer) open() (err error) {
	if d.timer, err = ticker(askEvery); err != nil {
		return err
	}
	proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6))
	if d.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(proto)); err != nil {
		return err
	}
	index, err := linkIndex(d.fd, "eth0")
	if err != nil {
		return err
	}
	// Answers go to addresses that no interface has: the bridge sends them to all
	// until it has learned the link address, which is ours.
	return unix.Bind(d.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index})
}

func (d *discoverer) close() {
	unix.Close(d.fd)
	unix.Close(d.timer)
}

func (d *discoverer) run(stop <-chan struct{}) (seen Discovery) {
	defer d.close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.timer), Events: unix.POLLIN}}
	for ended := false; !ended; {
		select {
		case <-stop:
			ended = true
		default:
		}
		if _, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) {
			seen.Err = err
			ended = true
		}
		d.hear()
		if n := ticks(d.timer); n > 0 {
			d.late(time.Duration(n-1) * askEvery)
			d.ask()
		}
	}
	for _, a := range d.answers {
		seen.Answers = append(seen.Answers, Answer{a.names(d.lab.nodeName), d.began.Add(a.from), d.began.Add(a.to), a.questions})
	}
	seen.Advertisements, seen.Began, seen.Stalls = d.spoken, d.began, d.stalls
	return seen
}

// late notes that the observer did not come round in time.
func (d *discoverer) late(by time.Duration) {
	if by >= worth && len(d.stalls) < maxSpoken {
		d.stalls = append(d.stalls, Stall{time.Now(), by})
	}
}

func (d *discoverer) ask() {
	slot := &d.ring[d.count%asked]
	if d.count >= asked && len(d.answers) < maxAnswers {
		d.answers = appendAnswer(d.answers, *slot)
	}
	*slot = question{at: time.Since(d.began)}
	_, _ = unix.Write(d.fd, solicitation(d.count%asked)) // one that is lost is not answered
	d.count++
}

// The bytes of neighbour discovery (RFC 4861) over Ethernet.
const (
	ip6At, icmpAt     = 14, 54
	neighbourSolicit  = 135
	neighbourAdvert   = 136
	solicitationSize  = icmpAt + 32
	advertisementSize = icmpAt + 24
	overrideFlag      = 0x20
)

// asker6 is who asks in that slot.
func asker6(slot int) netip.Addr { return host6(front6, 1000+slot) }

func solicitation(slot int) []byte {
	mac, target := hardware(0, askerHost), VIP6.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}).As16()
	from := asker6(slot).As16()
	b := []byte{0x33, 0x33, group[12], group[13], group[14], group[15]}
	b = append(b, mac...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255)
	b = append(b, from[:]...)
	b = append(b, group[:]...)
	body := []byte{neighbourSolicit, 0, 0, 0, 0, 0, 0, 0}
	body = append(body, target[:]...)
	body = append(body, 1, 1)
	body = append(body, mac...)
	binary.BigEndian.PutUint16(body[2:], checksum6(from, group, body))
	return append(b, body...)
}

// checksum6 is that of ICMPv6 (RFC 4443 2.3).
func checksum6(from, to [16]byte, body []byte) uint16 {
	var sum uint32
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
	}
	add(from[:])
	add(to[:])
	add(body) // of even length
	sum += uint32(len(body)) + 58
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (d *discoverer) hear() {
	var b [256]byte
	for {
		n, err := unix.Read(d.fd, b[:])
		if err != nil {
			return // nothing more
		}
		if n < advertisementSize || b[ip6At+6] != 58 || b[icmpAt] != neighbourAdvert || netip.AddrFrom16([16]byte(b[icmpAt+8:])) != VIP6 {
			continue
		}
		node, known := d.nodes[[6]byte(b[6:12])]
		to := netip.AddrFrom16([16]byte(b[ip6At+24:]))
		if to.IsMulticast() {
			if len(d.spoken) < maxSpoken {
				d.spoken = append(d.spoken, Advertisement{time.Now(), d.name(node, known), b[icmpAt+4]&overrideFlag != 0})
			}
			continue
		}
		for i := range d.ring {
			if known && asker6(i) == to {
				d.ring[i].nodes |= 1 << node
			}
		}
	}
}

func (d *discoverer) name(node int, known bool) string {
	if !known {
		return ""
	}
	return d.lab.nodeName(node)
}
