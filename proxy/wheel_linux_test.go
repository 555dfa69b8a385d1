package proxy

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

// Each connection has its turn at the tick it asked for, or at the farthest one
// before, and never one that was taken out. A loop that sleeps as long as next
// says misses nothing.
func TestWheel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s slab
	s.free = noConn
	var w wheel
	now := tick(1)
	w.init(now)
	due := map[*conn]tick{}
	for range 20_000 {
		switch rng.IntN(4) {
		case 0, 1:
			c := s.take()
			c.phase = phaseOpen
			at := now + tick(rng.IntN(3000))
			w.add(&s, c, at)
			due[c] = max(at, now+1)
		case 2:
			for c := range due { // any of them
				if rng.IntN(2) == 0 {
					w.remove(&s, c)
					delete(due, c)
					s.give(c)
				} else {
					due[c] = max(now+tick(rng.IntN(100)), now+1)
					w.add(&s, c, due[c])
				}
				break
			}
		case 3:
			step, ok := w.next()
			if ok != (len(due) > 0) {
				t.Fatalf("next = %d, %v with %d entries", step, ok, len(due))
			}
			if rng.IntN(8) == 0 {
				step += tick(rng.IntN(2000)) // woken late
			}
			now += step
			w.turn(&s, now, func(c *conn) {
				at, known := due[c]
				if !known {
					t.Fatal("an entry that was taken out had its turn")
				}
				if at > now {
					w.add(&s, c, at)
					return
				}
				delete(due, c)
				s.give(c)
			})
			for _, at := range due {
				if at <= now {
					t.Fatalf("at %d an entry of %d still waits", now, at)
				}
			}
		}
	}
	if s.used != len(due) {
		t.Errorf("%d connections in use, want %d", s.used, len(due))
	}
}

func TestTicksNeverComeEarly(t *testing.T) {
	e := &engine{origin: time.Now()}
	for _, offset := range []time.Duration{0, 1, tickLength / 2, tickLength - 1} {
		begun := e.origin.Add(offset)
		d := time.Second
		at := e.tickAt(begun) + ticks(d)
		if took := e.timeOf(at).Sub(begun); took < d || took > d+2*tickLength {
			t.Errorf("from %v: after %v, want %v", offset, took, d)
		}
	}
}

// The size of a connection is what an idle one costs.
func TestConnectionIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(conn{}); got > 144 {
		t.Errorf("a connection takes %d bytes, want 144", got)
	}
}
