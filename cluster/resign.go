package cluster

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// diskLook is how often the disk is looked at.
	diskLook = 100 * time.Millisecond
	// diskProbe is how long nothing may have been written until something is.
	diskProbe = 2 * time.Second
)

// DiskFault is why this node counts as one without a disk: what it has to keep
// could not be written for two seconds, or there is no room for more. Nil: all is
// well. The node finds out by itself when that is over.
func (n *Node) DiskFault() error {
	if f := n.health.fault(time.Now()); f != nil {
		return f
	}
	return nil
}

// Alternative tells whether another node could hold the address now.
func (n *Node) Alternative() bool {
	k := n.core.Load()
	return k != nil && n.best(k) != ""
}

// Accompanied tells whether another node is there that could hold the address at
// some time: whether it can now does not matter.
func (n *Node) Accompanied() bool {
	k := n.core.Load()
	return k != nil && slices.ContainsFunc(voters(k.raft), func(id string) bool {
		return id != k.id && !n.View().Drained(id) && n.heardAsHolder(id)
	})
}

// heardAsHolder tells whether a node is there that is no witness.
func (n *Node) heardAsHolder(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.notes[idOf(raft.ServerID(id))]
	return ok && n.alive(h.hello.Node, h.at) && !h.hello.Witness
}

// watchDisk tells others about the disk, and gives the address away when raft
// waits for it: until then nothing can be agreed on, and at the next loss of a node
// maybe nobody could lead.
func (n *Node) watchDisk(ctx context.Context, k *core) {
	probing := make(chan struct{})
	go func() { // it is not waited for: the kernel may not give it back
		defer close(probing)
		n.probeDisk(ctx)
	}()
	tick := time.NewTicker(diskLook)
	defer tick.Stop()
	n.health.watch(time.Now())
	defer n.health.unwatch()
	was := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f, now := n.health.fault(time.Now()), ""
		if f != nil {
			now = f.text
		}
		if now != was {
			if was = now; f != nil {
				n.log.Error("this node counts as one without a disk", "reason", f.text)
			}
			k.links.announce()
			n.tell()
		}
		if f != nil && f.blocked {
			n.resign(ctx, k, f)
		}
	}
}

func (n *Node) probeDisk(ctx context.Context) {
	tick := time.NewTicker(diskProbe / 2)
	defer tick.Stop()
	for {
		n.health.probe(n.archive.disk, filepath.Join(n.archive.dir, probeName), diskProbe)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// resign gives the lease away without raft, which stands still. The address is
// released as in a transfer; then the others elect the heir, who stands at the word
// that it is free, without this node's vote. This node says nothing any more in the
// term: its heartbeats would keep the others waiting if the heir failed. Raft here
// learns of it when the disk works again, and follows.
//
// Without a majority beside this node, or an heir, it stays as it is: the address is
// better held by a node that can agree on nothing than by none.
func (n *Node) resign(ctx context.Context, k *core, f *diskFault) {
	l := n.Lease()
	if k.raft.State() != raft.Leader || !l.Valid && !l.Handing || l.Term <= k.trans.muted.Load() {
		return
	}
	all := voters(k.raft)
	if !enough(len(all), n.ableVoters(k, all)) {
		return
	}
	to := n.best(k)
	if to == "" {
		return
	}
	term := l.Term
	n.log.Warn("resigning, as nothing can be written here", "reason", f.text, "member", n.label(to), "term", term)
	w := releasedTerm{Term: term, Heir: to, Why: MoveTransfer + ": " + f.text}
	n.mu.Lock()
	clear(n.heir)
	n.heir[term] = w
	n.mu.Unlock()
	if until, ok := k.elector.hand(term); ok {
		n.tell()
		if k.elector.awaitRelease(ctx, term, until) != nil {
			return
		}
	}
	k.elector.released(w, false)
	k.trans.mute(term)
	k.links.released(w)
	n.tell()
}

// enough tells whether so many others can elect a leader without this node.
func enough(voters, able int) bool { return able >= voters/2+1 }

// ableVoters counts the other voters that answer and whose disk works.
func (n *Node) ableVoters(k *core, all []string) (able int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range all {
		h, ok := n.notes[idOf(raft.ServerID(id))]
		if id != k.id && ok && !h.Broken && n.alive(h.hello.Node, h.at) && k.links.connected(id) {
			able++
		}
	}
	return able
}
