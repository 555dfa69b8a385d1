package vip

import "time"

// When the addresses are announced, counted from the claim. The first moves
// every neighbour at once. The others are for lost frames, for late answers of
// the node that had the address before, and for switches.
var offsets = [...]time.Duration{
	0, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second,
}

const (
	// refresh is the time between announcements after the burst.
	refresh = 15 * time.Second
	// calm is the shortest time between bursts. Two nodes that both believe in
	// themselves would otherwise answer each other's announcements for ever.
	calm = 200 * time.Millisecond
)

// A schedule says when to announce. The zero value says never.
type schedule struct {
	start time.Time
	sent  int
	anew  bool // a burst was asked for while the last one was young
}

// burst begins anew: now, or as soon as the last burst is old enough.
func (s *schedule) burst(now time.Time) {
	if !s.start.IsZero() && now.Sub(s.start) < calm {
		s.anew = true
		return
	}
	*s = schedule{start: now}
}

// stop announces nothing more, and lets the next burst begin at once.
func (s *schedule) stop() { *s = schedule{} }

// due is when the next announcement is to leave. False: never.
func (s *schedule) due() (time.Time, bool) {
	if s.start.IsZero() {
		return time.Time{}, false
	}
	var after time.Duration
	if s.sent < len(offsets) {
		after = offsets[s.sent]
	} else {
		after = offsets[len(offsets)-1] + time.Duration(s.sent-len(offsets)+1)*refresh
	}
	if s.anew {
		after = min(after, calm)
	}
	return s.start.Add(after), true
}

// take reports whether an announcement is due. Those that were missed count as
// made: one frame does the work of all of them.
func (s *schedule) take(now time.Time) bool {
	some := false
	if s.anew && now.Sub(s.start) >= calm {
		*s = schedule{start: now}
	}
	for {
		at, ok := s.due()
		if !ok || at.After(now) {
			return some
		}
		some = true
		s.sent++
	}
}
