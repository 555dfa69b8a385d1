package vip

import (
	"fmt"
	"time"
)

// A link that comes and goes would take the address along each time: whoever
// gets it must tell all neighbours, and the connections of the one before are lost.
const (
	// flapWindow is for how long a loss of the carrier is held against the link.
	flapWindow = time.Minute
	// flapWait is for how long the carrier must stand after the second loss, and
	// flapWaitMax after any further one. All nodes may hang on the same switch: so
	// long nobody has the address after it has come to rest.
	flapWait, flapWaitMax = time.Second, 2 * time.Second
	// maxLosses are remembered: more would not make the wait longer.
	maxLosses = 6
)

// A carrier is what is remembered of the links' ups and downs, all taken as one.
// The zero value has seen nothing.
type carrier struct {
	seen, up bool
	since    time.Time   // of being up or down
	losses   []time.Time // the newest, oldest first
	total    uint64
}

// see takes over what the links are now, and reports whether that is a loss.
func (c *carrier) see(now time.Time, up bool) (lost bool) {
	if c.seen && c.up == up {
		return false
	}
	lost = c.seen && !up
	c.seen, c.up, c.since = true, up, now
	if lost {
		c.total++
		c.losses = append(c.losses, now)
		c.losses = c.losses[max(0, len(c.losses)-maxLosses):]
	}
	return lost
}

// wait is for how long the carrier must stand before an address may come here.
// The first loss costs nothing: a switch that starts once is no flapping.
func (c *carrier) wait(now time.Time) (d time.Duration, losses int) {
	for _, at := range c.losses {
		if now.Sub(at) < flapWindow {
			losses++
		}
	}
	if losses < 2 {
		return 0, losses
	}
	return min(flapWait<<(losses-2), flapWaitMax), losses
}

// unsteady says what keeps addresses from coming here although there is a
// carrier. Nil: nothing.
func (c *carrier) unsteady(now time.Time) error {
	d, losses := c.wait(now)
	if !c.up || now.Sub(c.since) >= d {
		return nil
	}
	return fmt.Errorf("the carrier was lost %d times within a minute: it must stand for %v first", losses, d)
}
