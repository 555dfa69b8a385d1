package proxy

import (
	"fmt"
	"net/netip"
	"testing"

	"pen/state"
)

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
	w.server(1, func(s *state.Server) { s.ACL = state.Numbered(3) }, state.FieldACL)
	w.visits("10.6.6.6", "C")
	w.visits("", "C")
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

func TestTheStatusKnowsTheServerTriedLast(t *testing.T) {
	w := newWorld(t, 3)
	w.down[1] = true
	w.visits("10.0.0.1", "B C")
	if got := w.current.Load(); got != 2 {
		t.Errorf("current is %d, want 2", got)
	}
}
