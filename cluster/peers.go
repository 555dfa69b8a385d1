package cluster

import (
	"errors"
	"net/netip"
	"slices"
	"time"
)

// list is who is in the cluster, as this node's settings say.
type list struct {
	peers   []Peer
	self    Peer // as it counts now, listed or not
	preempt time.Duration
}

// errNotFormed says that the list can not be changed yet: it decides who forms
// the cluster, and two lists might form two.
var errNotFormed = errors.New("this node is not part of a cluster yet, and the list that it was started with is the one that it forms it by")

// SetPeers replaces Config.Peers and Config.Preempt while the node runs. The lease
// is not touched. This node's own address stays what it is, also if it is not
// listed any more; its priority and whether it is a witness follow the list.
//
// Raft's members follow the list of the node that leads, see Node.configure. It
// is an error before the node is part of a cluster; nothing has changed then.
func (n *Node) SetPeers(peers []Peer, preempt time.Duration) error {
	k := n.core.Load()
	if k == nil {
		return errNotFormed
	}
	now := &list{peers: slices.Clone(peers), self: n.list.Load().self, preempt: preempt}
	var addrs []netip.Addr
	var ends []netip.AddrPort
	for _, p := range peers {
		addrs, ends = append(addrs, p.Addr.Addr()), append(ends, p.Addr)
		if p.Addr == n.cfg.Self {
			now.self = p
		}
	}
	n.list.Store(now)
	n.wire.setPeers(append(addrs, n.cfg.Self.Addr()), int32(now.self.Priority), now.self.Witness)
	n.gossip.setPeers(ends)
	k.elector.setRank(rank{now.self.Witness, now.self.Priority})
	k.links.look()
	k.links.announce()
	n.tell()
	return nil
}

// setPeers says who is expected from now on, and what of this node's hello
// follows the list. Streams that stand keep the hello that they began with.
func (w *Wire) setPeers(peers []netip.Addr, priority int32, witness bool) {
	known := knownOf(peers)
	w.known.Store(&known)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hello.Priority, w.hello.Witness = priority, witness
}

// knownOf is a set of the addresses as connections have them.
func knownOf(peers []netip.Addr) map[netip.Addr]bool {
	known := map[netip.Addr]bool{}
	for _, p := range peers {
		known[p.Unmap().WithZone("")] = true
	}
	return known
}

// expects tells whether an address is one of a peer.
func (w *Wire) expects(a netip.Addr) bool { return (*w.known.Load())[a] }

// setPeers says who is called from now on.
func (g *Gossip) setPeers(peers []netip.AddrPort) {
	unmapped := unmap(peers)
	g.mu.Lock()
	g.peers = unmapped
	g.mu.Unlock()
	g.wake()
}

// listed are the peers as they are now.
func (g *Gossip) listed() []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.peers
}

func unmap(peers []netip.AddrPort) (all []netip.AddrPort) {
	for _, p := range peers {
		all = append(all, netip.AddrPortFrom(p.Addr().Unmap(), p.Port()))
	}
	return all
}

// setRank says how this node stands among those that could lead.
func (e *elector) setRank(r rank) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rank = r
	e.nudge()
}

func (e *elector) ownRank() rank {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rank
}
