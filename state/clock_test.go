package state

import (
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A node in the tests has a clock, which follows a machine, and its own idea of
// what day it is.
type clocked struct {
	*Clock
	machine *Machine
	wrong   time.Duration
}

func newClocked(m *Machine, wrong time.Duration) *clocked {
	return &clocked{NewClock(func() Time { return m.View().Time }), m, wrong}
}

// now is the time on the wall of this node.
func (c *clocked) now() Time { return c.At(time.Now().Add(c.wrong)) }

func (c *clocked) visit(t *testing.T, clients ...int) {
	t.Helper()
	var visits []Visit
	for _, n := range clients {
		visits = append(visits, Visit{Client: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), Server: 0})
	}
	id := c.machine.View().Services[0].ID
	if r := c.machine.Apply(Command{Time: c.now(), Ops: []Op{Visits{Service: id, Clients: visits}}}); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func withTracking(t *testing.T, seconds int) *Machine {
	t.Helper()
	m := New()
	if r := m.Apply(Command{Ops: []Op{Set{Option: OptTracking, Value: Int(seconds)}}}); r.Err != nil {
		t.Fatal(r.Err)
	}
	return m
}

// A holder whose clock is a day ahead forgets nobody, and its heir whose clock is
// right goes on where it was.
func TestClockOfANodeIsADayWrong(t *testing.T) {
	for _, wrong := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			m := withTracking(t, 3600)
			a, b := newClocked(m, 0), newClocked(m, wrong)
			all := make([]int, 1000)
			for i := range all {
				all[i] = i
			}
			a.visit(t, all...)
			began := m.View().Time
			notice := func() { a.now(); b.now() } // as a daemon does with every command
			notice()
			time.Sleep(10 * time.Minute)
			b.visit(t, 0)
			notice()
			if n := m.View().Services[0].Clients().Len(); n != 1000 {
				t.Errorf("clock wrong by %v: %d clients are left, want all 1000", wrong, n)
			}
			time.Sleep(10 * time.Minute)
			a.visit(t, 1)
			notice()
			if got, want := m.View().Time-began, Time(20*60*1000); got != want {
				t.Errorf("clock wrong by %v: %d ms have passed, want %d", wrong, got, want)
			}
			// And who does not come is forgotten in time, not a day later.
			time.Sleep(51 * time.Minute)
			b.visit(t, 1)
			table := m.View().Services[0].Clients()
			if _, known := table.Lookup(netip.AddrFrom4([4]byte{10, 0, 0, 2})); known {
				t.Error("after 71 minutes a client is still known that is to be remembered for 60")
			}
			if _, known := table.Lookup(netip.AddrFrom4([4]byte{10, 0, 0, 1})); !known {
				t.Error("a client that comes is forgotten")
			}
		})
	}
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var agreed Time
		c := NewClock(func() Time { return agreed })
		is := func(what string, want Time) {
			t.Helper()
			if got := c.At(time.Now()); got != want {
				t.Errorf("%s: %d, want %d", what, got, want)
			}
		}
		wall := At(time.Now())
		is("nothing agreed on: the wall clock", wall)
		time.Sleep(time.Second)
		is("and it goes on", wall+1000)
		agreed = 5_000_000
		is("the first agreed time counts", 5_000_000)
		time.Sleep(time.Second)
		is("and it goes on", 5_001_000)
		agreed = 5_000_900 // a command of ours, which took a tenth of a second
		is("what has travelled does not hold us up", 5_001_000)
		agreed = 5_060_000
		is("who is ahead is followed", 5_060_000)
		time.Sleep(time.Hour)
		agreed = 5_061_000
		is("who comes from the past is followed", 5_061_000)
	})
	if now := time.Now(); (*Clock)(nil).At(now) != At(now) {
		t.Error("no clock is the wall clock")
	}
}

// The first command takes its time from the wall clock, and when it is agreed on that is
// a little ago.
func TestClockDoesNotGoBackAtTheFirstCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agreed := Time(0)
		c := NewClock(func() Time { return agreed })
		proposed := c.At(time.Now())
		time.Sleep(3 * time.Millisecond)
		before := c.At(time.Now())
		agreed = proposed
		if now := c.At(time.Now()); now != before {
			t.Errorf("%d after %d", now, before)
		}
	})
}

func TestClockIsForEverybody(t *testing.T) {
	m := withTracking(t, 0)
	c := newClocked(m, 0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := Time(0)
			for range 1000 {
				now := c.now()
				if now < last {
					t.Errorf("%d after %d", now, last)
				}
				last = now
			}
		})
	}
	for i := range 200 {
		c.visit(t, i)
	}
	wg.Wait()
}
