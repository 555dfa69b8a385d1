//go:build linux

package process

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/test/rig"
)

// site is three machines in network namespaces: a client, the one for pen, and a
// server whose way to the client leads through it.
type site struct {
	t                   testing.TB
	client, pen, server string
}

// Where everybody is, in both families.
var (
	clientSide = map[bool]string{false: "10.77.1.2", true: "fd77:1::2"}
	penFront   = map[bool]string{false: "10.77.1.1", true: "fd77:1::1"}
	penBack    = map[bool]string{false: "10.77.2.1", true: "fd77:2::1"}
	serverSide = map[bool]string{false: "10.77.2.2", true: "fd77:2::2"}
	penSource  = "10.77.2.9"
)

func newSite(t testing.TB) *site {
	t.Helper()
	rig.NeedRoot(t)
	for _, tool := range []string{"ip", "nft"} {
		_, err := exec.LookPath(tool)
		rig.Need(t, err == nil, tool)
	}
	name := func(what string) string { return fmt.Sprintf("acl%d%s", os.Getpid(), what) }
	s := &site{t, name("c"), name("p"), name("s")}
	for _, ns := range []string{s.client, s.pen, s.server} {
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		s.run("ip netns add " + ns)
		s.run("ip -n " + ns + " link set lo up")
		s.run("ip netns exec " + ns + " sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv4.conf.all.rp_filter=1")
	}
	s.run("ip -n " + s.client + " link add up0 type veth peer name front netns " + s.pen)
	s.run("ip -n " + s.server + " link add up0 type veth peer name back netns " + s.pen)
	for _, six := range []bool{false, true} {
		bits, more := "/24", ""
		if six {
			bits, more = "/64", " nodad"
		}
		s.run("ip -n " + s.client + " addr add " + clientSide[six] + bits + " dev up0" + more)
		s.run("ip -n " + s.server + " addr add " + serverSide[six] + bits + " dev up0" + more)
		s.run("ip -n " + s.pen + " addr add " + penFront[six] + bits + " dev front" + more)
		s.run("ip -n " + s.pen + " addr add " + penBack[six] + bits + " dev back" + more)
	}
	s.run("ip -n " + s.pen + " addr add " + penSource + "/24 dev back")
	for ns, links := range map[string][]string{s.client: {"up0"}, s.server: {"up0"}, s.pen: {"front", "back"}} {
		for _, link := range links {
			s.run("ip -n " + ns + " link set " + link + " up")
		}
	}
	for _, six := range []bool{false, true} {
		s.run("ip -n " + s.server + " route add default via " + penBack[six])
	}
	return s
}

func (s *site) run(line string) {
	s.t.Helper()
	if out, err := exec.CommandContext(s.t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// in runs f on a thread in a namespace; sockets that it makes belong there.
func (s *site) in(ns string, f func() error) {
	s.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		fd, err := unix.Open(filepath.Join("/run/netns", ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
}

// serve answers on the server with the address that it sees, over TCP and UDP.
func (s *site) serve(six bool, port int) {
	s.t.Helper()
	at := net.JoinHostPort(serverSide[six], fmt.Sprint(port))
	s.in(s.server, func() error {
		ln, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		s.t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					bufio.NewReader(c).ReadString('\n')
					fmt.Fprintln(c, c.RemoteAddr())
				}()
			}
		}()
		pc, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		s.t.Cleanup(func() { pc.Close() })
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				pc.WriteTo([]byte(from.String()+"\n"), from)
			}
		}()
		return nil
	})
}

// seen is the address that the server sees of the client: over tcp, udp or tls.
func (s *site) seen(network string, six bool, port int) (got string) {
	s.t.Helper()
	at := net.JoinHostPort(penFront[six], fmt.Sprint(port))
	s.in(s.client, func() error {
		d := &net.Dialer{Timeout: rig.Patience}
		bare := strings.Replace(network, "tls", "tcp", 1)
		c, err := d.DialContext(context.Background(), bare, at)
		if err != nil {
			return err
		}
		defer c.Close()
		if network == "tls" {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}
		c.SetDeadline(time.Now().Add(rig.Patience))
		io.WriteString(c, "who\n")
		line, err := bufio.NewReader(c).ReadString('\n')
		seen, bad := netip.ParseAddrPort(strings.TrimSpace(line))
		if err != nil || bad != nil {
			got = fmt.Sprintf("%q, %v", line, err)
			return nil
		}
		got = seen.Addr().String()
		return nil
	})
	return got
}

// start runs pen on its machine.
func (s *site) start(d *daemon, args ...string) {
	s.t.Helper()
	if d.Process != nil {
		d.Kill()
	}
	d.Process = rig.StartCmd(s.t, d.dir, exec.Command("ip", append([]string{"netns", "exec", s.pen, rig.Pen(s.t), "-f", "-C", d.control}, args...)...))
	d.answers()
}

// TestServersSeeTheirClients: with transparent, over TCP, TLS and UDP, in both
// families, by the recipe that --check prints, on a machine that forwards nothing;
// as a user without other rights; and what happens where it can not be.
func TestServersSeeTheirClients(t *testing.T) {
	s := newSite(t)
	d := place(t)
	d.control = filepath.Join(d.dir, "control")
	cert := filepath.Join(d.dir, "cert.pem")
	if err := os.WriteFile(cert, []byte(selfSigned(t)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(d.dir, "pen.conf")
	text := ""
	n := 0
	for _, six := range []bool{false, true} {
		s.serve(six, 9000)
		for _, service := range []string{"tcp", "tls", "udp"} {
			text += fmt.Sprintf("service %s%v\nlisten %s:%d\nserver 0 address %s port 9000\ntransparent\n", service, six, penFront[six], 80+n, serverSide[six])
			switch service {
			case "tls":
				text += "ssl_certificate " + cert + "\n"
			case "udp":
				text += "protocol udp\n"
			}
			n++
		}
	}
	text += fmt.Sprintf("service mixed\nlisten %s:90\nserver 0 address %s port 9000\ntransparent\ntimeout 2\n", penFront[false], serverSide[true])
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}

	// What is missing is said, with what to do; and that is what is done.
	check := func() string {
		out, _ := exec.Command("ip", "netns", "exec", s.pen, rig.Pen(t), "--check", "-F", conf).CombinedOutput()
		return string(out)
	}
	said := check()
	for _, family := range []string{"IPv4", "IPv6"} {
		m := regexp.MustCompile(`no rule does that for ` + family + `: (.*); and the servers`).FindStringSubmatch(said)
		if m == nil {
			t.Fatalf("--check has no recipe for %s:\n%s", family, said)
		}
		s.run("ip netns exec " + s.pen + " sh -c \"" + strings.ReplaceAll(m[1], "'", "'") + "\"")
	}
	if said := check(); strings.Contains(said, "transparent") {
		t.Errorf("--check is not content with what it asked for:\n%s", said)
	}

	port := func(six bool, i int) int {
		if six {
			i += 3
		}
		return 80 + i
	}
	expect := func(when string, want map[bool]string) {
		t.Helper()
		for _, six := range []bool{false, true} {
			for i, network := range []string{"tcp", "tls", "udp"} {
				if got := s.seen(network, six, port(six, i)); got != want[six] {
					t.Errorf("%s: %s, IPv6 %v: the server sees %s, want %s\n%s", when, network, six, got, want[six], d.Stderr())
				}
			}
		}
	}
	s.start(d, "-u", "nobody", "-F", conf)
	expect("as nobody", clientSide)
	if got := s.seen("tcp", false, 90); got != penBack[true] {
		t.Errorf("a server of another family sees %s, want %s", got, penBack[true])
	}
	s.seen("tcp", false, 90)
	if got := d.ask("service mixed counters"); !strings.Contains(got, "transparent_failed 2\n") {
		t.Errorf("that is not counted:\n%s", got)
	}
	if got := strings.Count(d.Stderr(), "sees this machine's address"); got != 1 {
		t.Errorf("it is logged %d times, want once for the server:\n%s", got, d.Stderr())
	}

	// source comes first; without both it is pen's own address.
	d.ask("service tcpfalse source " + penSource)
	d.ask("service udpfalse source " + penSource)
	for i, network := range map[int]string{0: "tcp", 2: "udp"} {
		if got := s.seen(network, false, port(false, i)); got != penSource {
			t.Errorf("%s with source: the server sees %s, want %s", network, got, penSource)
		}
		service := "service " + network + "false "
		d.ask(service + "no source")
		d.ask(service + "no transparent")
		if got := s.seen(network, false, port(false, i)); got != penBack[false] {
			t.Errorf("%s without transparent: the server sees %s, want %s", network, got, penBack[false])
		}
	}

	// Who has given the right away goes on without.
	bare := strings.ReplaceAll(text, "\ntransparent\n", "\n")
	if err := os.WriteFile(conf, []byte(bare), 0o644); err != nil {
		t.Fatal(err)
	}
	s.start(d, "-u", "nobody", "-F", conf)
	for _, service := range []string{"tcp", "tls", "udp"} {
		for _, six := range []bool{false, true} {
			d.ask(fmt.Sprintf("service %s%v transparent", service, six))
		}
	}
	expect("without the right", penBack)
	if got := strings.Count(d.Stderr(), "operation not permitted"); got != 6 {
		t.Errorf("it is logged %d times, want once for each of 6 servers:\n%s", got, d.Stderr())
	}
}
