package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pen/state"
)

func TestCountersFollowTheClientIntoItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.now = present()
		addr := netip.MustParseAddr("10.0.0.1")
		first := w.begin(addr, 1, w.now)
		w.credit(&first, addr, 10, 1)
		report := func() string {
			var s []string
			for c := range w.clientStats(w.now) {
				s = append(s, fmt.Sprintf("%d %v %d/%d/%d", c.Slot, c.Client, c.Connects, c.Sent, c.Received))
			}
			return fmt.Sprint(s)
		}
		if got, want := report(), "[-1 10.0.0.1 1/10/1]"; got != want {
			t.Errorf("before the table has it: got %s, want %s", got, want)
		}
		w.memory.flush(t.Context())
		if got, want := report(), "[0 10.0.0.1 1/10/1]"; got != want {
			t.Errorf("in the table: got %s, want %s", got, want)
		}
		w.credit(&first, addr, 10, 1) // it still thinks that it has no slot
		second := w.begin(addr, 2, w.now)
		w.credit(&second, addr, 5, 5)
		other := netip.MustParseAddr("10.0.0.2")
		w.begin(other, 1, w.now)
		if got, want := report(), "[0 10.0.0.1 2/25/7 -1 10.0.0.2 1/0/0]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestEvictionResetsTheCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		max := w.memory.table.Load().Max()
		come := func(a netip.Addr) {
			w.begin(a, 1, present())
			w.memory.flush(t.Context())
			time.Sleep(time.Second)
		}
		connects := func(a netip.Addr) uint64 {
			all := slices.Collect(w.clientStats(present()))
			i := slices.IndexFunc(all, func(c ClientStats) bool { return c.Client == a })
			if i < 0 {
				return 0
			}
			return all[i].Connects
		}
		come(clientN(0))
		come(clientN(0))
		if n := connects(clientN(0)); n != 2 {
			t.Errorf("%d connects, want 2", n)
		}
		for i := range max {
			come(clientN(i + 1))
		}
		if n := connects(clientN(0)); n != 0 {
			t.Errorf("%d connects of a client that was evicted", n)
		}
		come(clientN(0))
		if n := connects(clientN(0)); n != 1 {
			t.Errorf("%d connects of a client that came back, want 1", n)
		}
		if n := connects(clientN(5)); n != 1 {
			t.Errorf("%d connects of a client that stayed, want 1", n)
		}
	})
}

func TestAReturnAfterTheTrackingTimeResetsTheCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.set(state.OptTracking, state.Int(10))
		come := func() {
			w.begin(clientN(1), 1, present())
			w.memory.flush(t.Context())
		}
		come()
		come()
		time.Sleep(12 * time.Second)
		if all := slices.Collect(w.clientStats(present())); len(all) != 0 {
			t.Errorf("got %v, want nobody", all)
		}
		come()
		if all := slices.Collect(w.clientStats(present())); len(all) != 1 || all[0].Connects != 1 {
			t.Errorf("got %v, want one connect", all)
		}
	})
}

// Whoever reads the clients pays for those that he reads.
func TestClientsAreNotGatheredInMemory(t *testing.T) {
	const n = 100_000
	w := newWorld(t, 1)
	w.set(state.OptClientsMax, state.Int(n))
	for first := 0; first < n; first += batchMax {
		visits := make([]state.Visit, 0, batchMax)
		for i := first; i < min(first+batchMax, n); i++ {
			visits = append(visits, state.Visit{Client: clientN(i)})
		}
		w.apply(state.Visits{Service: w.id, Clients: visits})
	}
	slot := 0
	bytes := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			slot = 0
			for c := range w.clientStats(w.now) {
				if c.Slot != slot || c.Client != clientN(slot) {
					b.Fatalf("got %+v in slot %d", c, slot)
				}
				slot++
			}
		}
	}).AllocedBytesPerOp()
	if slot != n || bytes > 64<<10 {
		t.Errorf("%d clients took %d bytes, want %d and little", slot, bytes, n)
	}
	for c := range w.clientStats(w.now) {
		if c.Slot == 3 {
			break
		}
	}
}

func BenchmarkAKnownClientsConnection(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b, 3)
			w.set(state.OptClientsMax, state.Int(n))
			for i := range n {
				w.memory.put(clientN(i), i%3, w.now)
				if i%4096 == 0 {
					w.memory.flush(b.Context())
				}
			}
			for range n/batchMax + 1 {
				w.memory.flush(b.Context())
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i = (i + 7919) % n
				a := clientN(i)
				t := w.begin(a, 1, w.now)
				tg, ok := w.next(&t, a, w.now)
				if !ok {
					b.Fatal("no server")
				}
				w.attempting(&t, tg.server, a, w.now)
				w.connected(tg.server, w.now)
				w.release(tg.server)
				w.credit(&t, a, 64, 64)
			}
		})
	}
}
