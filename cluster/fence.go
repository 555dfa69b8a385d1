package cluster

import "fmt"

// overtaken notes that a peer belongs to a later generation of this node's
// cluster: it was recovered without this node, which holds nothing from now on,
// also after a restart and with whatever majority.
func (n *Node) overtaken(peer Hello) {
	p := n.former.now()
	if peer.Formation != p.Formation || peer.Generation <= max(p.Generation, p.Overtaken) {
		return
	}
	if err := n.former.keep(func(p *papers) { p.Overtaken = peer.Generation }); err != nil {
		n.log.Warn("the papers of this node are not up to date", "err", err)
	}
	if n.later.Swap(peer.Generation) >= peer.Generation {
		return
	}
	n.log.Error("the cluster was recovered without this node, which holds no address any more: stop pen here, remove "+wipe+", start it again",
		"generation", ordinal(p.Generation), "recovered", ordinal(peer.Generation), "member", peer.Name, "addr", peer.Addr)
	n.tell()
	if k := n.core.Load(); k != nil {
		k.links.announce()
	}
}

// behind tells why this node holds nothing: the cluster is another one by now.
func (n *Node) behind() string {
	later := n.later.Load()
	if later == 0 {
		return ""
	}
	return fmt.Sprintf("the cluster was recovered without it, generation %d: remove %s, start it again", ordinal(later), wipe)
}
