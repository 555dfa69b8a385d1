package proxy

import (
	"math/bits"
	"time"
)

// tick is a moment on the clock of the engine, which starts at 1 and counts in
// steps of tickLength. It has room for eight years.
type tick uint32

const tickLength = 64 * time.Millisecond

// ticks returns d in ticks, rounded up and one more: from any moment within a
// tick, at least d has passed when so many more have begun.
func ticks(d time.Duration) tick {
	return tick((d+tickLength-1)/tickLength) + 1
}

// wheel holds the connections that wait for a time. It is lazy: a connection
// that is used tells nobody, and when its turn comes and its time has moved on,
// it is put back further on. So the cost of a timer does not depend on traffic,
// and nothing is ever searched.
type wheel struct {
	heads  [wheelSize]int32
	filled [wheelSize / 64]uint64 // which lists are not empty
	done   tick                   // everything up to here has had its turn
}

const (
	wheelSize = 1024
	// farthest is how far ahead an entry is put; what is due later is looked
	// at on the way.
	farthest = wheelSize - 2
)

func (w *wheel) init(now tick) {
	for i := range w.heads {
		w.heads[i] = noConn
	}
	w.done = now
}

// add puts a connection in, to have its turn at t or before.
func (w *wheel) add(s *slab, c *conn, t tick) {
	w.remove(s, c)
	t = max(t, w.done+1)
	t = min(t, w.done+farthest)
	i := t % wheelSize
	c.spoke = uint16(i) + 1
	c.prev, c.next = noConn, w.heads[i]
	if c.next != noConn {
		s.at(c.next).prev = c.place
	}
	w.heads[i] = c.place
	w.filled[i/64] |= 1 << (i % 64)
}

func (w *wheel) remove(s *slab, c *conn) {
	if c.spoke == 0 {
		return
	}
	i := c.spoke - 1
	c.spoke = 0
	if c.next != noConn {
		s.at(c.next).prev = c.prev
	}
	if c.prev != noConn {
		s.at(c.prev).next = c.next
	} else if w.heads[i] = c.next; c.next == noConn {
		w.filled[i/64] &^= 1 << (i % 64)
	}
	c.next, c.prev = noConn, noConn
}

// turn calls f for each connection whose turn has come by now, after taking it
// out. f may add and remove connections.
func (w *wheel) turn(s *slab, now tick, f func(*conn)) {
	if now > w.done+wheelSize {
		w.done = now - wheelSize // the process was stopped for long: once round is enough
	}
	for w.done < now {
		if w.idle() {
			w.done = now
			return
		}
		w.done++
		i := w.done % wheelSize
		for w.heads[i] != noConn {
			c := s.at(w.heads[i])
			w.remove(s, c)
			f(c)
		}
	}
}

func (w *wheel) idle() bool {
	var any uint64
	for _, word := range w.filled {
		any |= word
	}
	return any == 0
}

// next returns how many ticks after w.done the next turn is due, if any is.
func (w *wheel) next() (tick, bool) {
	start := (w.done + 1) % wheelSize
	for n := range tick(wheelSize/64 + 1) {
		i := (start/64 + n) % (wheelSize / 64)
		word := w.filled[i]
		switch n {
		case 0:
			word &= ^uint64(0) << (start % 64)
		case wheelSize / 64:
			word &= 1<<(start%64) - 1
		}
		if word != 0 {
			at := i*64 + tick(bits.TrailingZeros64(word))
			return (at-start+wheelSize)%wheelSize + 1, true
		}
	}
	return 0, false
}
