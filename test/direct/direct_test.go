//go:build linux

package direct

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/test/rig"
)

// node is a running pen.
type node struct {
	*segment
	name    string
	process *rig.Process
	control string
}

// pen starts one on a machine, with the lines of its file.
func (s *segment) pen(name string, lines ...string) *node {
	s.t.Helper()
	n := &node{segment: s, name: name, control: filepath.Join(s.dir, name+".control")}
	file := rig.WriteFile(s.t, s.dir, name+".conf", strings.Join(lines, "\n")+"\n")
	n.process = s.start(name, nil, rig.Pen(s.t), "-f", "-u", "root", "-C", n.control, "-F", file)
	if !rig.Eventually(rig.Patience, func() bool { _, err := os.Stat(n.control); return err == nil || n.process.Exited() }) || n.process.Exited() {
		s.t.Fatalf("pen does not start: %s", n.process.Stderr())
	}
	return n
}

// tell gives a command.
func (n *node) tell(words ...string) string {
	n.t.Helper()
	c, err := net.Dial("unix", n.control)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(rig.Patience))
	fmt.Fprintln(c, strings.Join(words, " "))
	all, err := io.ReadAll(c)
	if err != nil {
		n.t.Errorf("%s: %v", strings.Join(words, " "), err)
	}
	return string(all)
}

// counter reads one; -1: there is none.
func (n *node) counter(name string, service ...string) int {
	n.t.Helper()
	for line := range strings.Lines(n.tell(append(service, "counters")...)) {
		var got string
		var value int
		if _, err := fmt.Sscan(line, &got, &value); err == nil && got == name {
			return value
		}
	}
	return -1
}

// reaches waits until so many servers have been found.
func (n *node) reaches(servers int) {
	n.t.Helper()
	if !rig.Eventually(rig.Patience, func() bool { return n.counter("direct_servers_reachable") == servers }) {
		n.t.Fatalf("%d servers can be reached, want %d\n%s", n.counter("direct_servers_reachable"), servers, n.process.Stderr())
	}
}

// spread asks for each client and returns who serves it.
func (s *segment) spread() (all [clients]string) {
	s.t.Helper()
	for i := range all {
		all[i] = s.whose(client4(i))
	}
	return all
}

var alone = []string{
	"dsr_if eth0", fmt.Sprintf("listen %s:%d", address4, port), "server 0 address 10.9.0.21", "server 1 address 10.9.0.22",
	"service dns", "protocol udp", "dsr_if eth0", "listen " + address4, "server 0 address 10.9.0.21", "server 1 address 10.9.0.22",
	"service six", "dsr_if eth0", fmt.Sprintf("listen %s:%d", address6, port), "server 0 address fd09::21", "server 1 address 10.9.0.22",
}

func TestDirectServerReturn(t *testing.T) {
	s := newSegment(t, "p")
	n := s.pen("p", alone...)
	n.reaches(2)
	if got, want := strings.TrimSpace(n.tell("listen")), fmt.Sprintf("%s:%d", address4, port); got != want {
		t.Errorf("listen: %q, want %q", got, want)
	}

	had := s.spread()
	for i, name := range had {
		if got := s.whose(client4(i)); got != name {
			t.Errorf("client %d went from %s to %s", i, name, got)
		}
		// The choice is by address, so that of another service with the same servers is the same.
		for _, size := range []int{1, 1400, 4000, 60000} {
			if got, want := s.datagram(client4(i), size), fmt.Sprintf("%s %s %d", name, client4(i), size); got != want {
				t.Errorf("datagram of %d bytes: answered by %q, want %q", size, got, want)
			}
		}
	}
	if !strings.Contains(fmt.Sprint(had), "s1") || !strings.Contains(fmt.Sprint(had), "s2") {
		t.Errorf("all clients have the same server: %v", had)
	}
	// Frames of the size that the kernel puts together, and without checksums.
	big := strings.Repeat("x", 8<<20)
	if got, want := s.ask(client4(0), fmt.Sprintf("%s:%d", address4, port), big), fmt.Sprintf("%s %s %d", had[0], client4(0), len(big)+1); got != want {
		t.Errorf("got %.60q, want %q", got, want)
	}
	if got := s.ask("fd09::1", fmt.Sprintf("[%s]:%d", address6, port), "who"); !strings.HasSuffix(got, " fd09::1 4") {
		t.Errorf("by IPv6: %q", got)
	}
	if got := n.counter("direct_packets", "service", "six"); got <= 0 {
		t.Errorf("%d packets of the service with IPv6", got)
	}
	for _, bad := range []string{"process_direct_broken", "process_direct_dropped", "process_direct_returned", "process_direct_standby", "process_direct_overflows"} {
		if got := n.counter(bad); got != 0 {
			t.Errorf("%s %d, want 0", bad, got)
		}
	}

	t.Run("changes", func(t *testing.T) { s.t = t; n.changes(t, had) })
	t.Run("frames", func(t *testing.T) { s.t = t; n.strange(t) })
	t.Run("refused", func(t *testing.T) { s.t = t; n.refused(t) })
	s.t = t
}

// changes move new clients at once.
func (n *node) changes(t *testing.T, had [clients]string) {
	all := func(want string) {
		t.Helper()
		moved := func() bool {
			for _, got := range n.spread() {
				if got != want {
					return false
				}
			}
			return true
		}
		// The change is in force when the control port answers, but for the pause
		// between two choices.
		if !rig.Eventually(rig.Patience, moved) {
			t.Errorf("clients have %v, want all %s", n.spread(), want)
		}
	}
	n.tell("server", "0", "blacklist", "100")
	all("s2")
	n.tell("server", "0", "blacklist", "0")
	n.tell("server", "1", "address", "0.0.0.0")
	all("s1")
	n.tell("server", "1", "address", "10.9.0.22")
	if !rig.Eventually(rig.Patience, func() bool { return n.spread() == had }) {
		t.Errorf("clients have %v, had %v", n.spread(), had)
	}
	// A machine that does not answer ARP is passed by, whatever anybody says.
	n.in("b", "ip", "link", "set", "s1", "down")
	if !rig.Eventually(3*rig.Patience, func() bool { return n.counter("direct_servers_reachable") == 1 }) {
		t.Fatal("a server that is gone counts as reachable")
	}
	all("s2")
	n.in("b", "ip", "link", "set", "s1", "up")
	n.reaches(2)
	if !rig.Eventually(rig.Patience, func() bool { return n.spread() == had }) {
		t.Errorf("clients have %v, had %v", n.spread(), had)
	}
}

// strange frames are left alone: those for another machine, and those of another network.
func (n *node) strange(t *testing.T) {
	n.in("p", "ip", "link", "set", "eth0", "promisc", "on")
	const syn = "\x45\x00\x00\x28\x00\x07\x00\x00\x40\x06\x66\x49\x0a\x09\x00\x65\x0a\x09\x00\x0a\x0f\xa0\x1f\x90\x00\x00\x03\xe8\x00\x00\x00\x00\x50\x02\xfa\xf0\x00\x00\x00\x00"
	const pen, nobody, client = "\x02\x00\x00\x00\x00\x04", "\x02\x00\x00\x00\x00\xff", "\x02\x00\x00\x00\x00\x01"
	before := n.counter("direct_packets")
	n.frames(
		[]byte(nobody+client+"\x08\x00"+syn),
		[]byte(pen+client+"\x81\x00\x00\x07\x08\x00"+syn),
		[]byte("\xff\xff\xff\xff\xff\xff"+client+"\x08\x00"+syn),
		[]byte(pen+client+"\x08\x00"+syn),
	)
	if !rig.Eventually(rig.Patience, func() bool { return n.counter("direct_packets") > before }) {
		t.Fatal("a frame for this machine was not sent on")
	}
	// It was sent last, and its checksum is wrong, so that nobody answers it.
	if got := n.counter("direct_packets") - before; got != 1 {
		t.Errorf("%d frames sent on, want 1", got)
	}
}

// refused is what can not be, with the reason.
func (n *node) refused(t *testing.T) {
	for _, c := range []struct{ words, want string }{
		{"dsr_if nonesuch0", "no interface nonesuch0"},
		{"dsr_if lo", "no neighbours"},
		{"listen 127.0.0.1:80", "127.0.0.1 is an address of this machine"},
		{"listen 80", "name the address that the servers have"},
		{"tarpit_acl 5", "access list 5 is empty"},
		{"server 1 address " + address4, "the address that clients talk to"},
	} {
		out := n.tell(c.words)
		if !strings.Contains(out, "error: ") || !strings.Contains(out, c.want) {
			t.Errorf("%s: %q, want an error with %q", c.words, out, c.want)
		}
	}
}

func TestTarpitHoldsAClient(t *testing.T) {
	s := newSegment(t, "p")
	n := s.pen("p", append([]string{"acl dark permit 10.9.0.64/27", "acl dark permit fd09:0:0:0:1::/80", "tarpit_acl dark"}, alone...)...)
	n.reaches(2)
	for from, to := range map[string]string{client4(0): "10.9.0.70:22", "fd09::1": "[fd09:0:0:0:1::5]:25"} {
		c, err := s.dial(from, to)
		if err != nil {
			t.Fatalf("connect to %s: %v", to, err)
		}
		defer c.Close()
		c.Write([]byte("EHLO mail\r\n"))
		c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		var timeout net.Error
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%s said something: %v", to, err)
		}
		if state := stateOf(t, c); state != unix.BPF_TCP_ESTABLISHED {
			t.Errorf("the connection to %s is in state %d", to, state)
		}
	}
	if got := n.counter("process_tarpit_connections"); got < 2 {
		t.Errorf("%d connections counted", got)
	}
	n.tell("tarpit_acl", "-1")
}

func stateOf(t *testing.T, c net.Conn) (state uint8) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Error(err)
			return
		}
		state = info.State
	})
	return state
}

// In a cluster the holder forwards, and nobody else. Connections do not notice that
// another node has taken over: nothing about them was at the one that died.
func TestDirectInACluster(t *testing.T) {
	pens := []string{"p1", "p2", "p3"}
	s := newSegment(t, pens...)
	key := rig.WriteFile(t, s.dir, "key", s.run(rig.Pen(t), "--genkey"))
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	var nodes []*node
	for i, name := range pens {
		s.addresses(name, fmt.Sprintf("10.9.0.%d", 11+i), fmt.Sprintf("fd09::1%d", 1+i))
		listen := fmt.Sprintf("listen %s:%d", address4, port)
		nodes = append(nodes, s.pen(name,
			"cluster shop", "cluster_key "+key, "peers 10.9.0.11 10.9.0.12 10.9.0.13", "vip "+address4+"/24", "vip "+address6+"/64", "timing wan",
			"data_dir "+filepath.Join(s.dir, name), "dsr_if auto", listen,
			"server 0 address 10.9.0.21", "server 1 address 10.9.0.22",
			"service dns", "protocol udp", "dsr_if auto", listen, "server 0 address 10.9.0.21", "server 1 address 10.9.0.22",
			"service six", "dsr_if auto", fmt.Sprintf("listen %s:%d", address6, port), "server 0 address fd09::21", "server 1 address fd09::22",
		))
	}
	var frozen *node
	holder := func() *node {
		t.Helper()
		var found *node
		holds := func() bool {
			for _, n := range nodes {
				if n != frozen && !n.process.Exited() && strings.Contains(n.tell("counters"), "vip_held true\n") {
					found = n
				}
			}
			return found != nil
		}
		if !rig.Eventually(3*rig.Patience, holds) {
			t.Fatalf("nobody holds the address\n%s", nodes[0].process.Stderr())
		}
		return found
	}
	first := holder()
	first.reaches(2)
	had := s.spread()
	if got, want := s.datagram(client4(0), 4000), fmt.Sprintf("%s %s 4000", had[0], client4(0)); got != want {
		t.Errorf("datagram: %q, want %q", got, want)
	}
	// The address may have moved: the machine of this test is slow at times.
	for _, n := range nodes {
		packets, held := n.counter("direct_packets"), strings.Contains(n.process.Stderr(), "taking the addresses")
		if packets > 0 && !held {
			t.Errorf("%s has sent on %d packets and never held the address", n.name, packets)
		}
	}
	var standing []net.Conn
	for i := range clients {
		c, err := s.dial(client4(i), fmt.Sprintf("%s:%d", address4, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		standing = append(standing, c)
	}
	six, err := s.dial("fd09::1", fmt.Sprintf("[%s]:%d", address6, port))
	if err != nil {
		t.Fatal(err)
	}
	defer six.Close()
	hadSix, err := say(six, "who")
	if err != nil || !strings.HasSuffix(hadSix, " fd09::1 4") {
		t.Fatalf("by IPv6: %q, %v", hadSix, err)
	}
	said := 4 * 1
	goesOn := func(when string) {
		t.Helper()
		for i, c := range standing {
			if got, err := say(c, "who"); got != fmt.Sprintf("%s %s %d", had[i], client4(i), said) {
				t.Errorf("client %d %s: %q, %v; had %s", i, when, got, err, had[i])
			}
		}
		said += 4
		if got, err := say(six, "who"); got != fmt.Sprintf("%s fd09::1 %d", hadSix[:2], said) {
			t.Errorf("by IPv6 %s: %q, %v; had %s", when, got, err, hadSix)
		}
		if got := s.spread(); got != had {
			t.Errorf("%s clients have %v, had %v", when, got, had)
		}
	}

	// Who was frozen has no say when he goes on, not even on what had come in before.
	frozen = holder()
	before := -1
	if !rig.Eventually(rig.Patience, func() bool { // what the connections before this have still to say
		was := before
		time.Sleep(100 * time.Millisecond)
		before = frozen.counter("direct_packets")
		return before == was
	}) {
		t.Fatal("packets come all the time")
	}
	frozen.process.Signal(syscall.SIGSTOP)
	holder()
	goesOn("while the holder is frozen")
	frozen.process.Signal(syscall.SIGCONT)
	goesOn("after it")
	if after := frozen.counter("direct_packets"); after != before {
		t.Errorf("%s has sent on %d packets after it was frozen", frozen.name, after-before)
	}
	frozen = nil

	first = holder()
	first.process.Signal(syscall.SIGKILL)
	first.process.Wait(rig.Patience)
	goesOn("after the failover")
}
