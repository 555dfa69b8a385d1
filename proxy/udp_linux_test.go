package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/state"
)

// datagrams serves datagrams with answer until the test ends, and returns its
// address. An answer is any number of datagrams.
func datagrams(t testing.TB, at string, answer func(string) []string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := c.(*net.UDPConn).SyscallConn(); err == nil { // or it loses some itself
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) })
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, a := range answer(string(buf[:n])) {
				_, _ = c.WriteTo([]byte(a), from)
			}
		}
	})
	t.Cleanup(func() { c.Close(); wg.Wait() })
	return c.LocalAddr().String()
}

// called answers with a name and what it got.
func called(name string) func(string) []string {
	return func(s string) []string { return []string{name + " " + s} }
}

// caller is a client's port.
type caller struct {
	t testing.TB
	net.Conn
}

func newCaller(t testing.TB, at string) caller {
	t.Helper()
	c, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return caller{t, c}
}

func (c caller) say(text string) {
	c.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// hear returns the next datagram, or "-" if none comes.
func (c caller) hear(wait time.Duration) string {
	c.t.Helper()
	buf := make([]byte, 1<<16)
	c.SetReadDeadline(time.Now().Add(wait))
	n, err := c.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "-"
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return string(buf[:n])
}

func (c caller) ask(text, want string) {
	c.t.Helper()
	c.say(text)
	if got := c.hear(5 * time.Second); got != want {
		c.t.Errorf("asked %.20q, got %.40q, want %.40q", text, got, want)
	}
}

// newUDP starts a proxy that carries datagrams. With conns it has so few places.
func newUDP(t testing.TB, opts Options, conns int, servers ...string) *stand {
	t.Helper()
	s := newStill(t, opts, conns, servers...)
	s.set(state.OptProtocol, state.Int(int(state.UDP)))
	s.start()
	return s
}

func (s *stand) call() caller { return newCaller(s.t, s.Address("")) }

// mark marks server i as failed at that time.
func (s *stand) mark(i int, at time.Time) {
	s.t.Helper()
	s.apply(state.SetServer{Index: i, Fields: state.FieldMark, Server: state.Server{Mark: state.At(at)}})
}

func TestFlowsKeepTheirServerAndAreCounted(t *testing.T) {
	for _, loops := range []int{1, 2, 3} {
		a, b := datagrams(t, loopback, called("a")), datagrams(t, loopback, called("b"))
		s := newUDP(t, Options{Loops: loops}, 0, a, b)
		one, two := s.call(), s.call()
		one.ask("x", "b x") // round robin begins at server 1
		one.ask("", "b ")
		one.ask("yz", "b yz")
		two.ask("x", "b x") // and remembers the address
		s.set(state.OptRoundRobin, state.Bool(true))
		s.call().ask("x", "a x")
		one.ask("x", "b x") // flows stay where they are
		srv, clients := s.Servers(""), slices.Collect(s.Clients(""))
		if b := srv[1]; b.Conns != 2 || b.Sent != 5 || b.Received != 15 || b.Attempts != 2 || srv[0].Sent != 1 {
			t.Errorf("servers = %+v", srv)
		}
		if len(clients) != 1 || clients[0].Connects != 3 || clients[0].Received != 6 || clients[0].Sent != 18 {
			t.Errorf("clients = %+v", clients)
		}
		conns := s.Connections("")
		if len(conns) != 3 || conns[0].State != StateConnected || conns[0].UpFD < 0 || conns[0].Server != 1 {
			t.Errorf("connections = %+v", conns)
		}
		if st := s.Stats(""); st.Used != 3 || st.Accepted != 3 {
			t.Errorf("stats = %+v", st)
		}
		if !s.CloseConnection("", conns[0].Slot) || len(s.Connections("")) != 2 {
			t.Error("could not close a flow")
		}
		s.Drain(t.Context())
		s.spotless()
	}
}

// Datagrams of every size pass whole, an empty one as first and only one too.
func TestDatagramsOfAllSizes(t *testing.T) {
	s := newUDP(t, Options{}, 0, datagrams(t, loopback, func(s string) []string { return []string{s} }))
	for _, n := range []int{0, 1, 1472, 9000, 65507} {
		s.call().ask(strings.Repeat("x", n), strings.Repeat("x", n))
	}
}

func TestManyReplies(t *testing.T) {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprint(i))
	}
	s := newUDP(t, Options{}, 0, datagrams(t, loopback, func(string) []string { return many }))
	c := s.call()
	c.say("x")
	for _, want := range many {
		if got := c.hear(5 * time.Second); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// The reply comes from the address that the client has sent to.
func TestRepliesLeaveFromWhereTheyWereAsked(t *testing.T) {
	for _, on := range []string{"0.0.0.0", "[::]"} {
		s := newUDP(t, Options{}, 0, datagrams(t, loopback, called("a")))
		s.listen(on + ":0")
		port := netip.MustParseAddrPort(s.Address("")).Port()
		for _, at := range []string{"127.0.0.1", "127.0.0.77", "127.1.2.3"} {
			// A connected socket takes replies from there alone.
			newCaller(t, fmt.Sprintf("%s:%d", at, port)).ask("x", "a x")
		}
		if on == "[::]" {
			newCaller(t, fmt.Sprintf("[::1]:%d", port)).ask("x", "a x")
		}
		// One port of a client may talk to two addresses of ours.
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		for _, at := range []string{"127.0.0.8", "127.0.0.9", "127.0.0.8"} {
			c.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(at), port)))
			if _, from, err := c.ReadFrom(make([]byte, 10)); err != nil || !strings.HasPrefix(from.String(), at) {
				t.Errorf("asked %s, answered from %v, %v", at, from, err)
			}
		}
	}
}

// A closed port is a failed connect: the server is shunned, and the client's next
// datagram goes to another one.
func TestFlowLeavesAServerThatIsAway(t *testing.T) {
	dead := refusing(t)
	s := newUDP(t, Options{}, 0, datagrams(t, loopback, called("a")), dead)
	c := s.call()
	c.say("lost")
	eventually(t, "the dead server is marked", func() bool { return s.Servers("")[1].Mark != 0 })
	c.ask("x", "a x")
	s.call().ask("x", "a x")
	if v := s.Servers("")[1]; v.Failures == 0 || v.Conns != 0 {
		t.Errorf("the dead one: %+v", v)
	}
}

// A flow whose server is shunned or removed is placed again.
func TestFlowIsPlacedAgain(t *testing.T) {
	s := newUDP(t, Options{}, 0, datagrams(t, loopback, called("a")), datagrams(t, loopback, called("b")))
	c := s.call()
	c.ask("x", "b x")
	s.mark(1, time.Now())
	c.ask("x", "a x")
	s.server(0, datagrams(t, loopback, called("c")), nil)
	c.ask("x", "c x")
	if n := s.Stats("").Used; n != 1 {
		t.Errorf("%d flows, want 1", n)
	}
	if got := slices.Collect(s.Clients("")); len(got) != 1 || got[0].Connects != 1 {
		t.Errorf("clients = %+v", got)
	}
}

// A reply lifts a mark that has run out; a flow alone does not.
func TestReplyLiftsTheMark(t *testing.T) {
	s := newUDP(t, Options{}, 0, datagrams(t, loopback, called("a")))
	s.set(state.OptBlacklist, state.Int(1))
	s.mark(0, time.Now().Add(-10*time.Second))
	c := s.call()
	if s.Servers("")[0].Mark == 0 {
		t.Fatal("no mark")
	}
	c.ask("x", "a x")
	eventually(t, "the mark is lifted", func() bool { return s.Servers("")[0].Mark == 0 })
}

func TestIdleFlowsEnd(t *testing.T) {
	s := newUDP(t, Options{}, 0, datagrams(t, loopback, called("a")))
	if got := idleOf(&s.machine.View().Service("").Settings); got != flowIdle {
		t.Errorf("flows last %v by default", got)
	}
	s.set(state.OptIdle, state.Int(1))
	begun := time.Now()
	s.call().ask("x", "a x")
	eventually(t, "no flow left", func() bool { return s.Stats("").Used == 0 })
	if took := time.Since(begun); took < time.Second {
		t.Errorf("ended after %v", took)
	}
}

// When all places are taken, the flow that was used longest ago goes, and one that
// is a conversation after those that are not.
func TestFullTableEndsTheOldest(t *testing.T) {
	s := newUDP(t, Options{}, 8, datagrams(t, loopback, called("a")))
	from := func(i int) caller {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 1, byte(i))}}
		c, err := d.Dial("udp", s.Address(""))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return caller{t, c}
	}
	talk := from(100)
	talk.ask("1", "a 1")
	talk.ask("2", "a 2")
	for i := range 100 {
		from(i).ask("x", "a x")
	}
	talk.ask("3", "a 3")
	st := s.Stats("")
	if st.Used != 8 || st.Accepted != 101 || st.Evicted != 93 {
		t.Errorf("stats = %+v", st)
	}
}

// A client with many ports pushes out nobody but himself.
func TestOneClientDoesNotPushOutTheOthers(t *testing.T) {
	s := newUDP(t, Options{}, 8, datagrams(t, loopback, called("a")))
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 1, 1)}}
	var few []caller
	for range 6 {
		c, err := d.Dial("udp", s.Address(""))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		few = append(few, caller{t, c})
		few[len(few)-1].ask("x", "a x")
	}
	for range 100 {
		s.call().ask("x", "a x")
	}
	for _, c := range few {
		c.ask("y", "a y")
	}
	if n := s.Servers("")[0].Attempts; n != 106 {
		t.Errorf("%d flows were made, want 106", n)
	}
}

func TestUDPStandsBy(t *testing.T) {
	s := newStill(t, Options{Loops: 2, Standby: true}, 0, datagrams(t, loopback, called("a")))
	s.set(state.OptProtocol, state.Int(int(state.UDP)))
	s.start()
	c := s.call()
	c.say("unheard")
	if got := c.hear(100 * time.Millisecond); got != "-" {
		t.Errorf("a standby answers %q", got)
	}
	s.Serve()
	c.ask("x", "a x") // and what came before is not answered now
	s.Standby()
	c.say("unheard")
	if got := c.hear(100 * time.Millisecond); got != "-" {
		t.Errorf("a standby answers %q", got)
	}
	s.spotless()
	s.Serve()
	c.ask("y", "a y")
}

func TestUDPEmergencyAbuseAndNobody(t *testing.T) {
	s := newUDP(t, Options{}, 0, refusing(t))
	special := func(i int, name string) { s.server(i, datagrams(t, loopback, called(name)), nil) }
	special(state.Emergency, "emergency")
	c := s.call()
	c.say("lost")
	eventually(t, "the dead server is marked", func() bool { return s.Servers("")[0].Mark != 0 })
	c.ask("x", "emergency x")
	s.apply(state.AppendACL{List: 1, Entry: state.ACLEntry{Addr: netip.MustParseAddr("127.0.0.1")}})
	s.set(state.OptClientACL, state.Int(1))
	special(state.Abuse, "abuse")
	s.call().ask("x", "abuse x")
}

// The port of a TCP service and of a UDP service may be the same, and a service
// may change what it carries.
func TestProtocolsShareAPort(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	at := s.Address("")
	s.apply(state.AddService{Service: "dns"},
		state.Set{Service: "dns", Option: state.OptProtocol, Value: state.Int(int(state.UDP))},
		state.Set{Service: "dns", Option: state.OptListen, Value: state.Bind(listenOn(at))})
	ap := netip.MustParseAddrPort(datagrams(t, loopback, called("a")))
	s.apply(state.SetServer{
		Service: "dns", Fields: state.FieldAddress | state.FieldPort,
		Server: state.Server{Address: state.Address{Host: ap.Addr().String(), IP: ap.Addr()}, Port: ap.Port()},
	})
	newCaller(t, at).ask("x", "a x")
	exchange(t, s.dial(), "tcp")
}

// Nobody else gets the port, though our own sockets share it.
func TestSecondUDPListenerIsRefused(t *testing.T) {
	s := newUDP(t, Options{Loops: 3}, 0, datagrams(t, loopback, called("a")))
	s.call().ask("x", "a x") // its loops are there then
	other := newStill(t, Options{}, 0)
	_, err := other.opts.Propose(t.Context(), state.Command{Ops: []state.Op{
		state.Set{Option: state.OptProtocol, Value: state.Int(int(state.UDP))},
		state.Set{Option: state.OptListen, Value: state.Bind(listenOn(s.Address("")))},
	}})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
	other.Drain(t.Context())
}
