package cluster

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// TestWipedVoter: of three nodes one was away when two changes were agreed on. The
// two that have them die, and one of them loses its disk. The node that was away
// and the one that knows nothing are no majority of those three voters: they are
// one voter and a stranger at the address of another.
func TestWipedVoter(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	c.kill(2)
	c.holder()
	c.propose(0, 1)
	c.propose(1, 2)
	old := c.nodes[1].Status().Self
	c.kill(0)
	c.kill(1)
	if err := os.RemoveAll(c.path(1)); err != nil {
		t.Fatal(err)
	}
	c.start(1)
	c.start(2)
	for start := time.Now(); time.Since(start) < 15*c.hb; time.Sleep(ms) {
		for _, i := range []int{1, 2} {
			s := c.nodes[i].Status()
			if s.Lease.Valid || s.Role == raft.Leader.String() {
				t.Fatalf("node %d leads in term %d with the vote of a node that is no more: lease %+v", i, s.Term, s.Lease)
			}
		}
	}
	why := ""
	for _, m := range c.nodes[2].Status().Members {
		if m.ID == old {
			why = m.Why
		}
	}
	if !strings.Contains(why, "another node") {
		t.Errorf("status says of the voter that is no more: %q", why)
	}
	c.start(0)
	await(t, "all changes everywhere", 15*time.Second, func() bool {
		for _, n := range c.nodes {
			if len(entries(n)) != 2 {
				return false
			}
		}
		return true
	})
	await(t, "the new node in the place of the old", 15*time.Second, func() bool {
		for _, m := range c.nodes[0].Status().Members {
			if m.ID == old {
				return false
			}
		}
		s := c.nodes[0].Status()
		return s.Voters == 3 && s.Living == 3
	})
}

// TestReplacedIsForgotten: gossip remembers who was at the address of a member
// before its disk was wiped. The status does not: nothing is to be done about it.
func TestReplacedIsForgotten(t *testing.T) {
	c := newTestCluster(t, 3)
	for i := range 3 {
		c.start(i)
	}
	await(t, "three voters", 10*time.Second, c.members(3))
	n := c.nodes[0]
	for _, x := range []struct {
		name  string
		state MemberState
		at    int // whose address it has
		shown bool
	}{
		{"dead, and a member is at its address", Dead, 1, false},
		{"left, and a member is at its address", Left, 2, false},
		{"alive, and a member is at its address", Alive, 1, true},
	} {
		g, old, at := n.gossip, ID{9}, n.Status().Members[x.at].Addr
		g.mu.Lock()
		g.members[old] = Member{ID: old, Name: "old", Addr: at, State: x.state}
		g.mu.Unlock()
		shown := slices.ContainsFunc(n.Status().Members, func(m MemberStatus) bool { return m.ID == old })
		if shown != x.shown {
			t.Errorf("%s: shown %t, want %t", x.name, shown, x.shown)
		}
		g.mu.Lock()
		delete(g.members, old)
		g.mu.Unlock()
	}
}

// TestRaftByIdentity: what raft asks of a node, only that node answers, whoever
// is at its address; and what is asked counts for whom the stream belongs to.
func TestRaftByIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newMemNet(1)
		ids := []ID{{1}, {2}}
		var ends []*transport
		for i, id := range ids {
			e := newElector(id.String(), rank{}, 200*ms, 0, slog.New(slog.DiscardHandler))
			tr := newTransport(e, net.host(i, Hello{Node: id, Boot: NewID()}), memAddr(i), hclog.NewNullLogger())
			defer tr.Close()
			ends = append(ends, tr)
		}
		asked := 0
		go func() {
			for {
				select {
				case rpc := <-ends[1].Consumer():
					asked++
					switch q := rpc.Command.(type) {
					case *raft.RequestVoteRequest:
						rpc.Respond(&raft.RequestVoteResponse{Term: q.Term, Granted: true}, nil)
					case *raft.AppendEntriesRequest:
						rpc.Respond(&raft.AppendEntriesResponse{Term: q.Term, Success: true}, nil)
					}
				case <-ends[1].down:
					return
				}
			}
		}()
		at := raft.ServerAddress(memAddr(1).String())
		vote := func(of ID, by ID) error {
			q := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte(by.String())}, Term: 3}
			return ends[0].RequestVote(raft.ServerID(of.String()), at, q, &raft.RequestVoteResponse{})
		}
		beat := func(of ID, by ID) error {
			q := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ID: []byte(by.String()), Addr: []byte(memAddr(0).String())}, Term: 3}
			return ends[0].AppendEntries(raft.ServerID(of.String()), at, q, &raft.AppendEntriesResponse{})
		}
		wiped := ID{9} // was at that address before
		if err := vote(ids[1], ids[0]); err != nil || asked != 1 {
			t.Fatalf("a vote between two that are who they say: %v, asked %d times", err, asked)
		}
		if err := vote(wiped, ids[0]); err == nil || !strings.Contains(err.Error(), "another node") {
			t.Errorf("the vote of a node that is no more: %v", err)
		}
		if err := beat(wiped, ids[0]); err == nil {
			t.Error("a node that is no more has acknowledged")
		}
		if p, err := ends[0].AppendEntriesPipeline(raft.ServerID(wiped.String()), at); err == nil {
			t.Error("a pipeline to a node that is no more")
			p.Close()
		}
		if err := vote(ids[1], wiped); err == nil {
			t.Error("a vote was given to who asked in the name of another")
		}
		if err := beat(ids[1], wiped); err == nil {
			t.Error("a heartbeat in the name of another was acknowledged")
		}
		if asked != 1 || ends[1].elector.rules.from != "" {
			t.Errorf("asked %d times, and %q was heard", asked, ends[1].elector.rules.from)
		}
		if err := beat(ids[1], ids[0]); err != nil || ends[1].elector.rules.from != ids[0].String() {
			t.Errorf("a true heartbeat: %v, heard %q", err, ends[1].elector.rules.from)
		}
	})
}

// TestReleasedByAnother: only who leads a term lets it go.
func TestReleasedByAnother(t *testing.T) {
	e := newElector("a", rank{}, 200*ms, 0, slog.New(slog.DiscardHandler))
	e.hear("b", 3)
	if e.released(releasedTerm{Term: 3, from: "c"}, false); e.rules.released != 0 {
		t.Error("c has released what b leads")
	}
	if e.released(releasedTerm{Term: 3, from: "b"}, false); e.rules.released != 3 {
		t.Error("b has not released what it leads")
	}
}

// TestPromiseToAnother: a promise is given to the proposer only, and only he
// takes it back.
func TestPromiseToAnother(t *testing.T) {
	f := newFormer(memAddr(0), nil, nil, papers{Node: ID{1}}, func(papers) error { return nil }, 0, slog.New(slog.DiscardHandler))
	p := &promise{Formation: ID{5}, Proposer: ID{2}}
	if a := f.decide(formAsk{Promise: p}, ID{3}); a.Yes {
		t.Error("a promise for another was given")
	}
	if a := f.decide(formAsk{Promise: p}, ID{2}); !a.Yes {
		t.Error("the proposer did not get a promise")
	}
	if a := f.decide(formAsk{Abort: &p.Formation}, ID{3}); a.Yes || a.Promised != p.Formation {
		t.Error("another took a promise back")
	}
	if a := f.decide(formAsk{Abort: &p.Formation}, ID{2}); !a.Yes {
		t.Error("the proposer could not take a promise back")
	}
}
