package proxy

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"unsafe"

	"pen/state"
)

func TestATrialIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(trial{}); n > 16 {
		t.Errorf("a trial has %d bytes", n)
	}
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
