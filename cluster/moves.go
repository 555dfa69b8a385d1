package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// Move is a change of the leader.
type Move struct {
	From, To string // ids
	At       time.Time
	Term     uint64
}

// notice tells others what raft and the lease do, and moves the address away
// from a leader that can not hold it.
func (n *Node) notice(ctx context.Context, k *core) {
	news := make(chan raft.Observation, 16)
	watch := raft.NewObserver(news, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState, raft.PeerObservation:
			return true
		}
		return false
	})
	k.raft.RegisterObserver(watch)
	defer k.raft.DeregisterObserver(watch)
	tick := time.NewTicker(n.cfg.Heartbeat)
	defer tick.Stop()
	for {
		lease := k.elector.watchLease()
		n.noteLeader(k)
		select {
		case <-ctx.Done():
			return
		case <-news:
			n.tell()
		case <-lease:
			n.tell()
		case <-tick.C:
		}
	}
}

func (n *Node) noteLeader(k *core) {
	_, id := k.raft.LeaderWithID()
	term := k.raft.CurrentTerm()
	n.mu.Lock()
	defer n.mu.Unlock()
	if id == "" || string(id) == n.leader {
		return
	}
	if n.leader != "" {
		n.moves++
		n.last = Move{n.leader, string(id), time.Now(), term}
	}
	n.leader = string(id)
	n.log.Info("leader", "leader", id, "term", term)
}
