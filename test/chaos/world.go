//go:build linux

package main

import (
	"sync"
	"time"
)

// world is what the harness itself has done to the nodes and the network: from it
// follows when somebody must hold the address.
type world struct {
	mu     sync.Mutex // guards the rest
	nodes  []machine
	cuts   map[int][]way // by the number of the fault
	busy   int           // changes under way
	phases []phase

	pair   bool
	muted  bool // two nodes do not hear each other on the cluster's port, and in ARP they do
	joined bool // two nodes hear each other
	// keeper is the one of two nodes that has the address and keeps it when the
	// other is gone; -1: not known.
	keeper int
	apart  time.Time // since when both of two may come to hold it; zero: they can not
	doubt  []span    // in which both did maybe hold it, and nobody is to blame
}

// machine is a node as it was left.
type machine struct {
	witness bool
	running bool // its processes are there and run
	linked  bool
	drained bool
	unfit   bool // it can not take the address for a reason of its own
	// sure: it was seen to be well since anything has happened to it. A node that
	// comes back needs its time; only sure ones are counted on.
	sure bool
	life int // how often its program was started or its data taken away
}

// way is a direction between two nodes, or a node and the clients.
type way struct{ from, to int }

// gatewaySide is the clients, and the gateway among them, in a way.
const gatewaySide = -1

// phase is what was due since a moment, until the next one.
type phase struct {
	since time.Time
	due   need
}

// need is whether somebody has to hold the address.
type need uint8

const (
	none need = iota
	soon
	late // after one of two nodes has found out that it is alone
)

func newWorld(c lineup) *world {
	nodes := c.nodes()
	w := &world{nodes: make([]machine, nodes), cuts: map[int][]way{}, pair: c == pair, joined: true, keeper: -1}
	for i := range w.nodes {
		w.nodes[i] = machine{running: true, linked: true}
	}
	w.nodes[nodes-1].witness = c == witness
	return w
}

// alter does something to the world. While it is done nothing is due; afterwards
// the world is what note makes of it.
func (w *world) alter(do func() error, note func()) error {
	w.mu.Lock()
	w.busy++
	w.mark()
	w.mu.Unlock()
	err := do()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy--
	note()
	w.mark()
	return err
}

// note says that something is so from now on.
func (w *world) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.mark()
}

// mark begins a phase. It is called with mu held.
func (w *world) mark() {
	p := phase{since: time.Now()}
	if w.pair {
		w.markPair(p.since)
	}
	switch {
	case w.busy > 0:
	case w.pair:
		p.due = w.duePair()
	case w.due():
		p.due = soon
	}
	w.phases = append(w.phases, p)
}

// due tells whether somebody has to hold the address: a majority of sure nodes hear
// each other, and one of them can.
func (w *world) due() bool {
	for first := range w.nodes {
		party := []int{}
		able := false
		for i := range w.nodes {
			n := (first + i) % len(w.nodes)
			if !w.counts(n) || !w.joins(n, party) {
				continue
			}
			party = append(party, n)
			able = able || w.nodes[n].able()
		}
		if able && len(party) > len(w.nodes)/2 {
			return true
		}
	}
	return false
}

// able tells whether it can hold the address.
func (m machine) able() bool { return !m.witness && !m.drained && !m.unfit }

func (w *world) counts(n int) bool {
	m := w.nodes[n]
	return m.running && m.linked && m.sure
}

func (w *world) joins(n int, party []int) bool {
	for _, o := range party {
		if w.cut(n, o) || w.cut(o, n) {
			return false
		}
	}
	return true
}

func (w *world) cut(from, to int) bool {
	for _, ways := range w.cuts {
		for _, c := range ways {
			if c == (way{from, to}) {
				return true
			}
		}
	}
	return false
}

// life is how often a node has begun anew.
func (w *world) life(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[n].life
}

// span is a while with a beginning and an end.
type span struct{ from, to time.Time }

func (s span) length() time.Duration { return s.to.Sub(s.from) }

// duty is a span in which somebody had to hold the address.
type duty struct {
	span
	late bool // it may take the time that one of two nodes needs
}

// dues are the spans between two moments in which nothing changed and somebody had
// to hold the address. What is before is forgotten.
func (w *world) dues(from, to time.Time) (all []duty) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, p := range w.phases {
		end := to
		if i+1 < len(w.phases) && w.phases[i+1].since.Before(to) {
			end = w.phases[i+1].since
		}
		begin := p.since
		if begin.Before(from) {
			begin = from
		}
		if p.due != none && begin.Before(end) {
			all = append(all, duty{span{begin, end}, p.due == late})
		}
	}
	for len(w.phases) > 1 && w.phases[1].since.Before(to) {
		w.phases = w.phases[1:]
	}
	return all
}
