package cluster

import (
	"os"
	"testing"
	"time"
)

// TestWipedOnceBeforeRecovery wipes two of three nodes and starts them before the
// one that is left is recovered. They know the formation and were never members:
// they take up the generation of the recovery without another wipe.
func TestWipedOnceBeforeRecovery(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	c.propose(0, 1)
	c.kill(1)
	c.kill(2)
	for _, i := range []int{1, 2} {
		must(t, os.RemoveAll(c.path(i)))
		c.start(i)
	}
	await(t, "the wiped to know the formation", 10*time.Second, func() bool {
		f := c.nodes[0].Status().Formation
		return c.nodes[1].Status().Formation == f && c.nodes[2].Status().Formation == f
	})
	// One of them learns of it only after another start.
	c.kill(2)
	must(t, c.nodes[0].Recover(t.Context(), "ann", "shop"))
	later := c.nodes[0].former.now().Generation
	c.papersOf(2, func(p *papers) { p.Overtaken = later })
	c.start(2)
	await(t, "three voters after the recovery", 20*time.Second, c.members(3))
	for i, n := range c.nodes {
		if s := n.Status(); s.Generation != 2 || n.behind() != "" || s.Self != n.former.now().Node {
			t.Errorf("node %d: generation %d, behind %q", i, s.Generation, n.behind())
		}
		await(t, "the rule to be everywhere", 5*time.Second, func() bool { return len(entries(n)) == 1 })
	}
}
