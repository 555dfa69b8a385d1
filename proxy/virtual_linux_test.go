package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"pen/state"
)

var (
	local4 = netip.MustParseAddr("127.0.0.2")
	local6 = netip.MustParseAddr("::1")
	away4  = netip.MustParseAddr("192.0.2.10")
	away6  = netip.MustParseAddr("2001:db8::10")
)

// portOnly is a place to listen of which only the port is known.
func portOnly(port string) state.Listen {
	return state.Listen{Text: port, Addr: netip.MustParseAddrPort("[::]:" + port)}
}

func (s *stand) bare(service, port string) state.Op {
	return state.Set{Service: service, Option: state.OptListen, Value: state.Bind(portOnly(port))}
}

func on(a netip.Addr, port string) string { return net.JoinHostPort(a.String(), port) }

// words makes the service "other" beside the default one; each answers with its name.
func (s *stand) words() {
	s.t.Helper()
	s.apply(state.AddService{Service: "other"})
	for _, service := range []string{"default", "other"} {
		ap := listenOn(backend(s.t, loopback, name(service))).Addr
		op := state.SetServer{Service: service, Fields: state.FieldAddress | state.FieldPort}
		op.Server.Host, op.Server.IP, op.Server.Port = ap.Addr().String(), ap.Addr(), ap.Port()
		s.apply(op)
	}
}

func TestAPortIsMeantOnEachVirtualAddress(t *testing.T) {
	s := newStand(t, Options{Loops: 2, Virtual: []netip.Addr{local4, local6, local4}}, backend(t, loopback, echo))
	port := freeEverywhere(t)
	s.apply(s.bare("", port))
	if got, want := s.Address(""), on(local4, port)+","+on(local6, port); got != want {
		t.Errorf("listens on %s, want %s", got, want)
	}
	for _, a := range []netip.Addr{local4, local6} {
		exchange(t, dial(t, on(a, port)), "hello")
	}
	if c, err := (&netDialer{}).try("127.0.0.1:" + port); err == nil {
		c.Close()
		t.Error("listens on an address that is not virtual")
	}
	s.Standby()
	unanswered(t, on(local4, port))
	unanswered(t, on(local6, port))
	s.Serve()
	s.listen(on(local6, port)) // stays open, the other one goes
	if got := s.Address(""); got != on(local6, port) {
		t.Errorf("listens on %s", got)
	}
	exchange(t, dial(t, on(local6, port)), "one of two")
	s.set(state.OptListen, state.Bind(state.Listen{}))
	if got := s.Address(""); got != "" {
		t.Errorf("listens on %s", got)
	}
}

func TestServicesExchangeTheirPortsOnAllAddresses(t *testing.T) {
	s := newStand(t, Options{Loops: 2, Virtual: []netip.Addr{local4, local6}})
	s.words()
	a, b := freeEverywhere(t), freeEverywhere(t)
	check := func(first, second string) {
		t.Helper()
		for _, addr := range []netip.Addr{local4, local6} {
			if x, y := all(t, dial(t, on(addr, a))), all(t, dial(t, on(addr, b))); x != first || y != second {
				t.Errorf("%s: got %s and %s, want %s and %s", addr, x, y, first, second)
			}
		}
	}
	s.apply(s.bare("", a), s.bare("other", b))
	check("default", "other")
	s.Standby()
	s.apply(s.bare("", b), s.bare("other", a))
	s.Serve()
	check("other", "default")
	s.apply(s.bare("", a), s.bare("other", b))
	check("default", "other")
}

// A service gets all of its listeners, or keeps those it had.
func TestServiceMovesAltogetherOrNotAtAll(t *testing.T) {
	s := newStand(t, Options{Virtual: []netip.Addr{local4, local6}}, backend(t, loopback, echo))
	before, after := freeEverywhere(t), freeEverywhere(t)
	s.apply(s.bare("", before))
	taken, err := net.Listen("tcp", on(local6, after))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	next, err := s.machine.View().With(state.Command{Ops: []state.Op{s.bare("", after)}})
	if err != nil {
		t.Fatal(err)
	}
	want := "listen on " + on(local6, after) + ": address already in use"
	for what, do := range map[string]func(*state.View) error{"Prepare": s.Prepare, "Configure": s.Configure} {
		if err := do(next); err == nil || err.Error() != want {
			t.Errorf("%s = %v, want %s", what, err, want)
		}
		if got, want := s.Address(""), on(local4, before)+","+on(local6, before); got != want {
			t.Errorf("%s: listens on %s, want %s", what, got, want)
		}
		eventually(t, "the half that could be opened is closed", func() bool {
			l, err := net.Listen("tcp", on(local4, after))
			if err == nil {
				l.Close()
			}
			return err == nil
		})
	}
	for _, a := range []netip.Addr{local4, local6} {
		exchange(t, dial(t, on(a, before)), "as before")
	}
}

// What another service takes from one that can not move is lost to it, and no more.
func TestServiceThatCanNotMoveKeepsWhatIsLeft(t *testing.T) {
	s := newStand(t, Options{Virtual: []netip.Addr{local4, local6}})
	s.words()
	port, after := freeEverywhere(t), freeEverywhere(t)
	s.apply(s.bare("", port))
	taken, err := net.Listen("tcp", on(local6, after))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	next, err := s.machine.View().With(state.Command{Ops: []state.Op{
		s.bare("", after),
		state.Set{Service: "other", Option: state.OptListen, Value: state.Bind(listenOn(on(local4, port)))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Configure(next)
	if want := "service default no longer listens on " + on(local4, port) + ": it went to another service"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Configure = %v, want %s", err, want)
	}
	if x, y := all(t, dial(t, on(local4, port))), all(t, dial(t, on(local6, port))); x != "other" || y != "default" {
		t.Errorf("got %s and %s", x, y)
	}
}

func TestTwoServicesWantTheSamePlace(t *testing.T) {
	s := newStand(t, Options{Virtual: []netip.Addr{local4, local6}})
	s.words()
	port := freeEverywhere(t)
	next, err := s.machine.View().With(state.Command{Ops: []state.Op{
		s.bare("", port),
		state.Set{Service: "other", Option: state.OptListen, Value: state.Bind(listenOn(on(local6, port)))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := "listen on " + on(local6, port) + ": another service listens there"
	if err := s.Prepare(next); err == nil || err.Error() != want {
		t.Errorf("Prepare = %v, want %s", err, want)
	}
	if err := s.Configure(next); err == nil || err.Error() != want {
		t.Errorf("Configure = %v, want %s", err, want)
	}
}

// Who waits at one address does not wait longer than those at another.
func TestPlacesGoToAllListenersByTurns(t *testing.T) {
	for _, loops := range []int{1, 2} {
		s := newSmall(t, Options{Loops: loops, Virtual: []netip.Addr{local4, local6}}, 1, backend(t, loopback, echo))
		port := freeEverywhere(t)
		s.apply(s.bare("", port))
		in := dial(t, on(local4, port))
		exchange(t, in, "in")
		const each = 4
		served := make(chan duplex, 2*each)
		for range each {
			for _, a := range []netip.Addr{local4, local6} {
				c := dial(t, on(a, port))
				go func() {
					c.Write([]byte("x"))
					if n, _ := c.Read(make([]byte, 1)); n == 1 {
						served <- c
					}
				}()
			}
		}
		restful(t)
		in.Close()
		count := [2]int{}
		for i := range 2 * each {
			var c duplex
			select {
			case c = <-served:
			case <-time.After(5 * time.Second):
				t.Fatalf("only %d were served, %v", i, count)
			}
			if c.RemoteAddr().(*net.TCPAddr).IP.To4() != nil {
				count[0]++
			} else {
				count[1]++
			}
			if d := count[0] - count[1]; d > 1 || d < -1 {
				t.Errorf("%d loops: %d and %d were served, want them by turns", loops, count[0], count[1])
			}
			c.Close()
		}
	}
}

// A virtual address may be elsewhere. It is bound all the same, and when it comes
// clients are served on it.
func TestVirtualAddressThatIsNotThere(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	s := newStand(t, Options{Virtual: []netip.Addr{away4, away6}, Standby: true}, backend(t, "127.0.0.1:9000", echo))
	s.apply(s.bare("", "80"))
	if got, want := s.Address(""), on(away4, "80")+","+on(away6, "80"); got != want {
		t.Errorf("listens on %s, want %s", got, want)
	}
	s.apply(s.bare("", "81"))
	s.listen(on(away6, "80")) // also where it is written out
	next, err := s.machine.View().With(state.Command{Ops: []state.Op{
		state.Set{Option: state.OptListen, Value: state.Bind(listenOn("192.0.2.11:80"))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(next); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("an address that is not virtual: %v, want %v", err, unix.EADDRNOTAVAIL)
	}
	s.apply(s.bare("", "80"))
	addAddress(t, away4)
	addAddress(t, away6)
	for _, a := range []netip.Addr{away4, away6} {
		unanswered(t, on(a, "80"))
	}
	s.Serve()
	for _, a := range []netip.Addr{away4, away6} {
		exchange(t, dial(t, on(a, "80")), "hello")
	}
}

// inOwnNetwork runs the test once more in a network of its own, in another process.
// There it returns true.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	const child = "PEN_TEST_OWN_NETWORK"
	if os.Getenv(child) == t.Name() {
		if err := loopbackUp(); err != nil {
			t.Fatal("loopback: ", err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), child+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM) && os.Getenv("PEN_CI") != "1":
		t.Skip("needs root for a network of its own: ", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// addAddress gives the loopback another address.
func addAddress(t testing.TB, a netip.Addr) {
	t.Helper()
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if a.Is4() {
		r, err := unix.NewIfreq("lo:1")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.SetInet4Addr(a.AsSlice()), unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r)); err != nil {
			t.Fatalf("add %s: %v", a, err)
		}
		return
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	r := struct {
		addr  [16]byte
		bits  uint32
		index int32
	}{a.As16(), 128, int32(lo.Index)}
	if _, _, err := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&r))); err != 0 {
		t.Fatalf("add %s: %v", a, err)
	}
}
