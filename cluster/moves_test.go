package cluster

import (
	"testing"
	"time"
)

// TestTakenIsAMove: who takes the address without a quorum counts that, once, and
// names who had it. Who keeps it has moved nothing.
func TestTakenIsAMove(t *testing.T) {
	c := newTestCluster(t, 2)
	c.start(0)
	c.start(1)
	was := c.holder()
	await(t, "two members", 10*time.Second, c.members(2))
	from, to := c.nodes[was].Status(), c.nodes[1-was].Status()
	await(t, "both know who leads", 5*time.Second, func() bool { return c.nodes[1-was].Status().Leader == from.Self.String() })
	before := c.nodes[1-was].Status().Moves
	c.kill(was)
	n := c.nodes[1-was]
	await(t, "nobody leads", 10*time.Second, func() bool { return n.Status().Leader == "" })
	now := time.Now()
	n.SetAlone(Alone{Since: now, Term: 7, Incumbent: true})
	n.SetAlone(Alone{})
	if s := n.Status(); s.Moves != before {
		t.Errorf("%d moves after it kept the address, want %d", s.Moves, before)
	}
	for range 2 {
		n.SetAlone(Alone{Since: now, Term: 7})
		n.SetAlone(Alone{Since: now, Term: 7, Gateway: true})
		n.SetAlone(Alone{})
	}
	want := Move{From: from.Self.String(), To: to.Self.String(), At: now, Term: 7, Reason: MoveFallback}
	if s := n.Status(); s.Moves != before+1 || s.LastMove != want {
		t.Errorf("%d moves, last %+v; want %d, %+v", s.Moves, s.LastMove, before+1, want)
	}
}
