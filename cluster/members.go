package cluster

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// configure makes one change of raft's configuration, if one is due. A listed
// node is never removed because it is dead: only because its place was taken.
func (n *Node) configure(ctx context.Context, k *core) {
	c := k.raft.GetConfiguration().Configuration()
	n.mu.Lock()
	notes := make(map[ID]heardNote, len(n.notes))
	for id, h := range n.notes {
		if time.Since(h.at) < 3*noteEvery {
			notes[id] = h
		}
	}
	n.mu.Unlock()
	act, s, what := reconfigure(c.Servers, notes, n.cfg.Peers, k.id, k.raft.LastIndex())
	if act == memberVote && n.pairFalls(c.Servers, s.ID, notes) {
		act = memberKeep // it learns meanwhile
	}
	var f raft.IndexFuture
	switch act {
	case memberKeep:
		return
	case memberRemove:
		f = k.raft.RemoveServer(s.ID, 0, time.Second)
	case memberLearn:
		f = k.raft.AddNonvoter(s.ID, s.Address, 0, time.Second)
	case memberVote:
		f = k.raft.AddVoter(s.ID, s.Address, 0, time.Second)
	}
	if err := outcome(ctx, n.down, f); err != nil {
		n.log.Warn("members stay as they are", "member", s.ID, "addr", s.Address, "err", err)
		return
	}
	n.log.Info("members changed", "member", s.ID, "addr", s.Address, "change", what)
	n.tell()
}

type memberAct uint8

const (
	memberKeep memberAct = iota
	memberRemove
	memberLearn
	memberVote
)

// learnerLag is how many entries a new node may be behind when it gets its vote.
const learnerLag = 64

// reconfigure decides which change is due, from raft's servers, the nodes that
// are heard of, and the list.
func reconfigure(servers []raft.Server, alive map[ID]heardNote, peers []Peer, self string, last uint64) (memberAct, raft.Server, string) {
	byID := func(id string) int {
		return slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == id })
	}
	ids := make([]ID, 0, len(alive))
	for id := range alive {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		h := alive[id]
		want := raft.Server{ID: raft.ServerID(id.String()), Address: raft.ServerAddress(h.hello.Addr.String())}
		listed := slices.ContainsFunc(peers, func(p Peer) bool { return p.Addr == h.hello.Addr })
		i := byID(string(want.ID))
		if !listed && i < 0 || string(want.ID) == self {
			continue
		}
		taken := slices.IndexFunc(servers, func(s raft.Server) bool { return s.Address == want.Address && s.ID != want.ID })
		switch {
		case taken >= 0:
			old := servers[taken]
			if _, lives := alive[idOf(old.ID)]; lives || string(old.ID) == self || !safeWithout(servers, alive, old.ID, self) {
				continue
			}
			return memberRemove, old, "its disk was replaced"
		case i < 0:
			return memberLearn, want, "it is new"
		case servers[i].Address != want.Address && servers[i].Suffrage == raft.Voter:
			return memberVote, want, "its address changed"
		case servers[i].Suffrage != raft.Voter && h.Applied+learnerLag >= last:
			return memberVote, want, "it has caught up"
		}
	}
	return memberKeep, raft.Server{}, ""
}

func idOf(s raft.ServerID) ID {
	id, _ := ParseID(string(s)) // one that is none is nobody's
	return id
}

// safeWithout tells whether those who live are a majority of the voters that
// are left.
func safeWithout(servers []raft.Server, alive map[ID]heardNote, gone raft.ServerID, self string) bool {
	voters, living := 0, 0
	for _, s := range servers {
		if s.ID == gone || s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if _, ok := alive[idOf(s.ID)]; ok || string(s.ID) == self {
			living++
		}
	}
	return living >= voters/2+1
}

// pairFalls tells whether a third vote would be given while one of the two that
// vote now would hold the address without a quorum: with the third the other is one.
func (n *Node) pairFalls(servers []raft.Server, third raft.ServerID, alive map[ID]heardNote) bool {
	n.mu.Lock()
	falls, told := n.falls, n.waiting
	n.mu.Unlock()
	voting, who := 0, n.cfg.Node
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if s.ID == third {
			return false // its address changes, nothing else
		}
		voting++
		if h, ok := alive[idOf(s.ID)]; !falls && ok && h.Falls {
			falls, who = true, h.hello.Name
		}
	}
	falls = falls && voting == 2
	if falls && !told {
		n.log.Warn("a third node gets no vote while one of the two decides without a quorum: give that one the longer list of peers, too",
			"member", who)
	}
	n.mu.Lock()
	n.waiting = falls
	n.mu.Unlock()
	return falls
}
