package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// A Sight is what a Prober sees of the network.
type Sight struct {
	// Gateway tells that it has answered two of the last three questions, which are
	// 200 ms apart.
	Gateway bool
	// Asked is who was asked, or why nobody is.
	Asked string
	// Claimed is when another machine last claimed one of the addresses; zero: never.
	Claimed time.Time
	// By is that machine.
	By string
	// Free tells that the last series of probes has ended within the last second,
	// and that nobody has claimed an address since it began.
	Free bool
}

// A Gateway is who has to answer.
type Gateway struct {
	Addr netip.Addr // invalid: the router of the default route on the interface of the addresses
	None bool       // nobody is asked, and that counts as an answer
}

// String is what the configuration says.
func (g Gateway) String() string {
	switch {
	case g.None:
		return "none"
	case g.Addr.IsValid():
		return g.Addr.String()
	}
	return "auto"
}

// Effort is what a Prober does beside listening.
type Effort struct {
	Gateway bool // ask the gateway every 200 ms
	Probe   bool // ask for the addresses, three times, half a second apart, over and over
	Beacon  bool // ask for the addresses every second, to find another who answers
}

const (
	askEvery    = 200 * time.Millisecond
	probeEvery  = 500 * time.Millisecond
	probeTimes  = 3
	beaconEvery = time.Second
	freeFor     = time.Second
)

// asking counts answers of the gateway, each question until the next.
type asking struct {
	last    [3]bool
	pending bool // a question is open
	got     bool // and was answered
}

// answered notes an answer.
func (a *asking) answered() { a.got = true }

// next ends a question and begins another.
func (a *asking) next() {
	if a.pending {
		a.last = [3]bool{a.last[1], a.last[2], a.got}
	}
	a.pending, a.got = true, false
}

// good tells whether two of the last three were answered. The one that is open
// counts once it is answered.
func (a *asking) good() bool {
	n := 0
	last := a.last
	if a.got {
		last = [3]bool{a.last[1], a.last[2], true}
	}
	for _, ok := range last {
		if ok {
			n++
		}
	}
	return n >= 2
}

// series is the probes for the addresses, as RFC 5227 2.1.1 has them.
type series struct {
	began, ended time.Time
	sent         int
	next         time.Time
}

// due reports whether a probe is to be sent now.
func (s *series) due(now time.Time) bool {
	switch {
	case now.Before(s.next):
		return false
	case s.sent == probeTimes: // the last one had its time
		s.ended = now
		s.sent = 0
		return false
	case s.sent == 0:
		s.began = now
	}
	s.sent++
	s.next = now.Add(probeEvery)
	return true
}

// free tells whether a whole series has just ended and nobody has claimed an
// address since it began.
func (s *series) free(now, claimed time.Time) bool {
	return !s.ended.IsZero() && now.Sub(s.ended) < freeFor && claimed.Before(s.ended.Add(-probeTimes*probeEvery))
}

func (s *series) stop() { *s = series{} }

// route is a default route.
type route struct {
	Link    int
	Gateway netip.Addr
	Metric  int
}

// ErrNoGateway says that `auto` finds nobody to ask.
var ErrNoGateway = errors.New("gateway auto: no default route on the interface of the address: name a router with the word gateway")

// gatewayOf finds whom to ask on which link: what was named, or the router of the
// best default route on the link of an address.
func gatewayOf(g Gateway, targets []target, links []link, routes []route) (on link, addr netip.Addr, err error) {
	var best *route
	for _, t := range targets {
		for _, l := range links {
			if l.Name != t.Link {
				continue
			}
			if g.Addr.IsValid() {
				if t.Addr.Is4() == g.Addr.Is4() || len(targets) == 1 {
					return l, g.Addr, nil
				}
				continue
			}
			for i := range routes {
				r := &routes[i]
				if r.Link == l.Index && r.Gateway.Is4() == t.Addr.Is4() && (best == nil || r.Metric < best.Metric) {
					best, on = r, l
				}
			}
		}
	}
	switch {
	case best != nil:
		return on, best.Gateway, nil
	case g.Addr.IsValid():
		return on, addr, fmt.Errorf("gateway %v: no interface to ask it on", g.Addr)
	}
	return on, addr, ErrNoGateway
}

// askFrom is the address of ours from which a neighbour may be asked; unspecified
// where there is none.
func askFrom(l link, have []present, to netip.Addr) netip.Addr {
	for _, p := range have {
		if p.Link == l.Index && !p.ours() && p.Prefix.Contains(to) && p.Prefix.Addr() != to {
			return p.Prefix.Addr()
		}
	}
	return netip.IPv4Unspecified()
}
