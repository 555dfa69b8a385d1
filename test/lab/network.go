//go:build linux

package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

// patience is for commands that take milliseconds.
const patience = 30 * time.Second

// ip gives lines to iproute2, in a namespace or, without a name, in ours.
func ip(namespace, lines string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	return feed(lines, "ip", args...)
}

// nft changes the packet filter of the switch.
func (l *Lab) nft(lines string) error {
	return l.sw.do(func() error { return feed(lines, "nft", "-f", "-") })
}

// feed gives lines to a program. The program runs in the namespace of this thread.
func feed(lines, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(lines+"\n"), &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// wire lays the cables and gives out the addresses.
func (l *Lab) wire(servers int) error {
	for _, c := range l.cells() {
		if err := c.do(settle); err != nil {
			return fmt.Errorf("settings of %s: %w", c.name, err)
		}
		if err := ip(c.name, "link set lo up"); err != nil {
			return err
		}
	}
	// Without snooping a multicast goes to all, as in a switch that knows no better.
	lines := []string{
		"link add front type bridge mcast_snooping 0", "link set front up",
		"link add back type bridge mcast_snooping 0", "link set back up",
		cable("client", "front", l.clients, "eth0", 0, routerHost),
		cable("observer", "front", l.observer, "eth0", 0, askerHost),
		cable("web", "back", l.web, "eth0", 1, 1),
	}
	for i, n := range l.Nodes {
		lines = append(lines, cable(n.port(), "front", n.cell, "eth0", 0, firstNode+i),
			cable(n.backPort(), "back", n.cell, "eth1", 1, firstNode+i))
	}
	if err := ip(l.sw.name, strings.Join(lines, "\n")); err != nil {
		return err
	}
	if err := l.nft(filter); err != nil {
		return err
	}
	return l.address(servers)
}

// cable is a pair: one end is a port of a bridge, the other somebody's interface.
func cable(port, bridge string, to *cell, link string, segment, n int) string {
	return fmt.Sprintf("link add %s type veth peer name %s netns %s address %s\nlink set %s master %s\nlink set %s up",
		port, link, to.name, hardware(segment, n), port, bridge, port)
}

func (n *Node) port() string     { return n.Name }
func (n *Node) backPort() string { return n.Name + "b" }

// filter is where partitions are made: pairs of ports between which nothing passes.
const filter = `table bridge lab {
	set cut { typeof iifname . oifname; }
	set mute { typeof iifname . oifname; }
	chain forward {
		type filter hook forward priority 0
		iifname . oifname @cut drop
		iifname . oifname @mute meta l4proto { tcp, udp } th dport 7950 drop
		iifname . oifname @mute meta l4proto { tcp, udp } th sport 7950 drop
	}
}`

func (l *Lab) address(servers int) error {
	for _, n := range l.Nodes {
		if err := n.configure(); err != nil {
			return err
		}
	}
	// The router itself has all the clients' addresses.
	lines := up("eth0", host(front, routerHost)) + fmt.Sprintf("route add local %s dev lo", clients)
	if err := ip(l.clients.name, lines); err != nil {
		return err
	}
	// It asks for its neighbours in its own name and not in a client's.
	if err := l.clients.do(func() error { return set("ipv4/conf/all/arp_announce", "2") }); err != nil {
		return err
	}
	// The observer speaks in frames only.
	if err := ip(l.observer.name, "link set eth0 up"); err != nil {
		return err
	}
	lines = ""
	for i := range servers {
		lines += up("eth0", host(back, 1+i))
	}
	return ip(l.web.name, lines)
}

// configure gives a node what a machine has after its start.
func (n *Node) configure() error {
	if err := ip(n.Namespace, up("eth1", host(back, firstNode+n.number))); err != nil {
		return err
	}
	return n.configureFront("eth0")
}

// configureFront gives a node what its front interface has, which maybe has another
// name by now. What is there already stays.
func (n *Node) configureFront(link string) error {
	lines := fmt.Sprintf("link set %s up\naddr replace %s/24 dev %s\nroute replace %s via %s dev %s",
		link, n.Addr, link, clients, host(front, routerHost), link)
	if err := ip(n.Namespace, lines); err != nil {
		return err
	}
	return n.configure6(link)
}

func up(link string, addr netip.Addr) string {
	return fmt.Sprintf("link set %s up\naddr add %s/24 dev %s\n", link, addr, link)
}

// settle sets what must not depend on the machine.
func settle() error {
	for name, value := range map[string]string{
		"ipv6/conf/all/disable_ipv6":     "1",
		"ipv6/conf/default/disable_ipv6": "1",
		"ipv4/conf/all/rp_filter":        "0",
		"ipv4/conf/default/rp_filter":    "0",
		"ipv4/ip_local_port_range":       "2048 65535",
		"ipv4/tcp_no_metrics_save":       "1",
	} {
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func set(name, value string) error {
	// The kernel looks at the namespace of the thread that opens the file.
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}
