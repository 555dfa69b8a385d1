package direct

import (
	"net/netip"
	"time"
)

// announcements says when each address is to be announced: at once, and twice more, for
// the first may be lost. Neighbours that had it elsewhere learn of the move by that.
type announcements map[netip.Addr]announcement

type announcement struct {
	sent int
	next time.Time
}

func (a *announcements) due(addr netip.Addr, now time.Time) bool {
	if *a == nil {
		*a = announcements{}
	}
	n := (*a)[addr]
	const times = 3
	if n.sent == times || now.Before(n.next) {
		return false
	}
	(*a)[addr] = announcement{n.sent + 1, now.Add(time.Second)}
	return true
}

// keep forgets addresses that are gone, so that they are announced when they return.
func (a announcements) keep(wanted func(netip.Addr) bool) {
	for addr := range a {
		if !wanted(addr) {
			delete(a, addr)
		}
	}
}
