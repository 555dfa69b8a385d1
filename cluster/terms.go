package cluster

// ID is this node's id, as the state knows it.
func (n *Node) ID() string { return n.former.now().Node.String() }

// Leader is who leads as far as this node knows, and the newest term that it
// knows of. During an election that is nobody.
func (n *Node) Leader() (id string, term uint64) {
	k := n.core.Load()
	if k == nil {
		return "", 0
	}
	_, leader := k.raft.LeaderWithID()
	return string(leader), k.raft.CurrentTerm()
}

// Behind is how many entries are agreed on and not applied here.
func (n *Node) Behind() uint64 {
	k := n.core.Load()
	if k == nil {
		return 0
	}
	agreed, applied := k.raft.CommitIndex(), k.raft.AppliedIndex()
	return max(agreed, applied) - applied
}

// Brought tells that this node has founded the cluster just now, with the state
// of the single node that it was. See Formed.
func (n *Node) Brought() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.founded && n.bring != nil
}

// RefusedTotal counts those who were not let in since the start.
func (n *Node) RefusedTotal() (all uint64) {
	for _, count := range n.wire.RefusedTotal() {
		all += count
	}
	return all
}
