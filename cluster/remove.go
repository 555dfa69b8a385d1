package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// removal tells a node that it is no member any more.
type removal struct {
	By string `json:"by"`
}

// Remove takes a node, by name, id or address, out of the cluster now. By is who
// wants it, for the record. Any node can be asked. One that leads hands over
// first. It is an error, unless force is set, if those who are heard would be no
// majority of the voters that are left.
//
// A node that is still listed comes back when it is started again or, where it
// did not hear of its removal, when it is heard again.
func (n *Node) Remove(ctx context.Context, by, node string, force bool) error {
	k := n.core.Load()
	if k == nil {
		return errors.New("remove: this node is not part of a cluster yet")
	}
	m, err := n.find(node)
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	end := time.Now().Add(proposeTime)
	for {
		again, err := n.tryRemove(ctx, k, m.ID, by, force)
		switch {
		case err == nil:
			return nil
		case !again || time.Now().After(end):
			return fmt.Errorf("remove %s: %w", m.label(), n.whyNobody(err))
		}
		select {
		case <-time.After(leaderPause):
		case <-ctx.Done():
			return fmt.Errorf("remove %s: %w", m.label(), n.whyNobody(err))
		case <-n.down:
			return fmt.Errorf("remove %s: %w", m.label(), errStopping)
		}
	}
}

// tryRemove asks whoever leads now. Again tells that nothing was done.
func (n *Node) tryRemove(ctx context.Context, k *core, who ID, by string, force bool) (again bool, err error) {
	addr, leader := k.raft.LeaderWithID()
	switch {
	case leader == "":
		return true, ErrNoLeader
	case string(leader) == who.String():
		if err := n.Transfer(ctx, ""); err != nil {
			return false, fmt.Errorf("it leads, and nobody takes over: %w", err)
		}
		return true, errNotLeading
	case string(leader) == k.id:
		err := n.expel(ctx, k, who, by, force)
		return errors.Is(err, errNotLeading), err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	r, sent, err := n.carry(ctx, string(leader), addr, change{Remove: true, To: who.String(), By: by, Force: force}, nil)
	switch {
	case err != nil:
		return !sent, err
	case !r.Done:
		return r.Again, errors.New(r.Err)
	}
	return false, nil
}

// expel is Remove for a leader.
func (n *Node) expel(ctx context.Context, k *core, who ID, by string, force bool) error {
	if k.raft.State() != raft.Leader {
		return errNotLeading
	}
	r := n.roster(k)
	i := r.server(who.String())
	voters, living := r.without(raft.ServerID(who.String()))
	switch {
	case i < 0:
		return errors.New("it is not part of the cluster")
	case who.String() == k.id:
		return errors.New("it leads: transfer first")
	case voters == 0:
		return errors.New("it is the only one that votes")
	case r.servers[i].Suffrage == raft.Voter && !r.safeWithout(r.servers[i].ID) && !force:
		return fmt.Errorf("of the %d voters that would be left %d are heard, which is no majority, and nobody would hold the address; force does it nevertheless", voters, living)
	}
	n.mu.Lock()
	if len(n.out) >= nodesMax {
		clear(n.out) // who is still out says so itself
	}
	before, was := n.out[who]
	n.out[who] = n.notes[who].hello.Boot
	n.mu.Unlock()
	if err := outcome(ctx, n.down, k.raft.RemoveServer(r.servers[i].ID, 0, proposeTime)); err != nil {
		n.mu.Lock()
		delete(n.out, who)
		if was {
			n.out[who] = before
		}
		n.mu.Unlock()
		if errors.Is(err, raft.ErrNotLeader) {
			return errNotLeading
		}
		return errors.New(plainly(err))
	}
	n.log.Warn("member removed", "member", n.label(who.String()), "id", who, "by", by)
	k.links.remove(ctx, who.String(), removal{By: by})
	n.tell()
	return nil
}

// remove tells a node that it was removed, if there is a link to it.
func (l *links) remove(ctx context.Context, id string, r removal) {
	l.mu.Lock()
	k := l.byID[id]
	l.mu.Unlock()
	if k == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.elector.hb)
	defer cancel()
	_, _ = l.call(ctx, k, message{Removed: &r}) // who does not hear it comes back
}

// expelled notes that this node was removed.
func (n *Node) expelled(r removal) {
	by := shorten(clean(r.By), reasonMax)
	if by == "" {
		by = "another node"
	}
	n.mu.Lock()
	was := n.outBy
	n.outBy = by
	n.mu.Unlock()
	if was != "" {
		return
	}
	n.log.Warn("this node was removed from the cluster; it takes part again when it is started again and listed, otherwise stop it", "by", by)
	if k := n.core.Load(); k != nil {
		k.links.announce()
	}
	n.tell()
}

// tellOut says of those who are absent that they were removed.
func (n *Node) tellOut(members []MemberStatus) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range members {
		m := &members[i]
		by := n.notes[m.ID].Out
		if m.Self {
			by = n.outBy
		}
		if m.Role == roleAbsent && by != "" {
			m.Why = removedBy(by)
		}
	}
}

func removedBy(by string) string {
	return "removed by " + by + "; it takes part again when it is started again"
}
