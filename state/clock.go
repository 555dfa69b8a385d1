package state

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Clock tells the logical time between two commands: the newest that is agreed
// on, and what has passed since this process learned of it. So it goes at the pace
// of the monotonic clock, and it does not matter what the wall clock of a node
// says or where somebody sets it; only the very first command of all takes its time
// from there. While no node runs it stands still.
//
// A nil Clock is the wall clock. All methods may be called from any goroutine.
type Clock struct {
	agreed func() Time
	mu     sync.Mutex // held while anchor is replaced
	anchor atomic.Pointer[anchor]
}

// anchor is a moment whose logical time is known.
type anchor struct {
	agreed Time // what the state said then
	at     Time
	when   time.Time
}

// behind is how far the agreed time may be behind ours before we follow it. A
// command always is a little: it has travelled. One that is far behind comes from
// a node that did not run for a while, and who holds the addresses is right.
const behind = Time(10_000)

// NewClock returns a clock that follows what agreed says, which must be quick: it
// is the time of the newest view. A clock that nobody asks for a while counts what
// it missed as agreed at the next question, so somebody should ask every second.
func NewClock(agreed func() Time) *Clock { return &Clock{agreed: agreed} }

// At is the logical time of a moment, which is to be the present one, from time.Now.
func (c *Clock) At(now time.Time) Time {
	if c == nil {
		return At(now)
	}
	agreed := c.agreed()
	a := c.anchor.Load()
	if a == nil || a.agreed != agreed {
		a = c.follow(now, agreed)
	}
	return a.time(now)
}

func (a *anchor) time(now time.Time) Time { return a.at + Time(now.Sub(a.when).Milliseconds()) }

func (c *Clock) follow(now time.Time, agreed Time) *anchor {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.anchor.Load()
	if a != nil && a.agreed == agreed {
		return a // another was quicker
	}
	next := &anchor{agreed: agreed, at: agreed, when: now}
	switch {
	case agreed == 0:
		next.at = At(now)
	case a == nil:
	case agreed <= a.time(now) && a.time(now)-agreed <= behind:
		next.at, next.when = a.at, a.when
	}
	c.anchor.Store(next)
	return next
}
