package proxy

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/state"
)

// netDialer dials where a failure is no failure of the test.
type netDialer struct{ net.Dialer }

func (d *netDialer) try(at string) (net.Conn, error) {
	d.Timeout = 2 * time.Second
	c, err := d.Dial("tcp", at)
	if err == nil {
		c.SetDeadline(time.Now().Add(5 * time.Second))
	}
	return c, err
}

// free returns an address of 127.0.0.1 with a port that is free.
func free(t testing.TB) string { return refusing(t) }

// freeEverywhere returns a port that no address has in use. It is not one of those
// from which the kernel lets others connect, at any moment and on any address.
func freeEverywhere(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(20_000 + rand.IntN(12_000))
		if l, err := net.Listen("tcp", ":"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

func TestListenElsewhere(t *testing.T) {
	s := newStand(t, Options{Loops: 2}, backend(t, loopback, echo))
	before := s.Address("")
	c := s.dial()
	exchange(t, c, "before")
	s.listen(free(t))
	if s.Address("") == before {
		t.Fatal("listens where it did")
	}
	exchange(t, c, "lives on")
	exchange(t, s.dial(), "new")
	eventually(t, "the old listener is closed", func() bool {
		c, err := (&netDialer{}).try(before)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	exchange(t, c, "lives on still")
}

func TestListenThatFailsChangesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := newStand(t, Options{}, backend(t, loopback, echo))
	before := s.Address("")
	op := state.Set{Option: state.OptListen, Value: state.Bind(listenOn(taken.Addr().String()))}
	next, err := s.machine.View().With(state.Command{Ops: []state.Op{op}})
	if err != nil {
		t.Fatal(err)
	}
	want := "listen on " + taken.Addr().String() + ": address already in use"
	if err := s.Prepare(next); err == nil || err.Error() != want || !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("Prepare = %v, want %s", err, want)
	}
	if err := s.Configure(next); err == nil || err.Error() != want {
		t.Errorf("Configure = %v, want %s", err, want)
	}
	if got := s.Address(""); got != before {
		t.Errorf("listens on %s, want %s as before", got, before)
	}
	exchange(t, s.dial(), "as before")
}

func TestPreparedListenerIsUsed(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	at, other := free(t), free(t)
	view := func(at string) *state.View {
		op := state.Set{Option: state.OptListen, Value: state.Bind(listenOn(at))}
		v, err := s.machine.View().With(state.Command{Ops: []state.Op{op}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if err := s.Prepare(view(other)); err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(view(at)); err != nil { // replaces the other
		t.Fatal(err)
	}
	eventually(t, "the first is closed", func() bool {
		l, err := net.Listen("tcp", other)
		if err == nil {
			l.Close()
		}
		return err == nil
	})
	early, err := (&netDialer{}).try(at) // waits in the backlog
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	s.listen(at)
	exchange(t, early, "early")
}

func TestOverlappingAddresses(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	port := freeEverywhere(t)
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "127.0.0.1", "[::]", "127.0.0.1"} {
		s.listen(host + ":" + port)
		exchange(t, dial(t, "127.0.0.1:"+port), "on "+host)
	}
}

// A process that was root when it opened its listener and is another user now may
// move it to an overlapping address as ever.
func TestOverlappingAddressesAsAnotherUser(t *testing.T) {
	const child, nobody = "PEN_TEST_ANOTHER_USER", 65534
	if os.Getenv(child) == "" {
		if os.Getuid() != 0 {
			t.Skip("needs root, to be another user")
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestOverlappingAddressesAsAnotherUser$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	s := newStand(t, Options{}, backend(t, loopback, echo))
	port := freeEverywhere(t)
	s.listen("127.0.0.1:" + port)
	if err := s.Chown(nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"0.0.0.0", "127.0.0.1", "[::]", "127.0.0.1"} {
		s.listen(host + ":" + port)
		// This is about the bind. A client of the very moment in which the old
		// listener goes may be reset.
		eventually(t, "clients are served on "+host, func() bool {
			c, err := (&netDialer{}).try("127.0.0.1:" + port)
			if err != nil {
				return false
			}
			defer c.Close()
			if _, err := c.Write([]byte("a")); err != nil {
				return false
			}
			n, err := c.Read(make([]byte, 1))
			return n == 1 && err == nil
		})
	}
}

func TestServicesExchangeTheirAddresses(t *testing.T) {
	s := newStand(t, Options{})
	s.apply(state.AddService{Service: "other"})
	for i, service := range []string{"", "other"} {
		at := backend(t, loopback, name([]string{"default", "other"}[i]))
		ap := listenOn(at).Addr
		op := state.SetServer{Service: service, Fields: state.FieldAddress | state.FieldPort}
		op.Server.Host, op.Server.IP, op.Server.Port = ap.Addr().String(), ap.Addr(), ap.Port()
		s.apply(op)
	}
	a, b := free(t), free(t)
	bind := func(service, at string) state.Op {
		return state.Set{Service: service, Option: state.OptListen, Value: state.Bind(listenOn(at))}
	}
	s.apply(bind("", a), bind("other", b))
	if x, y := all(t, dial(t, a)), all(t, dial(t, b)); x != "default" || y != "other" {
		t.Errorf("got %s and %s", x, y)
	}
	s.apply(bind("", b), bind("other", a))
	if x, y := all(t, dial(t, a)), all(t, dial(t, b)); x != "other" || y != "default" {
		t.Errorf("after the exchange %s and %s", x, y)
	}
	s.apply(state.RemoveService{Service: "other"})
	eventually(t, "the removed service is gone", func() bool {
		c, err := (&netDialer{}).try(a)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

func TestSecondProxyOnThePort(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err := unix.Bind(fd, socketAddress(listenOn(s.Address("")).Addr)); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("bind = %v, want address already in use", err)
	}
}

func TestUnixListenerFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "front")

	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	s := newStand(t, Options{}, backend(t, loopback, echo))
	bind := state.Set{Option: state.OptListen, Value: state.Bind(listenOn(path))}
	next, _ := s.machine.View().With(state.Command{Ops: []state.Op{bind}})
	if err := s.Prepare(next); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("while somebody listens: %v", err)
	}
	stale.Close()
	s.listen(path)
	exchange(t, s.dial(), "hello")
	s.listen("127.0.0.1:0")
	eventually(t, "file removed", func() bool { _, err := os.Lstat(path); return os.IsNotExist(err) })

	os.WriteFile(path, []byte("precious"), 0o600)
	if err := s.Prepare(next); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("over a plain file: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file is now %q", b)
	}
	long := filepath.Join(dir, strings.Repeat("x", 120))
	bind.Value = state.Bind(listenOn(long))
	next, _ = s.machine.View().With(state.Command{Ops: []state.Op{bind}})
	if err := s.Prepare(next); err == nil {
		t.Error("a path that is too long was taken")
	}
}

// Who has connected before a listener is closed is served.
func TestBacklogOfAClosedListenerIsServed(t *testing.T) {
	s := newStill(t, Options{}, 0, backend(t, loopback, echo))
	at := free(t)
	s.listen(at)
	var early []duplex
	for range 10 {
		c := dial(t, at)
		io.WriteString(c, "early")
		early = append(early, c)
	}
	s.start()
	eventually(t, "loops run", func() bool { return len(s.engine.running()) > 0 })
	s.listen(free(t))
	for _, c := range early {
		c.CloseWrite()
		if got := all(t, c); got != "early" {
			t.Errorf("got %q", got)
		}
	}
}

// gets reads what was written, or fails.
func gets(t testing.TB, c duplex, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// Who waits for a place when a listener moves gets one before those who come to
// the new address.
func TestWhoWaitsAtAListenerThatMovesIsServedFirst(t *testing.T) {
	for _, loops := range []int{1, 2} {
		s := newSmall(t, Options{Loops: loops}, 1, backend(t, loopback, echo))
		in := s.dial()
		exchange(t, in, "in")
		var waiting []duplex
		for range 3 {
			c := s.dial()
			io.WriteString(c, "waiting")
			waiting = append(waiting, c)
		}
		s.listen(free(t))
		late := s.dial()
		io.WriteString(late, "late")
		time.Sleep(30 * time.Millisecond)
		restful(t)
		in.Close()
		for _, c := range waiting {
			gets(t, c, "waiting")
			late.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if n, _ := late.Read(make([]byte, 4)); n > 0 {
				t.Error("the later client was served earlier")
			}
			c.Close()
		}
		late.SetReadDeadline(time.Now().Add(5 * time.Second))
		gets(t, late, "late")
		late.Close()
		eventually(t, "all gone", func() bool { return s.Stats("").Used == 0 && s.engine.conns.Load() == 0 })
	}
}

func TestAListenerThatMovesDoesNotWaitForEver(t *testing.T) {
	s := newStill(t, Options{}, 1, backend(t, loopback, echo))
	s.engine.parting = 300 * time.Millisecond
	s.start()
	in := s.dial()
	exchange(t, in, "in")
	begun := time.Now()
	c := s.dial()
	s.listen(free(t))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) || time.Since(begun) < s.engine.parting {
		t.Errorf("read = %v after %v, want a reset", err, time.Since(begun))
	}
	late := s.dial()
	io.WriteString(late, "late")
	in.Close()
	gets(t, late, "late")
}

func TestAListenerMayComeBackWhileClientsWaitAtIt(t *testing.T) {
	s := newSmall(t, Options{}, 1, backend(t, loopback, echo))
	before := s.Address("")
	in := s.dial()
	exchange(t, in, "in")
	s.dial()
	s.listen(free(t))
	s.listen(before)
	late := s.dial()
	io.WriteString(late, "late")
	in.Close()
	gets(t, late, "late")
}

func TestDrainWaitsForThoseInTheBacklog(t *testing.T) {
	s := newSmall(t, Options{}, 1, backend(t, loopback, echo))
	in := s.dial()
	exchange(t, in, "in")
	c := s.dial()
	io.WriteString(c, "waiting")
	done := make(chan struct{})
	go func() { s.Drain(context.Background()); close(done) }()
	eventually(t, "draining", func() bool { return s.Address("") == "" })
	in.Close()
	gets(t, c, "waiting")
	c.Close()
	<-done
}
