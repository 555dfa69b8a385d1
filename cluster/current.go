package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// Current returns a channel that is closed when this node has applied everything
// that the cluster had agreed on when this process joined it or came back. Before
// that, also after Formed, View may be older: what is in the log and not in a
// snapshot is applied only when a leader says that it was agreed on.
func (n *Node) Current() <-chan struct{} { return n.current }

func (n *Node) isCurrent() bool {
	select {
	case <-n.current:
		return true
	default:
		return false
	}
}

// catchUps does so in each term that this node leads: at once, as the holder
// serves nobody before.
func (n *Node) catchUps(ctx context.Context, k *core) {
	tick := time.NewTicker(n.cfg.Heartbeat / 4)
	defer tick.Stop()
	for {
		select {
		case <-n.led:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if k.raft.State() == raft.Leader {
			n.catchUp(ctx, k)
		}
	}
}

// catchUp lets a new leader apply what those before it have left. Then it knows
// how far that is, and tells the others.
func (n *Node) catchUp(ctx context.Context, k *core) {
	term := k.raft.CurrentTerm()
	n.mu.Lock()
	done := n.lead.Applied > 0 || n.lead.Term != term
	n.mu.Unlock()
	if done || outcome(ctx, n.down, k.raft.Barrier(time.Second)) != nil || k.raft.State() != raft.Leader {
		return // it is tried again
	}
	n.mu.Lock()
	if n.lead.Term == term {
		n.lead.Applied = max(n.fsm.last(), 1)
	}
	n.mu.Unlock()
	n.nowCurrent()
	n.tell()
	k.links.announce()
}

// follow notes how far a leader had got when it was heard.
func (n *Node) follow(entry uint64) {
	if n.isCurrent() {
		return
	}
	if ok, _ := n.fsm.reached(entry); ok || entry == 1 {
		n.nowCurrent()
	}
}

func (n *Node) nowCurrent() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.isCurrent() {
		close(n.current)
	}
}
