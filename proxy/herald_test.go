package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pen/state"
)

// told is a world whose herald runs, with a record of what it says.
type told struct {
	*world
	saying sync.Mutex // guards the rest
	ops    []string
	err    error
}

func heralded(t *testing.T, test func(w *told)) {
	synctest.Test(t, func(t *testing.T) {
		w := &told{world: newWorld(t, 3)}
		w.herald.propose = func(ctx context.Context, c state.Command) (state.Result, error) {
			w.saying.Lock()
			defer w.saying.Unlock()
			if w.err != nil {
				return state.Result{}, w.err
			}
			switch o := c.Ops[0].(type) {
			case state.Fail:
				w.ops = append(w.ops, fmt.Sprint("fail ", o.Index))
			case state.Recover:
				w.ops = append(w.ops, fmt.Sprint("recover ", o.Index))
			}
			return w.proposed(ctx, c)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.herald.run(ctx)
		}()
		test(w)
		cancel()
		<-done
	})
}

// connect is one client's, at the present time of the bubble.
func (w *told) connect(client string) string {
	w.now = present()
	got, v := w.world.connect(client)
	if v != nil {
		w.release(v)
	}
	synctest.Wait()
	return got
}

func (w *told) mark(i int) state.Time { return w.machine.View().Service("").Servers[i].Mark }

func (w *told) said(want ...string) {
	w.t.Helper()
	w.saying.Lock()
	defer w.saying.Unlock()
	if fmt.Sprint(w.ops) != fmt.Sprint(want) {
		w.t.Errorf("said %v, want %v", w.ops, want)
	}
	w.ops = nil
}

// fail makes proposals fail with err from now on; nil ends that.
func (w *told) fail(err error) {
	w.saying.Lock()
	defer w.saying.Unlock()
	w.err = err
}

func TestFailureAndSuccessReachTheState(t *testing.T) {
	heralded(t, func(w *told) {
		w.down[1] = true
		w.connect("10.0.0.1")
		w.said("fail 1")
		if w.mark(1) != present() || w.serverStats()[1].Mark != present() {
			t.Errorf("marks %d and %d, want %d", w.mark(1), w.serverStats()[1].Mark, present())
		}
		w.down[1] = false
		time.Sleep(31 * time.Second)
		for i := range 3 {
			w.connect(fmt.Sprint("10.0.0.", 2+i))
		}
		w.said("recover 1")
		if w.mark(1) != 0 || w.serverStats()[1].Mark != 0 {
			t.Errorf("marks %d and %d, want none", w.mark(1), w.serverStats()[1].Mark)
		}
	})
}

func TestNewsOfAServerComeOnceASecondAndEndWithTheTruth(t *testing.T) {
	heralded(t, func(w *told) {
		w.set(state.OptBlacklist, state.Int(0)) // so that it is tried all the time
		v := w.plan.Load().seats[1].server
		for i := range 1000 {
			w.pending.Add(1)
			v.places.Add(1)
			if i%2 == 0 {
				w.failed(v, errRefused, present())
			} else {
				w.connected(v, present())
			}
			time.Sleep(10 * time.Millisecond)
		}
		w.saying.Lock()
		n := len(w.ops)
		w.saying.Unlock()
		if n < 5 || n > 11 {
			t.Errorf("%d proposals in 10 s, want about one each second", n)
		}
		time.Sleep(2 * time.Second)
		if w.mark(1) != 0 {
			t.Error("the state does not know of the last success")
		}
		w.pending.Add(1)
		w.failed(v, errRefused, present())
		time.Sleep(2 * time.Second)
		if w.mark(1) == 0 {
			t.Error("the state does not know of the last failure")
		}
	})
}

func TestOtherHandsWin(t *testing.T) {
	heralded(t, func(w *told) {
		w.down[1] = true
		w.connect("10.0.0.1")
		w.server(1, func(s *state.Server) { s.Mark = 0 }, state.FieldMark) // server 1 blacklist 0
		if got := w.serverStats()[1].Mark; got != 0 {
			t.Errorf("mark %d after it was lifted by hand", got)
		}
		later := present() + 60_000
		w.server(2, func(s *state.Server) { s.Mark = later }, state.FieldMark)
		if got := w.serverStats()[2].Mark; got != later {
			t.Errorf("mark %d, want %d as set by hand", got, later)
		}
		w.set(state.OptTimeout, state.Int(7)) // other changes leave marks alone
		if got := w.serverStats()[2].Mark; got != later {
			t.Errorf("mark %d, want %d", got, later)
		}
	})
}

func TestTheEchoOfOldNewsDoesNotUndoWhatIsNewer(t *testing.T) {
	heralded(t, func(w *told) {
		v := w.plan.Load().seats[1].server
		w.late(true)
		w.pending.Add(1)
		w.failed(v, errRefused, present())
		synctest.Wait()
		w.set(state.OptBlacklist, state.Int(0))
		w.refreshSettings()
		w.pending.Add(1)
		w.connected(v, present())
		w.late(false)
		if got := v.mark.Load(); got != 0 {
			t.Errorf("mark %d: the late view of the failure undid the success", got)
		}
		time.Sleep(3 * time.Second)
		if w.mark(1) != 0 {
			t.Errorf("state still has mark %d", w.mark(1))
		}
	})
}

// refreshSettings makes the service act as with a blacklist time of 0 without
// showing it the marks.
func (w *told) refreshSettings() {
	p := *w.plan.Load()
	sv := *p.Service
	sv.Blacklist = 0
	p.Service = &sv
	w.plan.Store(&p)
}

// The state's time never runs backwards; ours may.
func TestAClockThatWasSetBackDoesNotLengthenAMark(t *testing.T) {
	heralded(t, func(w *told) {
		w.machine.Apply(state.Command{Time: present() + 3_600_000}) // by a clock that is an hour ahead
		w.down[1] = true
		w.connect("10.0.0.1")
		w.said("fail 1")
		if w.mark(1) != present() || w.serverStats()[1].Mark != present() {
			t.Errorf("marks %d and %d, want %d", w.mark(1), w.serverStats()[1].Mark, present())
		}
		w.down[1] = false
		time.Sleep(31 * time.Second)
		for i := range 3 {
			w.connect(fmt.Sprint("10.0.0.", 2+i))
		}
		w.said("recover 1")
	})
}

func TestAMarkSetBeforeTheClockWasSetBackSaysNothing(t *testing.T) {
	heralded(t, func(w *told) {
		v := w.plan.Load().seats[1].server
		w.pending.Add(1)
		v.places.Add(1)
		w.failed(v, errRefused, present()+3_600_000) // by our clock, an hour ahead then
		synctest.Wait()
		w.said("fail 1")
		if v.shunned(present(), 30) {
			t.Error("shunned for an hour")
		}
		time.Sleep(2 * time.Second)
		w.down[1] = true
		w.connect("10.0.0.1") // it is tried, and has not recovered
		if w.mark(1) != present() || !v.shunned(present(), 30) {
			t.Errorf("mark %d, want %d as of now", w.mark(1), present())
		}
		time.Sleep(31 * time.Second)
		if v.shunned(present(), 30) {
			t.Error("shunned for longer than the time from then on")
		}
		later := present() + 60_000
		w.server(1, func(s *state.Server) { s.Mark = later }, state.FieldMark)
		time.Sleep(89 * time.Second)
		if !v.shunned(present(), 30) {
			t.Error("a mark in the future that was set by hand does not count")
		}
	})
}

func TestNewsAreTriedAgainWhenTheyCouldNotBeTold(t *testing.T) {
	heralded(t, func(w *told) {
		w.fail(errors.New("no leader"))
		w.down[1] = true
		w.connect("10.0.0.1")
		time.Sleep(5 * time.Second)
		w.said()
		if n := w.herald.lost.Load(); n < 3 || n > 10 {
			t.Errorf("%d tries in 5 s, want about one each second", n)
		}
		w.fail(nil)
		time.Sleep(2 * time.Second)
		w.said("fail 1")
	})
}
