package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestTransferAtAChange: who asks for a transfer while the leader changes need not
// ask again.
func TestTransferAtAChange(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	h := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	a, b := (h+1)%3, (h+2)%3
	await(t, "two links", 5*time.Second, func() bool { return c.nodes[a].core.Load().links.connected(c.nodes[b].ID()) })
	c.kill(h)
	if err := c.nodes[a].Transfer(t.Context(), fmt.Sprint("lb", b)); err != nil {
		t.Fatal(err)
	}
	await(t, "the lease of the heir", time.Second, func() bool { return c.nodes[b].Lease().Valid })
	c.kill(a)
	await(t, "the leader to give up", 5*time.Second, func() bool { return c.nodes[b].Status().Role != "Leader" })
	start := time.Now()
	err := c.nodes[b].Transfer(t.Context(), fmt.Sprint("lb", b))
	if !errors.Is(err, ErrNoLeader) || !strings.Contains(err.Error(), "no quorum") {
		t.Errorf("without a quorum: %v", err)
	}
	if took := time.Since(start); took > proposeTime+200*ms {
		t.Errorf("it took %v", took)
	}
}

// TestTransferToTheDead: the heir died a moment ago.
func TestTransferToTheDead(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	h := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	term := c.nodes[h].Lease().Term
	to := (h + 1) % 3
	c.kill(to)
	err := c.nodes[h].Transfer(t.Context(), fmt.Sprint("lb", to))
	if err == nil || !strings.Contains(err.Error(), "does not answer") || strings.Contains(err.Error(), "timeout") {
		t.Errorf("transfer to a dead node: %v", err)
	}
	if l := c.nodes[h].Lease(); !l.Valid || l.Term != term {
		t.Errorf("it cost the lease: %+v", l)
	}
}

// TestIneligibleLeader gives the address away at once, not when it is time to look
// again.
func TestIneligibleLeader(t *testing.T) {
	c := newTestCluster(t, 3)
	c.hb = 2 * time.Second
	for i := range 3 {
		c.start(i)
	}
	h := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	await(t, "an heir", 5*time.Second, func() bool { return c.nodes[h].best(c.nodes[h].core.Load()) != "" })
	go func(n *testNode) { // what the daemon does
		for {
			changed := n.Changed()
			if l := n.Lease(); l.Handing {
				n.Released(l.Term)
			}
			select {
			case <-changed:
			case <-n.down:
				return
			}
		}
	}(c.nodes[h])
	start := time.Now()
	c.nodes[h].SetEligible(false, "ending its last term")
	await(t, "another lease", 10*time.Second, func() bool {
		return c.nodes[(h+1)%3].Lease().Valid || c.nodes[(h+2)%3].Lease().Valid
	})
	if took := time.Since(start); took > 300*ms {
		t.Errorf("it took %v", took)
	}
}

// TestStatusOfTheKilled: a holder whose process is gone is neither alive nor
// holding for longer than the others need to find that out.
func TestStatusOfTheKilled(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	h := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	c.nodes[h].SetFacts(Facts{Holding: true, Since: time.Now()})
	other := c.nodes[(h+1)%3]
	id := c.nodes[h].former.now().Node
	of := func() (m MemberStatus) {
		for _, m = range other.Status().Members {
			if m.ID == id {
				break
			}
		}
		return m
	}
	await(t, "others to see it hold", 2*time.Second, func() bool { m := of(); return m.Alive && m.Holding && !m.HoldingSince.IsZero() })
	own, seen := c.nodes[h].Status().Since, other.Status().Since
	if d := own.Sub(seen).Abs(); own.IsZero() || d > 100*ms {
		t.Errorf("it leads since %v, and another says since %v", own, seen)
	}
	c.kill(h)
	start := time.Now()
	await(t, "others to see that it is gone", 3*time.Second, func() bool {
		m := of()
		return !m.Alive && !m.Holding && !m.Leased && m.HoldingSince.IsZero()
	})
	if took := time.Since(start); took > 300*ms {
		t.Errorf("it took %v", took)
	}
	for s := other.Status(); time.Since(start) < 500*ms; s = other.Status() {
		if (s.Leader == "") != s.Since.IsZero() {
			t.Fatalf("leader %q since %v", s.Leader, s.Since)
		}
	}
	c.start(h)
	await(t, "it to be alive again", 5*time.Second, func() bool { return of().Alive })
}

// TestWordsOfPropose: what people read is no jargon.
func TestWordsOfPropose(t *testing.T) {
	for _, c := range []struct {
		err  *ProposeError
		want string
	}{
		{&ProposeError{Applied, context.DeadlineExceeded}, "the change was applied, but this node does not have it yet"},
		{&ProposeError{NotApplied, ErrNoLeader}, "no leader; the change was not applied"},
		{&ProposeError{Unknown, errStopping}, "this node is stopping; the change may have been applied: look before you repeat it"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	c := newTestCluster(t, 2)
	c.start(0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
	defer cancel()
	_, err := c.nodes[0].Propose(ctx, permit(1))
	if err == nil || strings.Contains(err.Error(), "context") {
		t.Errorf("without a cluster: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = c.nodes[0].Propose(ctx, permit(1))
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "context") {
		t.Errorf("interrupted: %v", err)
	}
}
