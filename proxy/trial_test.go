package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"pen/state"
)

// world is a service with a real state machine behind it and no network: the
// test says what becomes of each connect.
type world struct {
	t       testing.TB
	mu      sync.Mutex // one proposal at a time; guards lag
	lag     bool       // views are not passed on
	machine *state.Machine
	*service
	now  state.Time
	down map[int]bool // servers that refuse
}

// newWorld makes a service with n servers.
func newWorld(t testing.TB, n int) *world {
	w := &world{t: t, machine: state.New(), now: state.At(time.Now()), down: map[int]bool{}}
	w.service = newService(slog.New(slog.DiscardHandler), w.proposed, w.machine.View().Service(""))
	for i := range n {
		w.server(i, func(*state.Server) {}, 0)
	}
	w.refresh()
	return w
}

// refresh passes the view on to the service.
func (w *world) refresh() {
	v := w.machine.View()
	var l *lists
	if p := w.plan.Load(); p != nil {
		l = p.lists
	}
	w.configure(v, v.Service(""), l.compile(v))
}

func (w *world) proposed(_ context.Context, c state.Command) (state.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.machine.Apply(c)
	if !w.lag {
		w.refresh()
	}
	return r, nil
}

// late keeps views from the service, or no longer.
func (w *world) late(lag bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lag = lag; !lag {
		w.refresh()
	}
}

func (w *world) apply(ops ...state.Op) {
	w.t.Helper()
	if r, _ := w.proposed(context.Background(), state.Command{Time: w.now, Ops: ops}); r.Err != nil {
		w.t.Fatal(r.Err)
	}
}

func (w *world) set(o state.Option, v state.Value) {
	w.t.Helper()
	w.apply(state.Set{Option: o, Value: v})
}

// server makes or changes server i, whose address follows from its number.
func (w *world) server(i int, change func(*state.Server), fields state.ServerFields) {
	w.t.Helper()
	ip := netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 10)})
	s := state.Server{Address: state.Address{Host: ip.String(), IP: ip}, Port: 80}
	change(&s)
	w.apply(state.SetServer{Index: i, Fields: state.FieldAddress | state.FieldPort | fields, Server: s})
}

func (w *world) limits(i, soft, hard int) {
	w.t.Helper()
	w.server(i, func(s *state.Server) { s.Soft, s.Hard = soft, hard }, state.FieldSoft|state.FieldHard)
}

func (w *world) deny(list int, addr string) {
	w.t.Helper()
	w.apply(state.AppendACL{List: list, Entry: state.ACLEntry{Addr: netip.MustParseAddr(addr)}})
}

var errRefused = errors.New("connection refused")

// connect is one client's connection. It returns the names of the servers that
// were tried, the last of which it has, or "-" at the end if it has none.
func (w *world) connect(client string) (string, *server) {
	addr, _ := netip.ParseAddr(client)
	var tried []string
	t := w.begin(addr, 4711, w.now)
	for range 100 {
		tg, ok := w.next(&t, addr, w.now)
		if !ok {
			return strings.Join(append(tried, "-"), " "), nil
		}
		v := tg.server
		tried = append(tried, serverName(v.index))
		w.attempting(&t, v, addr, w.now)
		if !w.down[v.index] {
			w.connected(v, w.now)
			return strings.Join(tried, " "), v
		}
		w.failed(v, errRefused, w.now)
	}
	w.t.Fatalf("no end: %v", tried)
	return "", nil
}

func serverName(i int) string {
	switch i {
	case state.Emergency:
		return "emergency"
	case state.Abuse:
		return "abuse"
	case state.None:
		return "none"
	}
	return string(rune('A' + i))
}

// visits connects and closes at once, and fails the test if another server than
// the wanted is met.
func (w *world) visits(client, want string) {
	w.t.Helper()
	got, v := w.connect(client)
	if v != nil {
		w.release(v)
	}
	if got != want {
		w.t.Errorf("%s: got %q, want %q", client, got, want)
	}
}

// holds connects and stays.
func (w *world) holds(client, want string) *server {
	w.t.Helper()
	got, v := w.connect(client)
	if got != want {
		w.t.Errorf("%s: got %q, want %q", client, got, want)
	}
	return v
}

func (w *world) special(i int) {
	w.server(i, func(*state.Server) {}, 0)
}

func TestATrialIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(trial{}); n > 16 {
		t.Errorf("a trial has %d bytes", n)
	}
}

func TestAClientIsSentBackToItsServer(t *testing.T) {
	w := newWorld(t, 3)
	w.visits("10.0.0.1", "B")
	w.visits("10.0.0.2", "C")
	w.visits("10.0.0.1", "B")
	w.visits("::ffff:10.0.0.1", "B")
	w.visits("fe80::1%eth0", "A")
	w.visits("fe80::1", "A")
	w.visits("", "B") // all clients on Unix sockets are one
	w.visits("", "B")
}

func TestRoundrobinForgetsClients(t *testing.T) {
	w := newWorld(t, 3)
	w.set(state.OptRoundRobin, state.Bool(true))
	for _, want := range []string{"B", "C", "A", "B"} {
		w.visits("10.0.0.1", want)
	}
}

func TestHashWithRoundrobinIsStateless(t *testing.T) {
	w := newWorld(t, 4)
	w.set(state.OptHash, state.Int(int(state.HashOn)))
	w.set(state.OptRoundRobin, state.Bool(true))
	addr := netip.MustParseAddr("10.0.0.1")
	seen := map[int16]int16{}
	for i := range uint16(200) {
		port := 1 + i%100
		at := w.begin(addr, port, w.now).at
		if before, ok := seen[int16(port)]; ok && before != at {
			t.Errorf("port %d: got %d and %d", port, before, at)
		}
		seen[int16(port)] = at
	}
	servers := map[int16]bool{}
	for _, at := range seen {
		servers[at] = true
	}
	if len(servers) != 4 {
		t.Errorf("100 ports met servers %v, want all", servers)
	}
}

func TestMemoryComesBeforeHash(t *testing.T) {
	w := newWorld(t, 2)
	w.visits("10.0.0.1", "B")
	w.set(state.OptHash, state.Int(int(state.HashCompat))) // of 10.x.x.x with two servers: A
	w.visits("10.0.0.1", "B")
	w.visits("10.0.0.2", "A")
}

func TestARefusedConnectMovesOnAtOnceAndShuns(t *testing.T) {
	w := newWorld(t, 3)
	w.down[1] = true
	w.visits("10.0.0.1", "B C")
	w.visits("10.0.0.2", "C") // round robin goes on from B, which was its choice
	w.visits("10.0.0.3", "A")
	w.visits("10.0.0.4", "C") // B is shunned
	if n := w.failovers.Load(); n != 1 {
		t.Errorf("%d failovers, want 1", n)
	}
}

func TestAClientStaysWithTheServerItFailedOverTo(t *testing.T) {
	w := newWorld(t, 3)
	w.down[1] = true
	w.visits("10.0.0.1", "B C")
	w.down[1] = false
	w.now += 60_000
	w.visits("10.0.0.1", "C")
}

func TestFailoverGoesByIndexFromTheLastTried(t *testing.T) {
	w := newWorld(t, 5)
	w.down[1], w.down[2], w.down[4] = true, true, true
	w.visits("10.0.0.1", "B C D")
	w.now += 60_000
	w.down[3] = true
	w.visits("10.0.0.1", "D E A")
}

func TestFailoverEndsWithTheFirstChoiceAndIsOneRound(t *testing.T) {
	w := newWorld(t, 3)
	w.down[0], w.down[1], w.down[2] = true, true, true
	w.visits("10.0.0.1", "B C A -")
	w.visits("10.0.0.1", "-") // all are shunned
	w.set(state.OptBlacklist, state.Int(0))
	w.visits("10.0.0.2", "C A B C -") // nobody is ever shunned, and still there is an end
	if got := w.refusalCounts()["no_server"]; got != 3 {
		t.Errorf("%d refusals, want 3", got)
	}
}

func TestTheBlacklistEndsByTime(t *testing.T) {
	w := newWorld(t, 2)
	w.down[1] = true
	w.visits("10.0.0.1", "B A")
	w.down[1] = false
	w.now += 29_999
	w.visits("10.0.0.2", "A")
	w.visits("10.0.0.3", "A")
	w.now++
	w.visits("10.0.0.4", "B")
}

func TestStubbornClosesAndTheServerIsStillShunned(t *testing.T) {
	w := newWorld(t, 2)
	w.special(state.Emergency)
	w.set(state.OptStubborn, state.Bool(true))
	w.down[1] = true
	w.visits("10.0.0.1", "B -")
	w.visits("10.0.0.2", "A")
	w.visits("10.0.0.1", "-")
}

func TestTheEmergencyServerTakesWhomNobodyTakes(t *testing.T) {
	w := newWorld(t, 2)
	w.special(state.Emergency)
	w.down[0], w.down[1] = true, true
	w.visits("10.0.0.1", "B A emergency")
	w.visits("10.0.0.1", "emergency")
	w.down = map[int]bool{}
	w.now += 60_000
	// It is not remembered: the client starts afresh, in turn.
	w.visits("10.0.0.1", "A")
	// All full is the emergency server too.
	w.limits(0, -1, 0)
	w.limits(1, -1, 0)
	w.visits("10.0.0.9", "emergency")
}

func TestAFailingEmergencyServerIsShunnedAndTheClientClosed(t *testing.T) {
	w := newWorld(t, 1)
	w.special(state.Emergency)
	w.down[0], w.down[state.Emergency] = true, true
	w.visits("10.0.0.1", "A emergency -")
	w.down[state.Emergency] = false
	w.visits("10.0.0.1", "-")
	w.now += 30_000
	w.visits("10.0.0.1", "A emergency")
}

func TestWithoutAnyServerTheEmergencyServerServes(t *testing.T) {
	w := newWorld(t, 0)
	w.visits("10.0.0.1", "-")
	w.special(state.Emergency)
	w.visits("10.0.0.1", "emergency")
}

func TestWithOneServerThereIsNoScan(t *testing.T) {
	w := newWorld(t, 1)
	w.set(state.OptBlacklist, state.Int(0))
	w.down[0] = true
	w.visits("10.0.0.1", "A -")
}

func TestDeniedClientsGoToTheAbuseServerAndNowhereElse(t *testing.T) {
	w := newWorld(t, 2)
	w.special(state.Emergency)
	w.deny(1, "10.6.6.6")
	w.set(state.OptClientACL, state.Int(1))
	w.visits("10.6.6.6", "-") // no abuse server: closed, and not the emergency server
	w.special(state.Abuse)
	w.visits("10.6.6.6", "abuse")
	w.visits("::ffff:10.6.6.6", "abuse")
	w.visits("10.6.6.7", "B")
	w.down[state.Abuse] = true
	w.visits("10.6.6.6", "abuse -") // no failover from it
	w.set(state.OptClientACL, state.Int(0))
	w.visits("10.6.6.6", "A") // and it is not remembered
	counts := w.refusalCounts()
	if counts["denied"] != 1 || counts["no_abuse_server"] != 1 {
		t.Errorf("got %v, want one of each", counts)
	}
}

func TestTheAbuseAndTheEmergencyServerHaveNoACL(t *testing.T) {
	w := newWorld(t, 1)
	w.special(state.Emergency)
	w.special(state.Abuse)
	w.deny(0, "10.6.6.6") // list 0 is everybody's default
	w.visits("10.6.6.6", "abuse")
	w.set(state.OptClientACL, state.Int(1))
	w.visits("10.6.6.6", "emergency") // the only server denies him
}

func TestAServersACLSendsTheClientToTheNext(t *testing.T) {
	w := newWorld(t, 3)
	w.deny(3, "10.6.6.6")
	w.server(1, func(s *state.Server) { s.ACL = 3 }, state.FieldACL)
	w.visits("10.6.6.6", "C")
	w.visits("", "C")
}

func TestSoftLimitForNewClientsHardForKnown(t *testing.T) {
	w := newWorld(t, 2)
	w.limits(1, 2, 4)
	w.holds("10.0.0.1", "B")
	w.holds("10.0.0.2", "A")
	last := w.holds("10.0.0.3", "B")
	w.visits("10.0.0.4", "A")
	w.now += 1000
	w.visits("10.0.0.5", "A") // B's turn, but it is full
	w.holds("10.0.0.1", "B")  // known: 3
	w.holds("10.0.0.1", "B")  // 4
	w.visits("10.0.0.1", "A") // full for all
	w.release(last)
	w.visits("10.0.0.3", "B")
	w.visits("10.0.0.6", "A") // B has 3: too many for a new client
}

func TestHardWithoutSoftIsNoLimitAndHardBelowSoftNoBonus(t *testing.T) {
	w := newWorld(t, 1)
	w.limits(0, 0, 1)
	for range 3 {
		w.holds("10.0.0.1", "A")
	}
	w = newWorld(t, 1)
	w.limits(0, 2, 1)
	w.holds("10.0.0.1", "A")
	w.holds("10.0.0.1", "A")
	w.visits("10.0.0.1", "-")
}

func TestANegativeLimitIsAlwaysFull(t *testing.T) {
	w := newWorld(t, 1)
	w.limits(0, -1, 0)
	w.visits("10.0.0.1", "-")
}

func TestARejectedClientFreesNoPlace(t *testing.T) {
	w := newWorld(t, 1)
	w.limits(0, 2, 4)
	for range 4 {
		w.holds("10.0.0.1", "A")
	}
	for range 3 {
		w.visits("10.0.0.1", "-")
	}
	w.down[0] = true
	w.visits("10.0.0.1", "-")
	if got := w.serverStats()[0].Conns; got != 4 {
		t.Errorf("%d connections, want 4", got)
	}
}

func TestAttemptsCountAgainstTheLimit(t *testing.T) {
	w := newWorld(t, 1)
	w.limits(0, 2, 0)
	addr := netip.MustParseAddr("10.0.0.1")
	var got []bool
	var held []*server
	for range 3 {
		tr := w.begin(addr, 1, w.now)
		tg, ok := w.next(&tr, addr, w.now)
		got, held = append(got, ok), append(held, tg.server)
	}
	if fmt.Sprint(got) != "[true true false]" {
		t.Errorf("got %v, want two places", got)
	}
	if n := w.pending.Load(); n != 2 {
		t.Errorf("%d attempts under way, want 2", n)
	}
	w.abandon(held[0])
	w.connected(held[1], w.now)
	if p, n := w.pending.Load(), w.serverStats()[0].Conns; p != 0 || n != 1 {
		t.Errorf("%d attempts and %d connections, want 0 and 1", p, n)
	}
}

func TestABurstNeverPassesTheLimit(t *testing.T) {
	w := newWorld(t, 1)
	w.limits(0, 7, 0)
	var wg sync.WaitGroup
	var mu sync.Mutex
	most, got := int64(0), 0
	for i := range 8 {
		wg.Go(func() {
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			for range 500 {
				tr := w.begin(addr, 1, w.now)
				if tg, ok := w.next(&tr, addr, w.now); ok {
					n := tg.server.places.Load()
					mu.Lock()
					most, got = max(most, n), got+1
					mu.Unlock()
					w.connected(tg.server, w.now)
					w.release(tg.server)
				}
			}
		})
	}
	wg.Wait()
	if most > 7 || got == 0 || w.serverStats()[0].Conns != 0 {
		t.Errorf("at most %d at once of %d, %d left, want 7 at most and none left", most, got, w.serverStats()[0].Conns)
	}
}

func TestASuccessLiftsTheMark(t *testing.T) {
	w := newWorld(t, 2)
	w.down[1] = true
	w.visits("10.0.0.1", "B A")
	if w.serverStats()[1].Mark != w.now {
		t.Errorf("mark %d, want %d", w.serverStats()[1].Mark, w.now)
	}
	w.down[1] = false
	w.now += 30_000
	w.visits("10.0.0.2", "A")
	w.visits("10.0.0.3", "B")
	if got := w.serverStats()[1].Mark; got != 0 {
		t.Errorf("mark %d after a success, want 0", got)
	}
}

func TestASuccessDoesNotLiftAMarkThatIsNewer(t *testing.T) {
	w := newWorld(t, 2)
	addr := netip.MustParseAddr("10.0.0.1")
	tr := w.begin(addr, 1, w.now)
	tg, _ := w.next(&tr, addr, w.now)
	w.server(1, func(s *state.Server) { s.Mark = w.now + 5000 }, state.FieldMark)
	w.connected(tg.server, w.now)
	if w.serverStats()[1].Mark != w.now+5000 {
		t.Error("the operator's mark was lifted")
	}
	tr = w.begin(addr, 1, w.now)
	w.failed(tg.server, errRefused, w.now)
	if w.serverStats()[1].Mark != w.now+5000 {
		t.Error("the operator's mark was made shorter")
	}
}

func TestARetiredServerIsNeverChosenAndNeverTried(t *testing.T) {
	retire := func(w *world, i int) {
		w.server(i, func(s *state.Server) { s.IP = netip.IPv4Unspecified() }, 0)
	}
	w := newWorld(t, 3)
	retire(w, 0) // slot 0 too
	w.down[1] = true
	w.visits("10.0.0.1", "B C")
	w.down[2] = true
	w.now += 60_000
	w.visits("10.0.0.2", "C B -")
	w = newWorld(t, 2)
	w.visits("10.0.0.1", "B")
	retire(w, 1)
	w.visits("10.0.0.1", "A") // who had it is placed anew
	w = newWorld(t, 2)
	w.set(state.OptHash, state.Int(int(state.HashCompat)))
	retire(w, 0)
	w.set(state.OptStubborn, state.Bool(true))
	w.visits("10.0.0.1", "B")
}

func TestAHoleAndAPortOfZeroAreNeverUsed(t *testing.T) {
	w := newWorld(t, 1)
	w.server(2, func(*state.Server) {}, 0) // 1 is a hole
	w.server(3, func(s *state.Server) { s.Port = 0 }, 0)
	w.visits("10.0.0.1", "C")
	w.visits("10.0.0.2", "A")
	w.visits("10.0.0.3", "C")
}

func TestAServerOnAUnixSocketNeedsNoPort(t *testing.T) {
	w := newWorld(t, 0)
	w.server(0, func(s *state.Server) { s.Address, s.Port = state.Address{Host: "/run/www"}, 0 }, 0)
	v := w.holds("10.0.0.1", "A")
	if v.path != "/run/www" {
		t.Errorf("path %q", v.path)
	}
}

func TestPrioAndWeightChoose(t *testing.T) {
	w := newWorld(t, 2)
	w.server(0, func(s *state.Server) { s.Weight, s.Prio = 1, 1 }, state.FieldWeight|state.FieldPrio)
	w.server(1, func(s *state.Server) { s.Weight, s.Prio = 2, 2 }, state.FieldWeight|state.FieldPrio)
	w.set(state.OptWeight, state.Bool(true))
	for i, want := range []string{"A", "B", "B", "A", "B", "B"} {
		w.holds(fmt.Sprint("10.0.0.", i), want)
	}
	w.set(state.OptPrio, state.Bool(true))
	w.visits("10.0.1.1", "A")
	w.visits("10.0.1.2", "A")
}

func TestAnAddressChangeLeavesOpenConnectionsAndStartsAnew(t *testing.T) {
	w := newWorld(t, 1)
	w.limits(0, 1, 0)
	old := w.holds("10.0.0.1", "A")
	w.server(0, func(s *state.Server) { s.IP = netip.MustParseAddr("10.0.9.9") }, 0)
	moved := w.holds("10.0.0.1", "A")
	if moved == old || moved.addr.Addr() != netip.MustParseAddr("10.0.9.9") {
		t.Errorf("got %v, want the new address", moved)
	}
	w.limits(0, 1, 0) // back to the old address
	w.visits("10.0.0.2", "-")
	w.release(old)
	w.visits("10.0.0.2", "A")
}

func TestSettingsOtherThanTheAddressKeepTheServer(t *testing.T) {
	w := newWorld(t, 1)
	v := w.holds("10.0.0.1", "A")
	w.server(0, func(s *state.Server) { s.Weight, s.Host = 7, "www1" }, state.FieldWeight)
	if again := w.holds("10.0.0.1", "A"); again != v || v.places.Load() != 2 {
		t.Errorf("got another server, or %d places", v.places.Load())
	}
}

func TestAListThatGetsShorterUnderATrialEndsIt(t *testing.T) {
	w := newWorld(t, 3)
	addr := netip.MustParseAddr("10.0.0.1")
	tr := w.begin(addr, 1, w.now)
	w.apply(state.RemoveServer{Index: 2}, state.RemoveServer{Index: 1})
	if tg, ok := w.next(&tr, addr, w.now); ok {
		t.Errorf("got %v, which is gone", tg.server)
	}
}

func TestTheStatusKnowsTheServerTriedLast(t *testing.T) {
	w := newWorld(t, 3)
	w.down[1] = true
	w.visits("10.0.0.1", "B C")
	if got := w.current.Load(); got != 2 {
		t.Errorf("current is %d, want 2", got)
	}
}

func TestTrialsAllocateNothing(t *testing.T) {
	w := newWorld(t, 10)
	w.set(state.OptHash, state.Int(int(state.HashOn)))
	addr := netip.MustParseAddr("10.0.0.1")
	w.connect("10.0.0.1")
	n := testing.AllocsPerRun(100, func() {
		tr := w.begin(addr, 1, w.now)
		tg, _ := w.next(&tr, addr, w.now)
		w.attempting(&tr, tg.server, addr, w.now)
		w.connected(tg.server, w.now)
		w.release(tg.server)
		w.credit(&tr, addr, 1, 1)
	})
	if n != 0 {
		t.Errorf("%.0f allocations for a connection", n)
	}
}
