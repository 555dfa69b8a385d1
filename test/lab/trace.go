//go:build linux

package lab

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// event is one line of a trace.
type event struct {
	at   time.Duration
	what string
}

// Trace tells in order what the observers saw between two moments, one line each,
// with the time since from: for who has to find out why a gap was there.
func (w *Watch) Trace(from, to time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := window{from.Sub(w.began), to.Sub(w.began)}
	all := slices.Concat(w.traceProbes(t), w.traceSegment(), w.traceNodes())
	slices.SortStableFunc(all, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	var b strings.Builder
	for _, e := range all {
		if t.has(e.at) {
			fmt.Fprintf(&b, "%9.1f  %s\n", milliseconds(e.at-t.from), e.what)
		}
	}
	return b.String()
}

// traceProbes has the first of a row of answers through one node, what comes
// after a pause, and each request that was not answered.
func (w *Watch) traceProbes(t window) (all []event) {
	const pause = 4 * probeEvery
	last, by := time.Duration(-1), int8(-2)
	for _, p := range w.probes {
		who := ClientAddr(int(p.client))
		switch {
		case p.end < t.from:
		case p.outcome != answered:
			all = append(all, event{p.start, fmt.Sprintf("client %s begins what ends as %s after %.1f ms", who, p.outcome, milliseconds(p.end-p.start))})
		case p.node != by || p.end-last > pause:
			all = append(all, event{p.end, fmt.Sprintf("client %s is answered through %s, %.1f ms after its beginning", who, w.lab.nodeName(int(p.node)), milliseconds(p.end-p.start))})
			fallthrough
		default:
			last, by = p.end, p.node
		}
	}
	return all
}

// traceSegment is what went over the front network about the address.
func (w *Watch) traceSegment() (all []event) {
	for _, a := range w.answers {
		names := a.names(w.lab.nodeName)
		if len(names) == 0 {
			names = []string{"nobody"}
		}
		all = append(all, event{a.from, fmt.Sprintf("%s answers the observer, %d times", strings.Join(names, " and "), a.questions)})
	}
	for _, a := range w.spoken {
		word := "announces"
		if a.Question {
			word = "asks in the name of the address"
		}
		all = append(all, event{a.At.Sub(w.began), a.Node + " " + word})
	}
	for _, at := range w.sought {
		all = append(all, event{at, "the clients' router asks for the address"})
	}
	return all
}

func (w *Watch) traceNodes() (all []event) {
	for _, c := range w.addresses {
		word := "gives the address up"
		if c.has {
			word = "takes the address"
		}
		all = append(all, event{c.at, w.lab.nodeName(c.node) + " " + word})
	}
	for _, l := range w.lateness {
		all = append(all, event{l.at, fmt.Sprintf("an observer is late by %.1f ms", milliseconds(l.by))})
	}
	return all
}

func (o outcome) String() string {
	return [...]string{"pending", "answered", "refused", "lost", "reset", "mute", "broken"}[o]
}
