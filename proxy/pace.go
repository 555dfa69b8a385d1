package proxy

import (
	"sync/atomic"
	"time"
)

// How often the log is told of what goes on all the time; counters count each.
const (
	pauseWarning = 10 * time.Second // a listener that waits for the system
	lackWarning  = time.Minute      // anything else that has run out
)

// pace keeps a warning from coming too often. The zero value has never warned.
type pace struct{ last atomic.Pointer[time.Time] }

// due tells one caller in each span of time that it is his turn.
func (p *pace) due(now time.Time, span time.Duration) bool {
	last := p.last.Load()
	if last != nil && now.Sub(*last) < span {
		return false
	}
	turn := now
	return p.last.CompareAndSwap(last, &turn)
}
