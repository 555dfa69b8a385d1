package vip

import "time"

// defences is the shortest time between two announcements against a claim: two
// machines that both believe in themselves must not flood everybody's network.
const defences = time.Second

// A defence says when to announce because somebody else has claimed an address:
// at once, and a second later for who has missed that. The zero value says never.
type defence struct {
	last, next time.Time
	more       bool
}

// claim is told of every claim, however many there are.
func (d *defence) claim(now time.Time) {
	d.more = true
	if !d.next.IsZero() {
		return
	}
	d.next = now
	if earliest := d.last.Add(defences); !d.last.IsZero() && earliest.After(now) {
		d.next = earliest
	}
}

// due is when the next announcement is to leave. False: never.
func (d *defence) due() (time.Time, bool) { return d.next, !d.next.IsZero() }

// take reports whether one is due.
func (d *defence) take(now time.Time) bool {
	if d.next.IsZero() || d.next.After(now) {
		return false
	}
	d.last, d.next = now, time.Time{}
	if d.more {
		d.more, d.next = false, now.Add(defences)
	}
	return true
}

// stop forgets what was to come, but not when the last one was.
func (d *defence) stop() { d.next, d.more = time.Time{}, false }

// A pace lets a line of the log through once in a while, however often there is
// reason for it: what others do to us must not fill a disk. The zero value is
// ready.
type pace struct {
	last time.Time
	left int // out since then
}

// loudest is the shortest time between two lines.
const loudest = time.Second

// allow reports whether to speak, and how often there was reason since it last did.
func (p *pace) allow(now time.Time) (times int, ok bool) {
	p.left++
	if !p.last.IsZero() && now.Sub(p.last) < loudest {
		return 0, false
	}
	times = p.left
	p.last, p.left = now, 0
	return times, true
}
