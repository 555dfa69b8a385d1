package vip

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// follow sends what the schedule says, until the end, and returns when.
func follow(s *schedule, until time.Time, start time.Time, at map[time.Duration]func()) []time.Duration {
	var sent []time.Duration
	events := make([]time.Duration, 0, len(at))
	for d := range at {
		events = append(events, d)
	}
	slices.Sort(events)
	for {
		next, ok := s.due()
		if len(events) > 0 && (!ok || !start.Add(events[0]).After(next)) {
			time.Sleep(time.Until(start.Add(events[0])))
			at[events[0]]()
			events = events[1:]
			continue
		}
		if !ok || next.After(until) {
			return sent
		}
		time.Sleep(time.Until(next))
		if s.take(time.Now()) {
			sent = append(sent, time.Since(start))
		}
	}
}

func TestAnnouncements(t *testing.T) {
	const ms = time.Millisecond
	burst := []time.Duration{0, 5 * ms, 20 * ms, 100 * ms, 500 * ms, time.Second, 2 * time.Second, 5 * time.Second, 20 * time.Second, 35 * time.Second}
	for _, c := range []struct {
		name string
		at   map[time.Duration]func(s *schedule)
		want []time.Duration
	}{
		{"claim", nil, burst},
		{"conflict later", map[time.Duration]func(*schedule){
			3 * time.Second: func(s *schedule) { s.burst(time.Now()) },
		}, []time.Duration{
			0, 5 * ms, 20 * ms, 100 * ms, 500 * ms, time.Second, 2 * time.Second,
			3 * time.Second, 3005 * ms, 3020 * ms, 3100 * ms, 3500 * ms, 4 * time.Second, 5 * time.Second, 8 * time.Second, 23 * time.Second, 38 * time.Second,
		}},
		{"conflict while the burst is young", map[time.Duration]func(*schedule){
			150 * ms: func(s *schedule) { s.burst(time.Now()) },
		}, []time.Duration{
			0, 5 * ms, 20 * ms, 100 * ms,
			200 * ms, 205 * ms, 220 * ms, 300 * ms, 700 * ms, 1200 * ms, 2200 * ms, 5200 * ms, 20200 * ms, 35200 * ms,
		}},
		{"let go", map[time.Duration]func(*schedule){
			300 * ms: func(s *schedule) { s.stop() },
		}, []time.Duration{0, 5 * ms, 20 * ms, 100 * ms}},
		{"carrier back at once", map[time.Duration]func(*schedule){
			150 * ms: func(s *schedule) { s.stop(); s.burst(time.Now()) },
			300 * ms: func(s *schedule) { s.stop() },
		}, []time.Duration{0, 5 * ms, 20 * ms, 100 * ms, 150 * ms, 155 * ms, 170 * ms, 250 * ms}},
		{"busy from 1 ms to 800 ms", map[time.Duration]func(*schedule){
			1 * ms: func(*schedule) { time.Sleep(799 * ms) },
		}, []time.Duration{0, 800 * ms, time.Second, 2 * time.Second, 5 * time.Second, 20 * time.Second, 35 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s schedule
				if _, ok := s.due(); ok {
					t.Error("something is due before the claim")
				}
				start := time.Now()
				s.burst(start)
				at := map[time.Duration]func(){}
				for d, f := range c.at {
					at[d] = func() { f(&s) }
				}
				got := follow(&s, start.Add(40*time.Second), start, at)
				if !slices.Equal(got, c.want) {
					t.Errorf("\n got %v\nwant %v", got, c.want)
				}
			})
		})
	}
}

// Two nodes that both believe in themselves hear each other's announcements
// as conflicts: they must not fill the network.
func TestQuarrelIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a, b schedule
		start := time.Now()
		a.burst(start)
		b.burst(start)
		frames := 0
		for time.Since(start) < 10*time.Second {
			time.Sleep(time.Millisecond)
			if a.take(time.Now()) {
				frames++
				b.burst(time.Now())
			}
			if b.take(time.Now()) {
				frames++
				a.burst(time.Now())
			}
		}
		if frames > 10*5*2*5 {
			t.Errorf("%d frames in 10 s", frames)
		}
	})
}
