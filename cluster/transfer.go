package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/raft"
)

// Released says that this node does not answer for the address any more, and
// will not in that term. It opens its vote and tells the others, who need not
// wait for the end of the lease then.
func (n *Node) Released(term uint64) {
	k := n.core.Load()
	if k == nil {
		return
	}
	n.mu.Lock()
	w := n.heir[term]
	n.mu.Unlock()
	w.Term = term
	k.elector.released(w, false)
	k.links.released(w)
}

// ErrNoCandidate says that no other node could take the address.
var ErrNoCandidate = errors.New("no other node is eligible")

// Transfer gives the leadership, and with it the address, to another node: the
// best one if to is empty, else the one of that name, id or address. What was
// proposed before is applied there first. While it goes on, Lease says Handing,
// and waits for Released until the lease is over. If it fails this node takes
// the leadership again, in a new term.
func (n *Node) Transfer(ctx context.Context, to string) error { return n.handOver(ctx, to, "") }

// handOver is Transfer with a reason of the leader's own.
func (n *Node) handOver(ctx context.Context, to, why string) error {
	k := n.core.Load()
	if k == nil {
		return fmt.Errorf("transfer: %w", ErrNoLeader)
	}
	if to != "" {
		m, err := n.find(to)
		if err != nil {
			return fmt.Errorf("transfer: %w", err)
		}
		to = m.ID.String()
	}
	if k.raft.State() != raft.Leader {
		return n.transferElsewhere(ctx, k, to)
	}
	if !n.moving.TryLock() {
		return errors.New("transfer: another one is under way")
	}
	defer n.moving.Unlock()
	if to == "" {
		if to = n.best(k); to == "" {
			return fmt.Errorf("transfer: %w", ErrNoCandidate)
		}
	}
	if to == k.id {
		return nil
	}
	if ok, why := n.serves(to); !ok {
		return fmt.Errorf("transfer to %s: %s", n.label(to), cmp.Or(why, "not eligible"))
	}
	if err := n.transfer(ctx, k, to, why); err != nil {
		return fmt.Errorf("transfer to %s: %w", n.label(to), err)
	}
	return nil
}

func (n *Node) transferElsewhere(ctx context.Context, k *core, to string) error {
	addr, id := k.raft.LeaderWithID()
	if id == "" || string(id) == k.id {
		return fmt.Errorf("transfer: %w", ErrNoLeader)
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	r, _, err := n.carry(ctx, string(id), addr, change{Transfer: true, To: to}, nil)
	if err == nil && !r.Done {
		err = errors.New(r.Err)
	}
	return err
}

func (n *Node) transfer(ctx context.Context, k *core, to, why string) error {
	// An heir who lacks an entry that others have is not elected, and raft counts
	// what it has sent to it, not what has arrived there.
	k.shutLog(true)
	defer k.shutLog(false)
	term := k.raft.CurrentTerm()
	if err := outcome(ctx, n.down, k.raft.Barrier(time.Second)); err != nil {
		return err
	}
	if err := n.awaitHeir(ctx, k, to, term); err != nil {
		return err
	}
	w := releasedTerm{Term: term, Heir: to, Why: MoveTransfer}
	if why != "" {
		w.Why = MoveTransfer + ": " + why
	}
	n.mu.Lock()
	clear(n.heir)
	n.heir[term] = w
	n.mu.Unlock()
	if until, ok := k.elector.hand(term); ok {
		n.tell()
		if err := k.elector.awaitRelease(ctx, term, until); err != nil {
			// The others may have been told; the lease of this term is over anyway.
			n.reclaim(k, term)
			return err
		}
	}
	// The others must know before they are asked to vote.
	select {
	case <-k.links.released(w):
	case <-time.After(patience):
	}
	at, _ := n.where(to)
	err := k.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(at.String())).Error()
	if err != nil && (k.raft.State() != raft.Leader || k.raft.CurrentTerm() != term) {
		// The heir, who was told, was quicker than raft.
		return n.awaitLeader(ctx, to, term)
	}
	if err != nil {
		n.reclaim(k, term)
	}
	return err
}

// awaitHeir waits until the heir has the whole log. Nothing is proposed meanwhile.
func (n *Node) awaitHeir(ctx context.Context, k *core, to string, term uint64) error {
	late := time.NewTimer(n.cfg.Heartbeat)
	defer late.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !k.elector.has(to, term, k.raft.LastIndex()) {
		select {
		case <-look.C:
		case <-late.C:
			return errors.New("it does not catch up")
		case <-ctx.Done():
			return ctx.Err()
		case <-n.down:
			return os.ErrClosed
		}
	}
	return nil
}

// awaitLeader waits until the heir is known to lead in a later term.
func (n *Node) awaitLeader(ctx context.Context, to string, term uint64) error {
	late := time.NewTimer(2 * n.cfg.Heartbeat)
	defer late.Stop()
	look := time.NewTicker(leaderPause)
	defer look.Stop()
	for {
		leader, now := n.Leader()
		switch {
		case leader == to && now > term:
			return nil
		case leader != "" && now > term:
			return fmt.Errorf("%s was quicker", n.label(leader))
		}
		select {
		case <-look.C:
		case <-late.C:
			return ErrNoLeader
		case <-ctx.Done():
			return ctx.Err()
		case <-n.down:
			return os.ErrClosed
		}
	}
}

// reclaim makes this node stand again: what was handed over in a term does not
// come back in that term.
func (n *Node) reclaim(k *core, term uint64) {
	n.mu.Lock()
	clear(n.heir)
	n.mu.Unlock()
	k.elector.released(releasedTerm{Term: term}, false)
	if k.raft.State() == raft.Leader && k.raft.CurrentTerm() == term {
		k.elector.stand()
	}
}
