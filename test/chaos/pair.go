//go:build linux

package main

import (
	"slices"
	"time"

	"pen/cluster"
)

// What is due of two nodes is not what is due of three: one of them that is alone
// decides by what it sees.

// healing is how long both of two nodes may go on to hold the address after they
// hear each other again.
const healing = time.Second

// markPair notes what two nodes may make of what they see. It is called with mu held.
func (w *world) markPair(now time.Time) {
	joined := w.hears(0, 1) && w.hears(1, 0) && !w.muted
	if joined && !w.joined {
		// Who knows more has to lead, and the address comes to it.
		w.keeper = -1
	}
	w.joined = joined
	// Both do only where one does not hear that the other has it, for as long as it
	// takes to believe that, and where both of them see the gateway.
	apart := w.alive(0) && w.alive(1) && (w.cut(0, 1) || w.cut(1, 0))
	switch {
	case apart && w.apart.IsZero():
		w.apart = now
	case !apart && !w.apart.IsZero():
		if from := w.apart.Add(cluster.FallbackSilence); now.After(from) {
			w.doubt = append(w.doubt, span{from, now.Add(healing)})
		}
		w.apart = time.Time{}
	}
}

// duePair tells whether one of two nodes has to hold the address.
func (w *world) duePair() (n need) {
	if w.counts(0) && w.counts(1) && w.joined && (w.nodes[0].able() || w.nodes[1].able()) {
		return soon
	}
	for is := range w.nodes {
		other := 1 - is
		switch {
		case !w.counts(is) || !w.nodes[is].able() || w.cut(is, gatewaySide) || w.cut(gatewaySide, is):
		case is == w.keeper:
			return soon
		case !w.alive(other) || w.cut(is, other) && w.cut(other, is):
			n = late
		}
	}
	return n
}

// alive tells whether it may do anything on the network.
func (w *world) alive(n int) bool { return w.nodes[n].running && w.nodes[n].linked }

func (w *world) hears(n, other int) bool {
	return w.alive(n) && w.alive(other) && !w.cut(other, n)
}

// excuses are the spans in which both of two nodes may have answered. What is over
// is forgotten.
func (w *world) excuses() []span {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.doubt
	w.doubt = slices.DeleteFunc(slices.Clone(all), func(s span) bool { return s.to.Before(time.Now()) })
	if from := w.apart.Add(cluster.FallbackSilence); !w.apart.IsZero() && time.Now().After(from) {
		all = append(all, span{from, time.Now()})
	}
	return all
}
