package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// Move is a change of the leader, or of who holds the address without one.
type Move struct {
	From string    `json:"from"` // ids
	To   string    `json:"to"`
	At   time.Time `json:"at"` // when this node saw it
	Term uint64    `json:"term"`
	// Reason is why, as the new leader says; empty until it has said so.
	Reason string `json:"reason"`
}

// The reasons of moves. A transfer that the leader has decided on says why after
// a colon, as in "transfer: drained".
const (
	MoveTransfer = "transfer"
	MoveReleased = "released by the holder" // which has stopped
	MoveGuard    = "released by the guard"  // of a process that was killed
	MoveGone     = "process gone"
	MoveSilent   = "silent"
	MoveStart    = "start" // the new leader had heard of none since it started
	MoveTimer    = "raft's own timer"
	MoveFallback = "fallback: without a quorum" // nobody was elected
)

// lead is what a leader says about its leadership.
type lead struct {
	Term    uint64 `json:"term"`
	Reason  string `json:"reason"`
	Applied uint64 `json:"applied,omitempty"` // entry up to which it has applied its log; zero: not told yet
	From    string `json:"from,omitempty"`    // who led before; empty: it does not know
	AgoMS   int64  `json:"ago_ms,omitempty"`  // how long it has led

	id    string
	since time.Time
}

// age is how long it had led when it said so.
func (l *lead) age() time.Duration {
	return time.Duration(min(max(l.AgoMS, 0), agesMax.Milliseconds())) * time.Millisecond
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
			k.links.announce() // whether the lease is valid is in the note
		case <-tick.C:
		}
	}
}

// noteLeader notes who leads, and counts when that changes.
func (n *Node) noteLeader(k *core) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, id := k.raft.LeaderWithID()
	term := k.raft.CurrentTerm()
	now := time.Now()
	if id == "" {
		n.since = time.Time{}
		return
	}
	if n.since.IsZero() {
		n.since = now
	}
	m := Move{From: n.leader, To: string(id), At: now, Term: term}
	if m.To == k.id && n.lead.Term != term {
		n.lead = lead{Term: term, Reason: k.elector.reason(term), From: m.From, id: k.id, since: now}
		k.links.announce()
		select {
		case n.led <- struct{}{}:
		default:
		}
	}
	if m.To == m.From {
		return
	}
	n.since = now
	if m.To == k.id {
		m.Reason = n.lead.Reason
	} else if said := n.notes[idOf(id)].Lead; said != nil && said.Term > n.last.Term {
		m.Term, m.Reason = said.Term, said.Reason
	}
	if m.From != "" {
		n.moves++
		n.last = m
	}
	n.leader = m.To
	about := []any{"leader", id, "member", n.named(idOf(id)), "term", m.Term}
	if m.Reason != "" { // the leader tells later
		about = append(about, "reason", m.Reason)
	}
	n.log.Info("leader", about...)
}

// noteTaken counts that this node has taken the address without a quorum, from who
// led before. If it is elected later, that is no other move. It is called with mu held.
func (n *Node) noteTaken(self string, a Alone) {
	m := Move{From: n.leader, To: self, At: a.Since, Term: a.Term, Reason: MoveFallback}
	if m.From == m.To {
		return
	}
	if n.leader = m.To; m.From != "" {
		n.moves++
		n.last = m
	}
}

// explain takes the word of a leader about the last move. It is called with mu held.
func (n *Node) explain(from ID, said *lead) {
	if said == nil || said.Reason == "" || n.leader != from.String() {
		return
	}
	if _, err := ParseID(said.From); err == nil && n.last.To == "" && said.From != n.leader {
		// From before this node started.
		n.last = Move{From: said.From, To: n.leader, At: time.Now().Add(-said.age()), Term: said.Term, Reason: said.Reason}
		return
	}
	if n.last.To != n.leader || n.last.Reason != "" {
		return
	}
	// What was said about an earlier leadership is older than the move.
	if said.Term+1 >= n.last.Term {
		n.last.Term, n.last.Reason = said.Term, said.Reason
	}
}
