//go:build linux

package lab

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pids are the processes on the node, the youngest first.
func (n *Node) Pids() []int { return n.cell.pids() }

// Signal sends a signal to all processes on the node, at one moment.
func (n *Node) Signal(s syscall.Signal) { signalAll(n.Pids(), s) }

// LinkDown pulls the cable out of the node's front interface, which notices.
func (n *Node) LinkDown() error { return n.lab.sw.do(func() error { return setUp(n.port(), false) }) }

// LinkUp puts the cable in again.
func (n *Node) LinkUp() error { return n.lab.sw.do(func() error { return setUp(n.port(), true) }) }

// Rename gives the node's front interface another name, and what it had.
func (n *Node) Rename(from, to string) error {
	if err := ip(n.Namespace, fmt.Sprintf("link set %s down\nlink set %s name %s", from, from, to)); err != nil {
		return err
	}
	return n.configureFront(to)
}

// Unmake takes the node's front interface away, as with a driver that is unloaded.
func (n *Node) Unmake() error { return ip(n.lab.sw.name, "link del "+n.port()) }

// Remake makes an interface in its place. It has the same name, and nothing else
// of the one before.
func (n *Node) Remake() error {
	if err := ip(n.lab.sw.name, cable(n.port(), "front", n.cell, "eth0", 0, firstNode+n.number)); err != nil {
		return err
	}
	return n.configureFront("eth0")
}

// PowerOff takes the node out of the network without a word, and then ends its
// processes. Nothing of what their ends would tell gets out.
func (n *Node) PowerOff() error {
	pids := n.Pids()
	err := n.lab.sw.do(func() error {
		for port, bridge := range n.ports() {
			if err := setPort(bridge, port, unix.SIOCBRDELIF); err != nil {
				return err
			}
		}
		return nil
	})
	signalAll(pids, syscall.SIGKILL)
	return err
}

// PowerOn puts a node back into the network whose power was off. What it has
// remembered in the kernel is gone: addresses that nobody configured, and the packet filter.
func (n *Node) PowerOn() error {
	if err := n.cell.do(func() error { return feed("flush ruleset", "nft", "-f", "-") }); err != nil {
		return err
	}
	for _, link := range []string{"eth0", "eth1"} {
		if err := ip(n.Namespace, "addr flush dev "+link); err != nil {
			return err
		}
	}
	if err := n.configure(); err != nil {
		return err
	}
	return n.lab.sw.do(func() error {
		for port, bridge := range n.ports() {
			if err := setPort(bridge, port, unix.SIOCBRADDIF); err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *Node) ports() map[string]string {
	return map[string]string{n.port(): "front", n.backPort(): "back"}
}

// setPort adds a port to a bridge or takes it out. An ioctl is done in
// microseconds, where starting a program takes milliseconds.
func setPort(bridge, port string, request uint) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ask, err := unix.NewIfreq(port)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ask); err != nil {
		return fmt.Errorf("find port %s: %w", port, err)
	}
	to, err := unix.NewIfreq(bridge)
	if err != nil {
		return err
	}
	to.SetUint32(ask.Uint32())
	if err := unix.IoctlIfreq(fd, request, to); err != nil {
		return fmt.Errorf("port %s of bridge %s: %w", port, bridge, err)
	}
	return nil
}

// setUp sets a link of this thread's namespace up or down.
func setUp(link string, up bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(link)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("flags of %s: %w", link, err)
	}
	flags := request.Uint16() &^ unix.IFF_UP
	if up {
		flags |= unix.IFF_UP
	}
	request.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("set flags of %s: %w", link, err)
	}
	return nil
}

// A Side is a part of the front network: nodes, and maybe the clients. The
// observer is on every side, so that it sees who answers on any of them.
type Side struct {
	Nodes   []*Node
	Clients bool
}

func (s Side) ports() (ports []string) {
	for _, n := range s.Nodes {
		ports = append(ports, n.port())
	}
	if s.Clients {
		ports = append(ports, "client")
	}
	return ports
}

// Partition lets nothing pass between the two sides, in either direction.
func (l *Lab) Partition(a, b Side) error { return l.cut(append(pairs(a, b), pairs(b, a)...)) }

// CutFrom lets nothing pass that a sends to b. What b sends to a still arrives.
func (l *Lab) CutFrom(a, b Side) error { return l.cut(pairs(a, b)) }

// CutPort lets nothing pass between the two sides that is from or to the cluster's
// port, in either direction. The rest passes, ARP too.
func (l *Lab) CutPort(a, b Side) error {
	return l.add("mute", append(pairs(a, b), pairs(b, a)...))
}

// Heal ends all partitions.
func (l *Lab) Heal() error { return l.nft("flush set bridge lab cut\nflush set bridge lab mute") }

func pairs(from, to Side) (pairs []string) {
	for _, a := range from.ports() {
		for _, b := range to.ports() {
			pairs = append(pairs, fmt.Sprintf("%q . %q", a, b))
		}
	}
	return pairs
}

func (l *Lab) cut(pairs []string) error { return l.add("cut", pairs) }

func (l *Lab) add(set string, pairs []string) error {
	if len(pairs) == 0 {
		return nil
	}
	return l.nft("add element bridge lab " + set + " { " + strings.Join(pairs, ", ") + " }")
}
