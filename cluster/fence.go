package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// overtaken notes that a peer belongs to a later generation of this node's
// cluster: it was recovered without this node, which holds nothing from now on,
// also after a restart and with whatever majority.
//
// A node that was never a member has nothing that others could not agree with: it
// takes up the later generation instead.
func (n *Node) overtaken(peer Hello) {
	p := n.former.now()
	if peer.Formation != p.Formation || peer.Generation <= max(p.Generation, n.later.Load()) {
		return
	}
	news := false
	err := n.former.keep(func(p *papers) {
		if news = peer.Generation > max(p.Generation, n.later.Load()); news {
			p.Overtaken = peer.Generation
			n.later.Store(peer.Generation)
		}
	})
	if err != nil {
		n.log.Warn("the papers of this node are not up to date", "err", err)
	}
	if !news {
		return
	}
	if n.blank() {
		select {
		case n.afresh <- struct{}{}:
		default: // one look does for both
		}
		return
	}
	n.log.Error("the cluster was recovered without this node, which holds no address any more: stop pen here, remove "+wipe+", start it again",
		"generation", ordinal(p.Generation), "recovered", ordinal(peer.Generation), "member", peer.Name, "addr", peer.Addr)
	n.tell()
	if k := n.core.Load(); k != nil {
		k.links.announce()
	}
}

// blank tells whether this node is part of a cluster only by its papers: it has
// adopted a formation, and nobody has sent it anything, and it has not voted.
func (n *Node) blank() bool {
	p := n.former.now()
	has, err := raft.HasExistingState(n.logs, n.logs, n.snaps)
	return err == nil && !has && !p.Found && !p.Brings && !p.Recover
}

// takeUp makes a node that was never a member one of the generation that has
// overtaken it. Raft does not run, so that nothing of the one before can arrive.
func (n *Node) takeUp() error {
	if n.later.Load() == 0 || !n.blank() {
		return nil
	}
	err := n.former.keep(func(p *papers) {
		p.Generation, p.Overtaken = n.later.Load(), 0
		n.later.Store(0)
	})
	if err != nil {
		return err
	}
	p := n.former.now()
	n.log.Info("joining the cluster as it was recovered", "formation", p.Formation, "generation", ordinal(p.Generation))
	n.wire.SetFormation(p.Formation, p.Generation)
	return nil
}

// behind tells why this node holds nothing: the cluster is another one by now.
func (n *Node) behind() string {
	later := n.later.Load()
	if later == 0 {
		return ""
	}
	return fmt.Sprintf("the cluster was recovered without it, generation %d: remove %s, start it again", ordinal(later), wipe)
}

// leftBehind is why this node takes no change. Nil: it was not left behind.
func (n *Node) leftBehind() error {
	if why := n.behind(); why != "" {
		return errors.New("this node is not part of the cluster: " + why)
	}
	return nil
}
