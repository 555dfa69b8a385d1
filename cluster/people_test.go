package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// told waits until every living node shows a last move to that one, for that
// reason, in the same term.
func (c *testCluster) told(to int, reason string) {
	c.t.Helper()
	id := c.nodes[to].ID()
	defer func() {
		for i, n := range c.nodes {
			if c.t.Failed() && n != nil {
				c.t.Logf("node %d shows %+v", i, n.Status().LastMove)
			}
		}
	}()
	await(c.t, fmt.Sprintf("everybody to know why %d leads: %s", to, reason), 3*time.Second, func() bool {
		terms := map[uint64]bool{}
		for _, n := range c.nodes {
			if n == nil {
				continue
			}
			m := n.Status().LastMove
			if m.To != id || m.Reason != reason {
				return false
			}
			terms[m.Term] = true
		}
		return len(terms) == 1
	})
}

// TestReasons: each node shows why the leader changed last, how often it did and
// since when the present one leads.
func TestReasons(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
		c.obey(i)
	}
	h := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	await(t, "everybody eligible", 5*time.Second, func() bool {
		for _, m := range c.nodes[h].Status().Members {
			if !m.Eligible {
				return false
			}
		}
		return true
	})
	first := c.nodes[h].Status()
	to := (h + 1) % 3
	if err := c.nodes[h].Transfer(t.Context(), fmt.Sprint("lb", to)); err != nil {
		t.Fatal(err)
	}
	c.told(to, MoveTransfer)
	s := c.nodes[(h+2)%3].Status()
	if s.Moves != 1 || s.Since.Before(first.Since) || s.Since.IsZero() || s.LastMove.From != first.Self.String() {
		t.Errorf("%d moves, since %v, last %+v", s.Moves, s.Since, s.LastMove)
	}

	if err := c.nodes[h].Drain(t.Context(), "ann", fmt.Sprint("lb", to)); err != nil {
		t.Fatal(err)
	}
	await(t, "the drained holder to give up", 5*time.Second, func() bool { return !c.nodes[to].Lease().Valid && c.holder() != to })
	c.told(c.holder(), MoveTransfer+": drained")
	if err := c.nodes[h].Undrain(t.Context(), "ann", fmt.Sprint("lb", to)); err != nil {
		t.Fatal(err)
	}

	// A process that ends without having released.
	h = c.holder()
	c.kill(h)
	h2 := c.holder()
	c.told(h2, MoveGone)
}

// TestStop: who has released and stops is followed at once; a follower that stops
// disturbs nobody.
func TestStop(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	h := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	follower := (h + 1) % 3
	before := c.nodes[h].Lease()
	lost := false
	watch, stop := context.WithCancel(t.Context())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for watch.Err() == nil {
			changed := c.nodes[h].Changed()
			lost = lost || !c.nodes[h].Lease().Valid
			select {
			case <-changed:
			case <-watch.Done():
			}
		}
	}()
	c.kill(follower)
	await(t, "the leader to miss the follower", 5*time.Second, func() bool { return c.nodes[h].Status().Living == 2 })
	stop()
	<-watching
	if l := c.nodes[h].Lease(); lost || !l.Valid || l.Term != before.Term {
		t.Errorf("a follower stopped, and the lease is %+v, was %+v, lost meanwhile: %v", l, before, lost)
	}
	c.start(follower)
	await(t, "three voters again", 10*time.Second, c.members(3))
	time.Sleep(c.hb) // it says nothing for so long after its start

	n, term := c.nodes[h], c.nodes[h].Lease().Term
	start := time.Now()
	n.Released(term)
	n.stop() // at once
	leased, _ := c.lease(term)
	t.Logf("released and stopped to new lease: %v", leased.Sub(start))
	c.nodes[h] = nil
	next := c.holder()
	c.told(next, MoveReleased)
	if err := <-n.done; err != nil {
		t.Error(err)
	}
	n.Close()
	if took := leased.Sub(start); took > c.hb/2 {
		t.Errorf("the next lease came %v after the release, as if nobody had heard of it", took)
	}
}

// TestFacts: what the holder says of itself is in everybody's status.
func TestFacts(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	h := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	since := time.Now().Add(-time.Minute)
	c.nodes[h].SetFacts(Facts{Holding: true, Since: since, Unreplicated: 17, UnreplicatedAge: 40 * ms})
	await(t, "all to see it", 2*time.Second, func() bool {
		for _, n := range c.nodes {
			for _, m := range n.Status().Members {
				mine := m.ID == c.nodes[h].Status().Self
				if m.Leased != mine || m.Holding != mine {
					return false
				}
				if mine && (m.Unreplicated != 17 || m.UnreplicatedAge != 40*ms || m.HoldingSince.Sub(since).Abs() > time.Second) {
					return false
				}
			}
		}
		return true
	})
}

func TestFactsOfStrangers(t *testing.T) {
	at := time.Now()
	f := (&facts{Holding: true, SinceMS: 1 << 62, Unreplicated: -5, UnreplicatedMS: -1}).unpack(at)
	if f.Unreplicated != 0 || f.UnreplicatedAge != 0 || at.Sub(f.Since) != agesMax {
		t.Errorf("%+v", f)
	}
	if f := (*facts)(nil).unpack(at); f != (Facts{}) {
		t.Errorf("an older version says %+v", f)
	}
}

// TestOnePeer: a cluster of one node forms, leads and takes changes by itself,
// also after a restart.
func TestOnePeer(t *testing.T) {
	c := newTestCluster(t, 1)
	for round := range 2 {
		start := time.Now()
		n := c.start(0)
		<-n.Formed()
		c.holder()
		t.Logf("start to lease: %v", time.Since(start))
		if took := time.Since(start); took > 20*c.hb { // two heartbeats, on a machine that has nothing else to do
			t.Errorf("it took %v until it led, heartbeat %v", took, c.hb)
		}
		await(t, "the log", time.Second, func() bool { return n.isCurrent() })
		if got := len(entries(n)); got != round {
			t.Errorf("round %d: %d entries when current", round, got)
		}
		c.propose(0, round)
		if id, _ := n.Leader(); id != n.ID() {
			t.Errorf("%q leads", id)
		}
		if err := n.Transfer(t.Context(), ""); !errors.Is(err, ErrNoCandidate) {
			t.Errorf("transfer: %v", err)
		}
		c.kill(0)
	}
}

// TestCurrent: after a restart of everybody a node is current when it has its
// log again, not before.
func TestCurrent(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	for i := range 3 {
		c.propose(i, i)
	}
	for i := range 3 {
		c.kill(i)
	}
	for i := range 3 {
		c.start(i)
	}
	for i, n := range c.nodes {
		select {
		case <-n.Current():
		case <-time.After(10 * time.Second):
			t.Fatalf("node %d is never current", i)
		}
		if got := len(entries(n)); got != 3 {
			t.Errorf("node %d is current with %d entries, want 3", i, got)
		}
	}
}

// TestMessages: errors for people say which, why and what to do.
func TestMessages(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	h := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	n := c.nodes[h]
	await(t, "names", 5*time.Second, func() bool {
		for _, m := range n.Status().Members {
			if m.Name == "" {
				return false
			}
		}
		return true
	})
	say := func(err error, want ...string) {
		t.Helper()
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%v, want %q in it", err, w)
			}
		}
	}
	say(n.Drain(t.Context(), "ann", "lb9"), `drain: no member is called "lb9"`, "lb0 (127.0.0.1)", "lb2 (127.0.0.1)")
	say(n.Drain(t.Context(), "ann", "127.0.0.1"), `"127.0.0.1" could be`, c.peers[0].Addr.String(), "give the address with its port")
	to := (h + 1) % 3
	c.nodes[to].SetEligible(false, "no carrier")
	await(t, "it to be told", 2*time.Second, func() bool { ok, _ := n.serves(c.nodes[to].ID()); return !ok })
	say(n.Transfer(t.Context(), fmt.Sprint("lb", to)), fmt.Sprintf("transfer to lb%d (127.0.0.1): no carrier", to))

	c.kill((h + 1) % 3)
	c.kill((h + 2) % 3)
	await(t, "the leader to give up", 5*time.Second, func() bool { return n.Status().Role != "Leader" && !n.Status().Quorum })
	_, err := n.Propose(t.Context(), permit(1))
	say(err, "no leader", "no quorum, 1 of 3 voters are alive", "the change was not applied")
}
