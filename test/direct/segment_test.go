//go:build linux

package direct

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/test/rig"
)

// The addresses. Clients are aliases of one machine.
const (
	address4, address6 = "10.9.0.10", "fd09::10"
	port               = 8080
	clients            = 8
)

func client4(i int) string { return fmt.Sprintf("10.9.0.%d", 101+i) }

// serverEnv has the name of the server that this test binary shall be.
const serverEnv = "PEN_DIRECT_SERVER"

func TestMain(m *testing.M) {
	if name := os.Getenv(serverEnv); name != "" {
		serve(name)
	}
	os.Exit(rig.Main(m))
}

// serve says to everybody who is served by whom: its name, the client's address and how
// many bytes came.
func serve(name string) {
	packets, err := net.ListenPacket("udp4", fmt.Sprintf("%s:%d", address4, port))
	if err != nil {
		panic(err)
	}
	go func() {
		b := make([]byte, 1<<16)
		for {
			if n, from, err := packets.ReadFrom(b); err == nil {
				packets.WriteTo(fmt.Appendf(nil, "%s %s %d", name, hostOf(from), n), from)
			}
		}
	}()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			continue
		}
		go answer(name, c)
	}
}

// answer counts lines until the client has no more to say.
func answer(name string, c net.Conn) {
	defer c.Close()
	from, total := hostOf(c.RemoteAddr()), 0
	in := bufio.NewReaderSize(c, 1<<16)
	for {
		line, err := in.ReadSlice('\n')
		total += len(line)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%s %s %d\n", name, from, total)
	}
}

func hostOf(a net.Addr) string {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return at.Addr().Unmap().String()
}

// segment is the bridge and the namespaces on it.
type segment struct {
	t      testing.TB
	prefix string
	dir    string
}

// newSegment makes a bridge with a client c, servers s1 and s2, and the machines for pen.
func newSegment(t testing.TB, pens ...string) *segment {
	t.Helper()
	rig.NeedRoot(t)
	_, err := exec.LookPath("ip")
	rig.Need(t, err == nil, "iproute2")
	s := &segment{t: t, prefix: fmt.Sprintf("dsr-%d-", os.Getpid()), dir: rig.Dir(t)}
	s.add("b")
	s.in("b", "ip", "link", "add", "br0", "type", "bridge")
	s.in("b", "ip", "link", "set", "br0", "up")
	for i, name := range append([]string{"c", "s1", "s2"}, pens...) {
		s.machine(name, i)
	}
	for i := range clients {
		s.in("c", "ip", "address", "add", client4(i)+"/24", "dev", "eth0")
	}
	s.addresses("c", "10.9.0.1", "fd09::1")
	for i, name := range []string{"s1", "s2"} {
		s.addresses(name, fmt.Sprintf("10.9.0.%d", 21+i), fmt.Sprintf("fd09::2%d", 1+i))
		s.in(name, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
		s.in(name, "ip", "address", "add", address4+"/32", "dev", "lo")
		s.in(name, "ip", "address", "add", address6+"/128", "dev", "lo")
		s.server(name)
	}
	return s
}

func (s *segment) add(name string) {
	s.t.Helper()
	s.run("ip", "netns", "add", s.prefix+name)
	s.t.Cleanup(func() { exec.Command("ip", "netns", "del", s.prefix+name).Run() })
}

func (s *segment) machine(name string, i int) {
	s.t.Helper()
	s.add(name)
	s.in("b", "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", s.prefix+name)
	s.in("b", "ip", "link", "set", name, "master", "br0", "up")
	s.in(name, "ip", "link", "set", "lo", "up")
	s.in(name, "ip", "link", "set", "eth0", "address", fmt.Sprintf("02:00:00:00:00:%02x", i+1), "up")
}

func (s *segment) addresses(name, four, six string) {
	s.t.Helper()
	s.in(name, "ip", "address", "add", four+"/24", "dev", "eth0")
	s.in(name, "ip", "address", "add", six+"/64", "dev", "eth0", "nodad")
}

func (s *segment) run(name string, args ...string) string {
	s.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (s *segment) in(name string, args ...string) string {
	s.t.Helper()
	return s.run("ip", append([]string{"netns", "exec", s.prefix + name}, args...)...)
}

// start runs a command on a machine until the test ends.
func (s *segment) start(name string, env []string, args ...string) *rig.Process {
	s.t.Helper()
	// The command takes the place of ip, so that signals reach it.
	cmd := exec.Command("ip", append([]string{"netns", "exec", s.prefix + name}, args...)...)
	cmd.Env = append(rig.Env(), env...)
	return rig.StartCmd(s.t, s.dir, cmd)
}

func (s *segment) server(name string) {
	s.t.Helper()
	p := s.start(name, []string{serverEnv + "=" + name}, os.Args[0])
	if !rig.Eventually(rig.Patience, func() bool { return strings.Contains(p.Stdout(), "ready") }) {
		s.t.Fatalf("server %s does not start: %s", name, p.Stderr())
	}
}

// inside runs f on a machine. Its thread is not used again.
func (s *segment) inside(name string, f func()) {
	s.t.Helper()
	ended := make(chan error)
	go func() {
		runtime.LockOSThread()
		fd, err := unix.Open("/run/netns/"+s.prefix+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			f()
		}
		ended <- err
	}()
	if err := <-ended; err != nil {
		s.t.Fatalf("enter %s: %v", name, err)
	}
}

// dial connects from one of the client's addresses.
func (s *segment) dial(from, to string) (c net.Conn, err error) {
	local := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
	s.inside("c", func() { c, err = (&net.Dialer{LocalAddr: local, Timeout: rig.Patience}).Dial("tcp", to) })
	return c, err
}

// say sends a line and returns the answer.
func say(c net.Conn, line string) (string, error) {
	c.SetDeadline(time.Now().Add(3 * rig.Patience)) // a failover may be in between
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	text, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(text, "\n"), err
}

// ask is one connection with one line, and what came back.
func (s *segment) ask(from, to, line string) string {
	c, err := s.dial(from, to)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	text, err := say(c, line)
	if err != nil {
		return err.Error()
	}
	return text
}

// whose is the server of a client, or what went wrong: a connection whose server changes
// under it is reset.
func (s *segment) whose(from string) string {
	s.t.Helper()
	answer := s.ask(from, fmt.Sprintf("%s:%d", address4, port), "who")
	if server, ok := strings.CutSuffix(answer, " "+from+" 4"); ok {
		return server
	}
	return answer
}

// datagram sends one, and returns the answer.
func (s *segment) datagram(from string, size int) string {
	s.t.Helper()
	var c *net.UDPConn
	var err error
	s.inside("c", func() {
		c, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address4), port)))
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	var b [200]byte
	for end := time.Now().Add(rig.Patience); time.Now().Before(end); {
		c.Write(make([]byte, size))
		c.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := c.Read(b[:]); err == nil {
			return string(b[:n])
		}
	}
	return "nothing"
}

// frames puts frames on the wire, from the client's machine.
func (s *segment) frames(all ...[]byte) {
	s.t.Helper()
	s.inside("c", func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			s.t.Error(err)
			return
		}
		defer unix.Close(fd)
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			s.t.Error(err)
			return
		}
		for _, f := range all {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
				s.t.Error(err)
			}
		}
	})
}
