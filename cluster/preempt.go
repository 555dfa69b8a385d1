package cluster

import (
	"time"

	"github.com/hashicorp/raft"
)

// suitor is a node that would have the address rather than the one that has it.
type suitor struct {
	id    string
	since time.Time // since when it has been ready without a break
	ready bool      // it is now: eligible, of a better priority, caught up
}

// suitor is what this node, which leads, sees of another.
func (n *Node) suitor(id string, k *core) suitor {
	last := k.raft.LastIndex()
	n.mu.Lock()
	h, ok := n.notes[idOf(raft.ServerID(id))]
	n.mu.Unlock()
	above := ok && rank{h.hello.Witness, int(h.hello.Priority)}.compare(k.elector.ownRank()) < 0
	return suitor{id: id, since: h.ready, ready: above && !h.ready.IsZero() && h.Applied+learnerLag >= last && k.links.connected(id)}
}

// court tells whether the address should move to a suitor: when it has been ready
// for as long as asked, in the eyes of this leader too. Asked is zero for never.
// One that was not ready for a moment, or was started again, begins anew.
func (g *giver) court(now time.Time, s suitor, asked time.Duration) bool {
	if !s.ready {
		g.better = ""
		return false
	}
	if s.id != g.better {
		g.better, g.since = s.id, now
	}
	return asked > 0 && now.Sub(later(g.since, s.since)) >= asked
}

// readySince is since when a node that says something now has been ready without
// a break, given what it said before.
func readySince(was heardNote, boot ID, eligible bool, now time.Time) time.Time {
	switch {
	case !eligible:
		return time.Time{}
	case was.ready.IsZero() || was.hello.Boot != boot || now.Sub(was.at) > 3*noteEvery:
		return now
	}
	return was.ready
}
