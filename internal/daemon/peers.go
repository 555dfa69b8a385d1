package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"pen/cluster"
	"pen/internal/config"
)

// takeList takes over what a node's file says otherwise about who is in the
// cluster: peers and preempt. All else that the file says about the cluster counts
// from the next start, and so does what this node itself can not become while it
// runs. Told is about that, for who asked.
func (m *member) takeList(file config.Membership) (told []string, err error) {
	m.change.Lock()
	defer m.change.Unlock()
	now := *m.local.Load()
	if words := now.Differs(file); !slices.Contains(words, "peers") && !slices.Contains(words, "preempt") {
		return nil, nil
	}
	peers, told := m.adapt(file.Peers)
	if err := m.node.SetPeers(peersOf(peers), file.Preempt); err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	m.log.Info("peers taken over", "peers", file.Peers, "preempt", file.Preempt, "before", now.Peers)
	now.Membership = followed(now.Membership, file)
	m.adopt(now)
	return told, nil
}

// followed is what counts after a reload. What a node does without a majority goes
// with a new list: the rule of the old one may be an error there.
func followed(now, file config.Membership) config.Membership {
	if slices.Contains(now.Differs(file), "peers") {
		now.QuorumLoss = file.QuorumLoss
	}
	now.Peers, now.Preempt = file.Peers, file.Preempt
	return now
}

// adapt is a list as far as this process can follow it.
func (m *member) adapt(peers []config.Peer) (all []config.Peer, told []string) {
	all = slices.Clone(peers)
	i := slices.IndexFunc(all, func(p config.Peer) bool { return p.Addr == m.self.Addr })
	switch {
	case i < 0:
		told = append(told, fmt.Sprintf("peers: %s, this node's own address, is not among them: another address of its own counts when pen is started again; "+
			"if it is to leave, reload the others, then stop pen here", m.self.Addr.Addr()))
	case m.self.Witness && !all[i].Witness:
		all[i].Witness = true
		told = append(told, "peers: this node stays a witness until pen is started again")
	}
	return all, told
}

func peersOf(peers []config.Peer) (all []cluster.Peer) {
	for _, p := range peers {
		all = append(all, cluster.Peer(p))
	}
	return all
}

// examineList tells why the list of a file, with the rule that the file has for it,
// can not be taken: a start would refuse it, and it is not the one that counts already.
func (m *member) examineList(plan *config.Plan) error {
	now, file := *m.local.Load(), plan.Local.Membership
	if !slices.Contains(now.Differs(file), "peers") && now.QuorumLoss == file.QuorumLoss {
		return nil
	}
	then := now
	then.Membership = followed(now.Membership, file)
	then.QuorumLoss = file.QuorumLoss // also where it waits for a start
	known := mistakes(plan.View, now)
	var errs []error
	for _, what := range mistakes(plan.View, then) {
		// Where this node will be is for the next start to find out.
		if !slices.Contains(known, what) && !strings.HasPrefix(what, "self ") {
			errs = append(errs, errors.New(what))
		}
	}
	return errors.Join(errs...)
}
