package cluster

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPreemptConditions follows what a leader hears of a preferred node for
// minutes: it is given the address when it has been ready for a minute without a
// break, and caught up.
func TestPreemptConditions(t *testing.T) {
	const asked = time.Minute
	type event struct {
		at       time.Duration
		eligible bool // it knows its settings and servers, has carrier, and so on
		behind   bool
		boot     byte
		silent   bool // nothing is heard from now on
	}
	for _, c := range []struct {
		name   string
		asked  time.Duration
		events []event
		want   time.Duration // zero: never
	}{
		{"ready from the beginning", asked, []event{{0, true, false, 1, false}}, asked},
		{"never is the default", 0, []event{{0, true, false, 1, false}}, 0},
		{"ready later", asked, []event{{0, false, false, 1, false}, {40 * time.Second, true, false, 1, false}}, 100 * time.Second},
		{"not ready for a moment", asked, []event{{0, true, false, 1, false}, {50 * time.Second, false, false, 1, false}, {51 * time.Second, true, false, 1, false}}, 111 * time.Second},
		{"started again", asked, []event{{0, true, false, 1, false}, {30 * time.Second, true, false, 2, false}}, 90 * time.Second},
		{"silent, then heard again", asked, []event{{0, true, false, 1, false}, {20 * time.Second, true, false, 1, true}, {30 * time.Second, true, false, 1, false}}, 90 * time.Second},
		{"behind at first", asked, []event{{0, true, true, 1, false}, {20 * time.Second, true, false, 1, false}}, 80 * time.Second},
		{"flapping for ever", asked, func() (all []event) {
			for i := range 12 {
				all = append(all, event{time.Duration(i) * 50 * time.Second, true, false, 1, false}, event{time.Duration(i)*50*time.Second + 40*time.Second, false, false, 1, false})
			}
			return all
		}(), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var h heardNote
				var g giver
				var now event
				for next := 0; time.Since(start) < 10*time.Minute; time.Sleep(noteEvery / 5) {
					for next < len(c.events) && time.Since(start) >= c.events[next].at {
						now, next = c.events[next], next+1
					}
					if !now.silent && time.Since(start)%noteEvery == 0 {
						hello := Hello{Node: ID{1}, Boot: ID{now.boot}}
						h = heardNote{note{Eligible: now.eligible}, hello, time.Now(), readySince(h, hello.Boot, now.eligible, time.Now())}
					}
					alive := time.Since(h.at) <= 3*noteEvery // what serves and best ask for
					s := suitor{id: "1", since: h.ready, ready: alive && !h.ready.IsZero() && !now.behind}
					if g.court(time.Now(), s, c.asked) {
						if took := time.Since(start); c.want == 0 || took < c.want || took > c.want+noteEvery {
							t.Errorf("it gets the address after %v, want %v", took, c.want)
						}
						return
					}
				}
				if c.want != 0 {
					t.Errorf("it never gets the address, want it after %v", c.want)
				}
			})
		})
	}
}
