package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pen/cluster"
	"pen/vip"
)

// world stands for cluster, addresses and data plane, and writes down in which
// order a holder uses them.
type world struct {
	mu      sync.Mutex
	lease   cluster.Lease
	other   uint64 // the term in which another node leads
	changed chan struct{}
	want    vip.Want
	state   vip.State
	moved   chan struct{}
	stuck   bool // the kernel does nothing
	log     []string
}

func newWorld() *world {
	return &world{changed: make(chan struct{}), moved: make(chan struct{}), state: vip.State{Clear: true}}
}

func (w *world) did(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if n := len(w.log); n == 0 || w.log[n-1] != line {
		w.log = append(w.log, line)
	}
}

func (w *world) Lease() cluster.Lease {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.lease
	l.Valid = l.Valid && time.Now().Before(l.Until)
	return l
}

func (w *world) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *world) set(l cluster.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lease = l
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) Released(term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did("released %d, answering %t", term, w.state.Answering)
}

func (w *world) Serve() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did("serve")
}

func (w *world) Standby() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did("standby, clear %t", w.state.Clear)
}

func (w *world) became(p part, term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did("%s %d", p, term)
}

func (w *world) led(term uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.other > term
}

func (w *world) lead(term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.other = term
}

func (w *world) lines() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.log, "\n")
}

// kernel is the world's addresses.
type kernel struct{ *world }

func (k kernel) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.moved
}

func (k kernel) State() vip.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

func (k kernel) Want(w vip.Want) {
	k.mu.Lock()
	k.want = w
	k.did("want hold %t answer %t", w.Hold, w.Answer)
	stuck := k.stuck
	k.mu.Unlock()
	if stuck {
		return
	}
	time.AfterFunc(2*time.Millisecond, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.state.Answering, k.state.Clear = k.want.Hold && k.want.Answer, !k.want.Hold
		close(k.moved)
		k.moved = make(chan struct{})
	})
}

const beat = 200 * time.Millisecond

func (w *world) holder() *holder {
	return &holder{
		leases: w, address: kernel{w}, traffic: w, log: slog.New(slog.DiscardHandler), heartbeat: beat,
		may: func() bool { return true }, led: w.led, tell: w.became,
	}
}

// play runs a holder while act happens to it, and returns what it did.
func play(t *testing.T, w *world, h *holder, act func()) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.run(ctx)
	}()
	synctest.Wait()
	act()
	stop()
	<-done
	return w.lines()
}

func stands(term uint64) cluster.Lease {
	return cluster.Lease{Valid: true, Current: true, Term: term, Until: time.Now().Add(time.Hour)}
}

func expect(t *testing.T, got string, want ...string) {
	t.Helper()
	if w := strings.Join(want, "\n"); got != w {
		t.Errorf("got:\n%s\n\nwant:\n%s", got, w)
	}
}

func TestHolderLosesTheAddressFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		got := play(t, w, w.holder(), func() {
			w.set(stands(3))
			time.Sleep(beat)
			w.set(cluster.Lease{})
			w.lead(4)
			time.Sleep(2 * beat)
		})
		expect(t, got, "serve", "holder 3", "want hold true answer true",
			"want hold false answer false", "leaving 3", "standby, clear true", "standby 3")
	})
}

func TestHolderKeepsConnectionsOverASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		got := play(t, w, w.holder(), func() {
			w.set(stands(3))
			time.Sleep(beat)
			w.set(cluster.Lease{Term: 3})
			time.Sleep(beat / 2)
			w.set(stands(3))
			time.Sleep(beat)
		})
		expect(t, got, "serve", "holder 3", "want hold true answer true", "want hold false answer false", "standby 3",
			"serve", "holder 3", "want hold true answer true",
			// The end of the test is the end of the process.
			"want hold true answer false", "leaving 3", "standby, clear false", "want hold false answer false", "released 3, answering false", "standby 3")
	})
}

func TestHolderHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		got := play(t, w, w.holder(), func() {
			w.set(stands(3))
			time.Sleep(beat)
			w.set(cluster.Lease{Term: 3, Handing: true, Until: time.Now().Add(beat / 2)})
			time.Sleep(beat / 2)
			w.lead(4)
			time.Sleep(beat)
		})
		// The word is given when nothing answers any more; the resets leave while the
		// address is still here.
		expect(t, got, "serve", "holder 3", "want hold true answer true", "leaving 3", "want hold true answer false",
			"released 3, answering false", "leaving 3", "standby, clear false", "want hold false answer false", "standby 3")
	})
}

func TestHolderTakesBackWhatNobodyTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		h := w.holder()
		got := play(t, w, h, func() {
			w.set(stands(3))
			time.Sleep(beat)
			w.set(cluster.Lease{Term: 3, Handing: true, Until: time.Now().Add(beat / 2)})
			time.Sleep(beat / 2)
			w.set(stands(4))
			time.Sleep(beat)
			w.set(cluster.Lease{})
			w.lead(5)
			time.Sleep(beat)
		})
		expect(t, got, "serve", "holder 3", "want hold true answer true", "leaving 3", "want hold true answer false", "released 3, answering false", "standby 3",
			"serve", "holder 4", "want hold true answer true", "want hold false answer false", "leaving 4", "standby, clear true", "standby 4")
	})
}

func TestHolderWaitsUntilItIsCurrentAndFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		h := w.holder()
		fit := false
		h.may = func() bool { w.mu.Lock(); defer w.mu.Unlock(); return fit }
		got := play(t, w, h, func() {
			behind := stands(3)
			behind.Current = false
			w.set(behind)
			time.Sleep(beat)
			w.did("current")
			w.set(stands(3))
			time.Sleep(beat)
			w.did("fit")
			w.mu.Lock()
			fit = true
			w.mu.Unlock()
			time.Sleep(beat)
		})
		if !slices.Equal(strings.Split(got, "\n")[:3], []string{"current", "fit", "serve"}) {
			t.Errorf("got:\n%s", got)
		}
	})
}

func TestHolderEndsWithTheLeaseToTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		play(t, w, w.holder(), func() {
			l := stands(3)
			l.Until = time.Now().Add(beat / 2)
			w.set(l)
			time.Sleep(beat / 4)
			if got := (kernel{w}).State(); !got.Answering {
				t.Error("does not answer while the lease stands")
			}
			w.mu.Lock()
			until := w.want.Until
			w.mu.Unlock()
			if !until.Equal(l.Until) {
				t.Errorf("wants the addresses until %v, the lease ends at %v", until, l.Until)
			}
			time.Sleep(beat)
		})
	})
}

func TestHolderGoesOnWhenTheKernelDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		began := time.Now()
		got := play(t, w, w.holder(), func() {
			w.set(stands(3))
			time.Sleep(beat)
			w.mu.Lock()
			w.stuck = true
			w.mu.Unlock()
			w.set(cluster.Lease{})
			w.lead(4)
			time.Sleep(2 * takeover)
		})
		if !strings.HasSuffix(got, "standby 3") || time.Since(began) > 5*takeover {
			t.Errorf("after %v:\n%s", time.Since(began), got)
		}
	})
}
