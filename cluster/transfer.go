package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
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

// errNotLeading says that nothing was done, and that another try may do.
var errNotLeading = worded{"another node leads now", raft.ErrNotLeader}

// Transfer gives the leadership, and with it the address, to another node: the
// best one if to is empty, else the one of that name, id or address. What was
// proposed before is applied there first. While it goes on, Lease says Handing,
// and waits for Released until the lease is over. If it fails this node takes
// the leadership again, in a new term.
//
// Any node can be asked. Where nobody leads at that moment it waits for a leader,
// two seconds at most.
func (n *Node) Transfer(ctx context.Context, to string) error {
	k := n.core.Load()
	if k == nil {
		return errors.New("transfer: this node is not part of a cluster yet")
	}
	if to != "" {
		m, err := n.find(to)
		if err != nil {
			return fmt.Errorf("transfer: %w", err)
		}
		to = m.ID.String()
	}
	end := time.Now().Add(proposeTime)
	for {
		again, err := n.tryTransfer(ctx, k, to)
		if !again || time.Now().After(end) {
			return n.transferError(to, err)
		}
		select {
		case <-time.After(leaderPause):
		case <-ctx.Done():
			return n.transferError(to, err)
		case <-n.down:
			return n.transferError(to, errStopping)
		}
	}
}

func (n *Node) transferError(to string, err error) error {
	switch {
	case err == nil:
		return nil
	case to == "":
		return fmt.Errorf("transfer: %w", n.whyNobody(err))
	}
	return fmt.Errorf("transfer to %s: %w", n.label(to), n.whyNobody(err))
}

// tryTransfer asks whoever leads now. Again tells that nothing was done.
func (n *Node) tryTransfer(ctx context.Context, k *core, to string) (again bool, err error) {
	addr, id := k.raft.LeaderWithID()
	switch {
	case id == "":
		return true, ErrNoLeader
	case string(id) == k.id:
		err := n.giveTo(ctx, k, to, "")
		return errors.Is(err, errNotLeading), err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	r, sent, err := n.carry(ctx, string(id), addr, change{Transfer: true, To: to}, nil)
	switch {
	case err != nil:
		return !sent, err
	case !r.Done:
		return r.Again, errors.New(r.Err)
	}
	return false, nil
}

// giveTo is Transfer for a leader, with a reason of its own, if it has one. To is
// an id, or empty.
func (n *Node) giveTo(ctx context.Context, k *core, to, why string) error {
	if !n.moving.TryLock() {
		return errors.New("another transfer is under way")
	}
	defer n.moving.Unlock()
	if k.raft.State() != raft.Leader {
		return errNotLeading
	}
	if to == "" {
		if to = n.best(k); to == "" {
			return ErrNoCandidate
		}
	}
	if to == k.id {
		return nil
	}
	if ok, why := n.serves(to); !ok {
		return errors.New(cmp.Or(why, "not eligible"))
	}
	err := n.transfer(ctx, k, to, why)
	if err == nil {
		return nil
	}
	return n.transferWords(k, to, err)
}

// transferWords says what raft says, to people.
func (n *Node) transferWords(k *core, to string, err error) error {
	switch {
	case errors.Is(err, errNotLeading):
		return errNotLeading
	case !k.links.connected(to):
		return errors.New("it does not answer: its process or its network is gone")
	case errors.Is(err, context.DeadlineExceeded):
		return worded{"it took too long, and was given up", err}
	case errors.Is(err, os.ErrClosed), errors.Is(err, raft.ErrRaftShutdown):
		return errStopping
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return worded{"the address is on its way to another node", err}
	case strings.Contains(err.Error(), "transfer timeout"): // raft has no value for it
		return worded{"it did not take over in time", err}
	case strings.Contains(err.Error(), "TimeoutNow"):
		return worded{"it can not be told to take over", err}
	}
	return err
}

func (n *Node) transfer(ctx context.Context, k *core, to, why string) error {
	// An heir who lacks an entry that others have is not elected, and raft counts
	// what it has sent to it, not what has arrived there.
	k.shutLog(true)
	defer k.shutLog(false)
	term := k.raft.CurrentTerm()
	err := outcome(ctx, n.down, k.raft.Barrier(time.Second))
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost):
		return errNotLeading
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, raft.ErrEnqueueTimeout):
		return worded{"no quorum: a majority of the nodes did not answer in time", err}
	case err != nil:
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
	err = k.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(at.String())).Error()
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
