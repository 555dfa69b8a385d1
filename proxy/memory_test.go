package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pen/state"
)

// book is a real state machine that records what is proposed to it, takes its
// time, and fails when told to.
type book struct {
	machine *state.Machine
	took    time.Duration // for a proposal

	mu       sync.Mutex // guards the rest
	err      error
	at       []time.Time
	batches  [][]state.Visit
	under    int // proposals under way
	together int // the most of them at once
}

func (b *book) propose(ctx context.Context, c state.Command) (state.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.under++
	b.together = max(b.together, b.under)
	defer func() { b.under-- }()
	b.at = append(b.at, time.Now())
	b.mu.Unlock()
	slept := sleep(ctx, b.took)
	b.mu.Lock()
	if !slept {
		return state.Result{}, ctx.Err()
	}
	if b.err != nil {
		return state.Result{}, b.err
	}
	for _, o := range c.Ops {
		if v, ok := o.(state.Visits); ok {
			b.batches = append(b.batches, v.Clients)
		}
	}
	return b.machine.Apply(c), nil
}

// fail makes proposals fail with err from now on; nil ends that.
func (b *book) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func newBook(t *testing.T, settings ...state.Op) (*book, *memory) {
	b := &book{machine: state.New()}
	settings = append(settings, state.SetServer{Index: 9}) // the state remembers only servers that there are
	if r := b.machine.Apply(state.Command{Time: state.At(time.Now()), Ops: settings}); r.Err != nil {
		t.Fatal(r.Err)
	}
	return b, newMemory(slog.New(slog.DiscardHandler), b.propose, b.machine.View().Service(""))
}

func set(o state.Option, n int) state.Op { return state.Set{Option: o, Value: state.Int(n)} }

func (b *book) entry(a netip.Addr) (state.Entry, bool) {
	return b.machine.View().Service("").Clients().Lookup(a)
}

func clientN(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

func present() state.Time { return state.At(time.Now()) }

// running runs the batcher beside the test, and ends it after.
func running(t *testing.T, m *memory, test func(stop func())) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.run(ctx)
	}()
	synctest.Wait() // it has seen what was there before and waits for more
	test(func() {
		cancel()
		<-done
	})
	cancel()
	<-done
}

func size(m *memory) int {
	n, _ := m.figures(present())
	return n
}

func TestANewClientIsKnownAtOnceAndInTheTableSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		a := clientN(1)
		running(t, m, func(func()) {
			if server, slot := m.visit(a, present()); server != state.None || slot != -1 {
				t.Errorf("got server %d slot %d, want an unknown client", server, slot)
			}
			m.put(a, 3, present())
			if got := m.remembered(a, present()); got != 3 {
				t.Errorf("remembered %d, want 3", got)
			}
			if _, ok := b.entry(a); ok {
				t.Error("the table has it already")
			}
			time.Sleep(5 * time.Millisecond)
			if e, ok := b.entry(a); !ok || e.Server != 3 {
				t.Errorf("the table has %v %v, want server 3", e, ok)
			}
			if n := size(m); n != 0 {
				t.Errorf("%d clients are still in the overlay", n)
			}
			if got := m.remembered(a, present()); got != 3 {
				t.Errorf("remembered %d, want 3", got)
			}
		})
		if len(b.batches) != 1 {
			t.Errorf("%d proposals for one client, want 1", len(b.batches))
		}
	})
}

func TestOneProposalAtATimeAndAtMostOneEach20ms(t *testing.T) {
	for _, took := range []time.Duration{0, 70 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			b, m := newBook(t)
			b.took = took
			running(t, m, func(func()) {
				for i := range 1000 {
					m.put(clientN(i), 0, present())
					time.Sleep(time.Millisecond)
				}
				time.Sleep(time.Second)
			})
			for i := range b.at[1:] {
				if d := b.at[i+1].Sub(b.at[i]); d < max(took, 20*time.Millisecond) {
					t.Fatalf("proposal %d came %v after the one before", i+1, d)
				}
			}
			if want := int(time.Second / max(took, 20*time.Millisecond)); len(b.at) < want-1 || b.together != 1 {
				t.Errorf("%d proposals, %d together, want about %d, one by one", len(b.at), b.together, want)
			}
			if n := b.machine.View().Service("").Clients().Len(); n != 1000 {
				t.Errorf("%d clients in the table, want 1000", n)
			}
		})
	}
}

func TestBatchesAreCoalescedBoundedAndInOrderOfLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t, set(state.OptClientsMax, 20_000))
		for i := range 10_000 {
			m.put(clientN(i), i%5, present())
		}
		for i := range 10 {
			m.visit(clientN(i), present()) // they are the latest now
			m.put(clientN(i), 9, present())
		}
		running(t, m, func(func()) { time.Sleep(time.Second) })
		var sizes []int
		var all []state.Visit
		for _, batch := range b.batches {
			sizes, all = append(sizes, len(batch)), append(all, batch...)
		}
		// In the last batch new clients came in another order than they were used.
		if fmt.Sprint(sizes) != "[4096 4096 3616]" {
			t.Fatalf("batches of %v clients", sizes)
		}
		all = slices.Delete(all, 2*4096, 2*4096+1808)
		for i, v := range all {
			if want := (i + 10) % 10_000; v.Client != clientN(want) {
				t.Fatalf("client %d of the batches is %v, want %v", i, v.Client, clientN(want))
			}
		}
		if last := all[9_999]; last.Server != 9 {
			t.Errorf("got server %d, want the latest, 9", last.Server)
		}
	})
}

func TestSlotsAreGivenInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		for _, i := range []int{2, 3, 4, 2, 5, 3} {
			m.visit(clientN(i), present())
			m.put(clientN(i), i, present())
		}
		if err := m.handOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for e := range b.machine.View().Service("").Clients().All() {
			got = append(got, fmt.Sprint(e.Slot, e.Client, e.Server))
		}
		var want []string
		for slot, i := range []int{2, 3, 4, 5} {
			want = append(want, fmt.Sprint(slot, clientN(i), i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		latest := b.batches[len(b.batches)-1]
		if last := latest[len(latest)-1].Client; last != clientN(3) {
			t.Errorf("the latest in the log is %v, want %v", last, clientN(3))
		}
	})
}

func TestWhatChangesUnderAProposalStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		b.took = 50 * time.Millisecond
		running(t, m, func(func()) {
			m.put(clientN(1), 1, present())
			m.put(clientN(2), 1, present())
			time.Sleep(20 * time.Millisecond)
			m.put(clientN(1), 2, present())
			time.Sleep(40 * time.Millisecond)
			if n, got := size(m), m.remembered(clientN(1), present()); n != 1 || got != 2 {
				t.Errorf("%d in the overlay, remembered %d, want 1 and 2", n, got)
			}
			time.Sleep(100 * time.Millisecond)
			if e, _ := b.entry(clientN(1)); e.Server != 2 || size(m) != 0 {
				t.Errorf("table has %d, overlay %d clients, want 2 and none", e.Server, size(m))
			}
		})
	})
}

func TestTouchesAreCoarse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		running(t, m, func(func()) {
			m.put(clientN(1), 1, present())
			for range 500 {
				time.Sleep(10 * time.Millisecond)
				if got, _ := m.visit(clientN(1), present()); got != 1 {
					t.Fatalf("remembered %d, want 1", got)
				}
			}
		})
		if len(b.batches) < 5 || len(b.batches) > 7 {
			t.Errorf("%d proposals in 5 s of constant use, want about 6", len(b.batches))
		}
		for _, batch := range b.batches[1:] {
			if batch[0].Server != state.Keep {
				t.Errorf("a touch sets server %d", batch[0].Server)
			}
		}
	})
}

func TestTheRecordedUseIsTheSecondOfTheLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		time.Sleep(900 * time.Millisecond)
		used := present()
		m.put(clientN(1), 1, used)
		time.Sleep(3200 * time.Millisecond)
		running(t, m, func(func()) { time.Sleep(10 * time.Millisecond) })
		if e, _ := b.entry(clientN(1)); e.Used != used/1000*1000 {
			t.Errorf("used at %d, want %d", e.Used, used/1000*1000)
		}
	})
}

func TestFailedProposalsAreKeptAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		b.fail(errors.New("no leader"))
		running(t, m, func(func()) {
			m.put(clientN(1), 1, present())
			time.Sleep(10 * time.Second)
			n, age := m.figures(present())
			if n != 1 || age < 10*time.Second {
				t.Errorf("%d clients wait for %v, want 1 for 10 s", n, age)
			}
			if tries := m.failures.Load(); tries < 10 || tries > 20 {
				t.Errorf("%d tries in 10 s, want them to become rarer, to one each second", tries)
			}
			if got := m.remembered(clientN(1), present()); got != 1 {
				t.Errorf("remembered %d, want 1", got)
			}
			b.fail(nil)
			time.Sleep(1100 * time.Millisecond)
			if e, ok := b.entry(clientN(1)); !ok || e.Server != 1 || size(m) != 0 {
				t.Errorf("got %v %v, want it in the table", e, ok)
			}
		})
	})
}

func TestFailingRecordsAreTwoLinesInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		var log bytes.Buffer
		m.log = slog.New(slog.NewTextHandler(&log, nil))
		lines := func(want ...string) {
			t.Helper()
			synctest.Wait()
			got := strings.Split(strings.TrimSpace(log.String()), "\n")
			if log.Len() == 0 {
				got = nil
			}
			if len(got) != len(want) {
				t.Fatalf("got %q, want %q", got, want)
			}
			for i := range got {
				if !strings.Contains(got[i], want[i]) {
					t.Errorf("got %q, want %q", got[i], want[i])
				}
			}
			log.Reset()
		}
		running(t, m, func(func()) {
			for range 2 {
				b.fail(errors.New("no space left on device"))
				m.put(clientN(1), 1, present())
				time.Sleep(10 * time.Second)
				lines("no space left on device")
				b.fail(nil)
				time.Sleep(2 * time.Second)
				lines("recorded again")
			}
			m.limit = 1
			b.fail(errors.New("no space left on device"))
			for i := range 90 {
				m.put(clientN(i), 1, present())
				time.Sleep(time.Second)
			}
			lines("no space", "too many clients", "too many clients")
			b.fail(nil)
			time.Sleep(2 * time.Second)
			lines("recorded again")
		})
	})
}

func TestWhatTheStateRefusesIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		m.id = 4711 // a service that is gone
		running(t, m, func(func()) {
			m.put(clientN(1), 1, present())
			time.Sleep(time.Second)
		})
		if size(m) != 0 || len(b.at) != 1 {
			t.Errorf("%d clients wait after %d tries, want none after one", size(m), len(b.at))
		}
	})
}

func TestTheEndFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t, set(state.OptClientsMax, 20_000))
		running(t, m, func(stop func()) {
			for i := range 9000 {
				m.put(clientN(i), 1, present())
			}
			stop()
		})
		if n := b.machine.View().Service("").Clients().Len(); n != 9000 {
			t.Errorf("%d clients in the table, want 9000", n)
		}
	})
}

func TestTheEndWaitsNoLongerThanASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		b.took = time.Hour
		running(t, m, func(stop func()) {
			m.put(clientN(1), 1, present())
			time.Sleep(time.Minute)
			begun := time.Now()
			stop()
			if d := time.Since(begun); d > time.Second {
				t.Errorf("the end took %v", d)
			}
		})
	})
}

func TestAFullOverlayServesAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := newBook(t)
		m.limit = 10
		for i := range 15 {
			m.visit(clientN(i), present())
		}
		if size(m) != 10 || m.overflow.Load() != 5 {
			t.Errorf("%d recorded, %d not, want 10 and 5", size(m), m.overflow.Load())
		}
		m.put(clientN(3), 2, present()) // who is in goes on
		if got := m.remembered(clientN(3), present()); got != 2 {
			t.Errorf("remembered %d, want 2", got)
		}
		if got := m.remembered(clientN(12), present()); got != state.None {
			t.Errorf("remembered %d, want none", got)
		}
	})
}

func TestTrackingForgetsInTheOverlayAndInTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t, set(state.OptTracking, 60))
		b.fail(errors.New("no leader"))
		m.put(clientN(1), 1, present())
		time.Sleep(59 * time.Second)
		if got, _ := m.visit(clientN(1), present()); got != 1 {
			t.Errorf("after 59 s: remembered %d, want 1", got)
		}
		time.Sleep(61 * time.Second)
		if got := m.remembered(clientN(1), present()); got != state.None {
			t.Errorf("remembered %d after 61 s, want none", got)
		}
		if got, _ := m.visit(clientN(1), present()); got != state.None {
			t.Errorf("visit: remembered %d after 61 s, want none", got)
		}
		b.fail(nil)
		m.put(clientN(1), 2, present())
		running(t, m, func(func()) { time.Sleep(time.Second) })
		if e, _ := b.entry(clientN(1)); e.Server != 2 {
			t.Errorf("table has server %d, want 2", e.Server)
		}
		// Nobody comes, so the time of the machine stands still. Ours does not.
		time.Sleep(62 * time.Second)
		if got, _ := m.visit(clientN(1), present()); got != state.None {
			t.Errorf("remembered %d from the table after 61 s, want none", got)
		}
		running(t, m, func(func()) { time.Sleep(time.Second) })
		if e, _ := b.entry(clientN(1)); e.Server != state.None {
			t.Errorf("table has server %d, want none", e.Server)
		}
	})
}

func TestTheOverlayGivesItsMemoryBackAfterACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := newBook(t, set(state.OptClientsMax, 100_000))
		for i := range 50_000 {
			m.put(clientN(i), 1, present())
		}
		running(t, m, func(func()) { time.Sleep(2 * time.Second) })
		if size(m) != 0 || len(m.nodes)*nodeChunk > 4*batchMax {
			t.Errorf("%d clients, room for %d nodes, want none", size(m), len(m.nodes)*nodeChunk)
		}
		m.put(clientN(1), 2, present())
		if got := m.remembered(clientN(1), present()); got != 2 {
			t.Errorf("remembered %d, want 2", got)
		}
	})
}

// The table's time stays ahead after a clock was set back. Who comes then is the
// latest nevertheless.
func TestUsesAreRecordedAfterTheClockWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := newBook(t)
		now := present()
		first, second := clientN(1), clientN(2)
		for _, c := range []netip.Addr{first, second} {
			m.visit(c, now)
			m.put(c, 1, now)
		}
		m.flush(t.Context())
		b.machine.Apply(state.Command{Time: now + 3_600_000, Ops: []state.Op{
			state.Visits{Service: m.id, Clients: []state.Visit{{Client: first, Server: 1}, {Client: second, Server: 1}}},
		}})
		m.table.Store(b.machine.View().Service("").Clients())
		b.batches = nil
		m.visit(first, now)
		m.put(first, 1, now)
		m.flush(t.Context())
		if len(b.batches) != 1 || len(b.batches[0]) != 1 || b.batches[0][0].Client != first {
			t.Errorf("recorded %v, want the use of %v", b.batches, first)
		}
		if size(m) != 0 {
			t.Errorf("%d clients wait", size(m))
		}
	})
}
