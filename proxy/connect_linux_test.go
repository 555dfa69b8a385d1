package proxy

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/state"
)

// What a client has sent before there is a server goes to the server that
// answers in the end.
func TestFailoverKeepsWhatTheClientSent(t *testing.T) {
	s := newStand(t, Options{}, refusing(t), refusing(t), backend(t, loopback, echo))
	for range 3 {
		c := s.dial()
		io.WriteString(c, "early")
		c.CloseWrite()
		if got := all(t, c); got != "early" {
			t.Errorf("got %q", got)
		}
	}
	st := s.Servers("")
	if st[0].Mark == 0 && st[1].Mark == 0 {
		t.Errorf("no server is marked: %+v", st)
	}
	if st[2].Mark != 0 || st[2].Attempts != 3 {
		t.Errorf("the good one: %+v", st[2])
	}
}

func TestNoServerLeftClosesTheClient(t *testing.T) {
	s := newStand(t, Options{}, refusing(t))
	if got := all(t, s.dial()); got != "" {
		t.Errorf("got %q", got)
	}
	if st := s.Stats(""); st.Refused["no_server"] != 1 {
		t.Errorf("refused = %v", st.Refused)
	}
}

// silent returns an address that does not answer: its backlog is full.
func silent(t testing.TB) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at := localAddress(fd)
	for range 3 {
		if c, err := net.DialTimeout("tcp", at.String(), 50*time.Millisecond); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	}
	return at.String()
}

func TestConnectTimeout(t *testing.T) {
	dead := silent(t)
	s := newStand(t, Options{}, dead, dead, backend(t, loopback, echo))
	s.set(state.OptTimeout, state.Int(1))
	begun := time.Now()
	c := s.dial()
	io.WriteString(c, "early")
	eventually(t, "connecting", func() bool {
		conn, _ := s.Connection("", 0)
		return conn.State == StateConnecting
	})
	c.CloseWrite()
	if got := all(t, c); got != "early" {
		t.Errorf("got %q", got)
	}
	// Round robin begins at server 1, so one of the dead is tried, or two.
	took := time.Since(begun)
	if tried := s.Servers("")[0].Failures + s.Servers("")[1].Failures; took < time.Duration(tried)*time.Second ||
		took > time.Duration(tried)*(3*time.Second) || tried == 0 {
		t.Errorf("%d dead servers took %v", tried, took)
	}
}

func TestClientThatLeavesEndsTheAttempt(t *testing.T) {
	s := newStand(t, Options{}, silent(t))
	c := s.dial()
	eventually(t, "connecting", func() bool { return len(s.Connections("")) == 1 })
	resetter(t, c)
	c.Close()
	eventually(t, "given up", func() bool { return len(s.Connections("")) == 0 })
	if st := s.Servers("")[0]; st.Failures != 0 || st.Mark != 0 || st.Conns != 0 {
		t.Errorf("the server is blamed: %+v", st)
	}
}

func TestUnixSocketsOnBothSides(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, Options{}, backend(t, filepath.Join(dir, "back"), echo))
	s.listen(filepath.Join(dir, "front"))
	c := s.dial()
	exchange(t, c, "hello")
	want := random(1 << 20)
	go func() {
		c.Write(want)
		c.CloseWrite()
	}()
	if got := all(t, c); got != string(want) {
		t.Errorf("%d bytes came back, want %d", len(got), len(want))
	}
	if clients := slices.Collect(s.Clients("")); len(clients) != 1 || clients[0].Client.IsValid() {
		t.Errorf("clients = %+v, want the one without an address", clients)
	}
}

// In a network with two local ports the third client finds none.
func TestNoLocalPortsLeft(t *testing.T) {
	const child = "PEN_TEST_FEW_PORTS"
	if os.Getenv(child) == "" {
		if os.Getuid() != 0 {
			t.Skip("needs root for a network of its own")
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoLocalPortsLeft$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) {
			t.Skip("no network of its own: ", err)
		}
		if strings.Contains(string(out), "--- SKIP") {
			t.Skipf("%s", out)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := loopbackUp(); err != nil {
		t.Skip("loopback: ", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40001"), 0); err != nil {
		t.Skip("port range: ", err)
	}
	var log bytes.Buffer
	s := newStand(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, backend(t, "127.0.0.1:9000", echo))
	s.listen(filepath.Join(t.TempDir(), "front"))
	var held []duplex
	for range 2 {
		c := s.dial()
		exchange(t, c, "in")
		held = append(held, c)
	}
	for range 3 {
		if got := all(t, s.dial()); got != "" {
			t.Errorf("got %q", got)
		}
	}
	if st := s.Stats(""); st.Refused["ports"] != 3 || st.Refused["no_server"] != 0 {
		t.Errorf("refused = %v, want 3 for lack of ports", st.Refused)
	}
	if sv := s.Servers("")[0]; sv.Failures != 0 || sv.Mark != 0 || sv.Conns != 2 {
		t.Errorf("the server is blamed: %+v", sv)
	}
	if n := strings.Count(log.String(), "no local port"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, log.String())
	}
	exchange(t, held[0], "served on")
}

// loopbackUp brings the loopback of a new network up.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// crowded returns the path of a Unix socket whose backlog is full.
func crowded(t *testing.T) (path string, fd int) {
	path = filepath.Join(t.TempDir(), "full")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	dial(t, path)
	return path, fd
}

func TestUnixServerWhoseBacklogStaysFullFails(t *testing.T) {
	path, _ := crowded(t)
	s := newStand(t, Options{}, backend(t, loopback, name("other")), path) // round robin begins at 1
	s.set(state.OptTimeout, state.Int(1))
	begun := time.Now()
	if got := all(t, s.dial()); got != "other" {
		t.Errorf("got %q", got)
	}
	if took := time.Since(begun); took < time.Second || took > 3*time.Second {
		t.Errorf("gave up after %v, want 1 s", took)
	}
	if sv := s.Servers("")[1]; sv.Failures != 1 || sv.Mark == 0 || sv.Conns != 0 {
		t.Errorf("the server: %+v, want one failure", sv)
	}
}

func TestUnixServerWithFullBacklogIsWaitedFor(t *testing.T) {
	path, fd := crowded(t)
	s := newStand(t, Options{}, path)
	c := s.dial()
	io.WriteString(c, "early")
	time.Sleep(200 * time.Millisecond)
	restful(t)
	if sv := s.Servers("")[0]; sv.Failures != 0 || sv.Mark != 0 || sv.Conns != 1 {
		t.Errorf("the server is blamed: %+v", sv)
	}
	for _, want := range []string{"", "early"} { // who filled the backlog, then our client
		n, _, err := unix.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(n)
		b := make([]byte, 5)
		if want == "" {
			continue
		}
		if k, err := unix.Read(n, b); err != nil || string(b[:k]) != want {
			t.Errorf("read %q, %v; want %q", b[:k], err, want)
		}
	}
	c.Close()
	if sv := s.Servers("")[0]; sv.Failures != 0 || sv.Mark != 0 {
		t.Errorf("the server is blamed: %+v", sv)
	}
}

func TestFamilies(t *testing.T) {
	for _, tc := range []struct{ listen, dial, server, client string }{
		{"127.0.0.1:0", "127.0.0.1", "[::1]:0", "127.0.0.1"},
		{"[::1]:0", "::1", "127.0.0.1:0", "::1"},
		{"[::]:0", "127.0.0.1", "127.0.0.1:0", "127.0.0.1"},
		{"[::]:0", "::1", "[::1]:0", "::1"},
		{"0.0.0.0:0", "127.0.0.1", "127.0.0.1:0", "127.0.0.1"},
	} {
		t.Run(tc.listen+" from "+tc.dial, func(t *testing.T) {
			s := newStand(t, Options{}, backend(t, tc.server, echo))
			s.listen(tc.listen)
			_, port, _ := net.SplitHostPort(s.Address(""))
			exchange(t, dial(t, net.JoinHostPort(tc.dial, port)), "hello")
			if c := slices.Collect(s.Clients("")); len(c) != 1 || c[0].Client != netip.MustParseAddr(tc.client) {
				t.Errorf("clients = %+v, want %s", c, tc.client)
			}
		})
	}
}

func TestIPv4ListenerIsIPv4Only(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	s.listen("0.0.0.0:0")
	_, port, _ := net.SplitHostPort(s.Address(""))
	if c, err := net.Dial("tcp", "[::1]:"+port); err == nil {
		c.Close()
		t.Error("an IPv6 client got in")
	}
}

func TestSourceAddress(t *testing.T) {
	from := func(c duplex) { io.WriteString(c, strings.Split(c.RemoteAddr().String(), ":")[0]) }
	s := newStand(t, Options{}, backend(t, loopback, from))
	for source, want := range map[string]string{"127.0.0.9": "127.0.0.9", "::1": "127.0.0.1", "192.0.2.1": "127.0.0.1"} {
		s.set(state.OptSource, state.Text(source))
		if got := all(t, s.dial()); got != want {
			t.Errorf("with source %s the server saw %s, want %s", source, got, want)
		}
	}
}

// option returns a socket option of the server side of connection 0.
func option(t testing.TB, s *stand, level, opt int) int {
	t.Helper()
	c, _ := s.Connection("", 0)
	v, err := unix.GetsockoptInt(c.UpFD, level, opt)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSocketOptions(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	s.set(state.OptKeepalive, state.Bool(true))
	c := s.dial()
	exchange(t, c, "once")
	if option(t, s, unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 0 {
		t.Error("keepalive is not set")
	}
	conn, _ := s.Connection("", 0)
	if v, _ := unix.GetsockoptInt(conn.DownFD, unix.IPPROTO_TCP, unix.TCP_NODELAY); v == 0 {
		t.Error("the client's side has no TCP_NODELAY")
	}
	exchange(t, c, "twice")
	if option(t, s, unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0 {
		t.Error("no TCP_NODELAY after the second write")
	}
	c.Close()
	eventually(t, "closed", func() bool { return len(s.Connections("")) == 0 })

	s.set(state.OptNoDelay, state.Bool(false))
	s.set(state.OptKeepalive, state.Bool(false))
	c = s.dial()
	exchange(t, c, "once")
	exchange(t, c, "twice")
	if option(t, s, unix.IPPROTO_TCP, unix.TCP_NODELAY) != 0 || option(t, s, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0 {
		t.Error("options are set though they are off")
	}
	conn, _ = s.Connection("", 0)
	if v, _ := unix.GetsockoptInt(conn.DownFD, unix.IPPROTO_TCP, unix.TCP_NODELAY); v != 0 {
		t.Error("the client's side has TCP_NODELAY though it is off")
	}
}

// A client on a Unix socket that has closed altogether still gets its words
// through to a server that takes its time.
func TestUnixClientThatHasClosedIsHeard(t *testing.T) {
	heard := make(chan string, 1)
	good := backend(t, loopback, func(c duplex) {
		b, _ := io.ReadAll(c)
		heard <- string(b)
	})
	s := newStand(t, Options{}, silent(t), good)
	s.set(state.OptTimeout, state.Int(1))
	s.set(state.OptPrio, state.Bool(true)) // the silent one first
	s.listen(filepath.Join(t.TempDir(), "front"))
	c := s.dial()
	io.WriteString(c, "last will")
	c.Close()
	if got := <-heard; got != "last will" {
		t.Errorf("server heard %q", got)
	}
}

// A server that takes the connect and resets it has not failed a connect.
func TestResetRightAfterTheConnectIsNoFailure(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, func(c duplex) { resetter(t, c) }))
	for range 20 {
		c, err := (&netDialer{}).try(s.Address(""))
		if err == nil {
			_, err = io.ReadAll(c)
			c.Close()
		}
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("client: %v, want a reset", err)
		}
	}
	eventually(t, "all gone", func() bool { return len(s.Connections("")) == 0 })
	if st := s.Servers("")[0]; st.Failures != 0 || st.Mark != 0 || st.Attempts != 20 {
		t.Errorf("the server is blamed: %+v", st)
	}
}
