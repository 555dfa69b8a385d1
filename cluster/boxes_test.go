package cluster

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// papersOf changes what a node that does not run has on its disk.
func (c *testCluster) papersOf(i int, change func(*papers)) (p papers) {
	c.t.Helper()
	a, err := openArchive(filepath.Join(c.path(i), "cluster"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer a.close()
	p = a.papers
	change(&p)
	if err := a.save(p); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// TestRecoveryAfterCrash: the process has died between the word that a recovery is
// to be and what it consists of. The next start goes on with it; who is of before
// holds nothing, whatever majority it has.
func TestRecoveryAfterCrash(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	c.propose(0, 1)
	for i := range 3 {
		c.kill(i)
	}
	c.papersOf(0, func(p *papers) { p.Generation, p.Recover = nextGeneration(p.Generation), true })
	c.start(0)
	await(t, "the one that is left to hold", 10*time.Second, func() bool { return c.nodes[0].Lease().Valid })
	if s := c.nodes[0].Status(); s.Voters != 1 || s.Generation != 2 || len(entries(c.nodes[0])) != 1 {
		t.Errorf("recovered: %d voters, generation %d, %d rules", s.Voters, s.Generation, len(entries(c.nodes[0])))
	}
	c.propose(0, 2)

	c.start(1)
	c.start(2)
	for _, i := range []int{1, 2} {
		await(t, "who was left behind to know it", 10*time.Second, func() bool { return c.nodes[i].behind() != "" })
		if s := c.nodes[i].Status(); s.Quorum || !strings.Contains(s.Out, "recovered without it, generation 2: remove the directory cluster") {
			t.Errorf("who was left behind: quorum %v, out %q", s.Quorum, s.Out)
		}
		var pe *ProposeError
		if _, err := c.nodes[i].Propose(t.Context(), permit(3)); !errors.As(err, &pe) || pe.Outcome != NotApplied || !strings.Contains(err.Error(), "recovered without it") {
			t.Errorf("a change on who was left behind: %v", err)
		}
		if err := c.nodes[i].Recover(t.Context(), "ann", "shop"); err == nil || !strings.Contains(err.Error(), "recovered without it") {
			t.Errorf("recover on who was left behind: %v", err)
		}
	}
	for start := time.Now(); time.Since(start) < 5*c.hb; time.Sleep(ms) {
		if c.nodes[1].Lease().Valid || c.nodes[2].Lease().Valid {
			t.Fatal("who was left behind has a lease")
		}
	}
	// Also after another start, with nobody there who could tell.
	c.kill(0)
	c.kill(1)
	c.start(1)
	for start := time.Now(); time.Since(start) < 10*c.hb; time.Sleep(ms) {
		if c.nodes[1].Lease().Valid || c.nodes[2].Lease().Valid {
			t.Fatal("who was left behind has a lease after a start")
		}
	}
	c.kill(1)
	c.kill(2)
	if p := c.papersOf(0, func(*papers) {}); p.Recover || ordinal(p.Generation) != 2 {
		t.Errorf("papers: %+v", p)
	}
	if p := c.papersOf(2, func(*papers) {}); ordinal(p.Overtaken) != 2 || p.Generation != 1 {
		t.Errorf("papers of who was left behind: %+v", p)
	}
}

// TestListInPlace changes the list of nodes that run: priorities, a witness, one
// less, one more; and takes one out by request.
func TestListInPlace(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	h := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	term := c.nodes[h].Lease().Term
	set := func(peers ...Peer) {
		t.Helper()
		for _, n := range c.nodes {
			if n != nil {
				must(t, n.SetPeers(peers, time.Hour))
			}
		}
	}
	low := (h + 1) % 3
	peers := append([]Peer(nil), c.peers...)
	peers[low].Priority = 7
	set(peers...)
	await(t, "everybody to know the priority", 5*time.Second, func() bool {
		for _, n := range c.nodes {
			for _, m := range n.Status().Members {
				if m.Addr == peers[low].Addr && m.Priority != 7 {
					return false
				}
			}
		}
		return true
	})
	without := append(append([]Peer(nil), peers[:low]...), peers[low+1:]...)
	set(without...)
	await(t, "two voters", 10*time.Second, func() bool { return c.nodes[h].Status().Voters == 2 })
	set(peers...)
	await(t, "three voters again", 10*time.Second, c.members(3))
	if l := c.nodes[h].Lease(); !l.Valid || l.Term != term {
		t.Errorf("the lease is another: %+v, was of term %d", l, term)
	}
	must(t, c.nodes[(h+2)%3].Remove(t.Context(), "ann", c.peers[low].Addr.String(), false))
	await(t, "the node to know that it is out", 5*time.Second, func() bool {
		for _, m := range c.nodes[low].Status().Members {
			if m.Self && strings.Contains(m.Why, "removed by ann") {
				return true
			}
		}
		return false
	})
	if s := c.nodes[low].Status(); s.Quorum || s.Out != "removed by ann; it takes part again when it is started again" {
		t.Errorf("who was removed: quorum %v, out %q", s.Quorum, s.Out)
	}
	if s := c.nodes[h].Status(); !s.Quorum || s.Out != "" {
		t.Errorf("a member: quorum %v, out %q", s.Quorum, s.Out)
	}
	// Who holds becomes a witness: it hands over.
	peers[h].Witness = true
	set(peers...)
	await(t, "the address at the other", 5*time.Second, func() bool { return c.nodes[(h+2)%3].Lease().Valid })
	if v := c.nodes[h].Status().Voters; v != 2 {
		t.Errorf("%d voters, want 2: who was removed stays out under the next leader", v)
	}
	// With an early list nothing can be formed.
	fresh := newTestCluster(t, 3)
	if err := fresh.start(0).SetPeers(fresh.peers[:1], 0); err == nil || !strings.Contains(err.Error(), "not part of a cluster yet") {
		t.Errorf("a list for a node that has not formed: %v", err)
	}
}
