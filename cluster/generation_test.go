package cluster

import (
	"strings"
	"testing"
	"time"
)

func TestGenerations(t *testing.T) {
	ours := testHello(1)
	for _, c := range []struct{ here, there, count uint64 }{{1, 2, 2}, {2, nextGeneration(2), 3}, {nextGeneration(1), nextGeneration(nextGeneration(1)), 3}} {
		if c.here >= c.there || ordinal(c.there) != c.count {
			t.Errorf("generation %x, then %x: counted %d, want %d and greater", c.here, c.there, ordinal(c.there), c.count)
		}
	}
	a, b := ours, testHello(2)
	a.Generation, b.Generation = 2<<ordinalShift|7, 2<<ordinalShift|8
	for _, c := range []struct {
		h, peer Hello
		text    string
	}{
		{a, b, "the cluster was recovered on two nodes, and that one counts; stop pen here, remove the directory cluster in its data_dir, start it again"},
		{b, a, "the cluster was recovered on two nodes, and this one counts; stop pen there, remove the directory cluster in its data_dir, start it again"},
	} {
		if refused := c.h.fits(c.peer); refused == nil || refused.Reason != OtherFormation || !strings.Contains(refused.Error(), c.text) {
			t.Errorf("got %v, want %q", refused, c.text)
		}
	}
}

// TestTwoRecoveries recovers two nodes that do not hear each other. They have the
// same count of generations and logs that differ: they must not become one.
func TestTwoRecoveries(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	for i := range 3 {
		c.kill(i)
	}
	for i := range 2 {
		c.papersOf(i, func(p *papers) { p.Generation, p.Recover = nextGeneration(p.Generation), true })
		c.start(i)
		await(t, "who was recovered to hold", 10*time.Second, func() bool { return c.nodes[i].Lease().Valid })
		c.propose(i, i+1)
		if i == 0 {
			c.kill(0)
		}
	}
	c.start(0)
	await(t, "one of the two to be left behind", 10*time.Second, func() bool { return c.nodes[0].behind() != "" || c.nodes[1].behind() != "" })
	loser, winner := c.nodes[0], c.nodes[1]
	if winner.behind() != "" {
		loser, winner = winner, loser
	}
	await(t, "the other one to hold", 10*time.Second, func() bool { return winner.Lease().Valid })
	for start := time.Now(); time.Since(start) < 5*c.hb; time.Sleep(ms) {
		if loser.Lease().Valid {
			t.Fatal("who was left behind has a lease")
		}
	}
	if s := winner.Status(); winner.behind() != "" || s.Voters != 1 || s.Generation != 2 || len(entries(winner)) != 1 {
		t.Errorf("who counts: %q, %d voters, generation %d, %d rules", winner.behind(), s.Voters, s.Generation, len(entries(winner)))
	}
}
