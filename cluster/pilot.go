package cluster

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// pilot does what only a leader does, for as long as this node is it: it keeps
// raft's configuration to the list, and gives the address away if this node can
// not hold it.
func (n *Node) pilot(ctx context.Context, k *core) {
	tick := time.NewTicker(max(n.cfg.Heartbeat/2, 50*time.Millisecond))
	defer tick.Stop()
	var brought bool
	var give giver
	for {
		n.keepLevel()
		changed, lease, view := n.Changed(), k.elector.watchLease(), n.Watch()
		o := n.note()
		n.gossip.SetMeta(Meta{Version: n.cfg.Version, Digest: n.digest.Load(), Applied: o.Applied, Eligible: o.Eligible, Reason: o.Why})
		if k.raft.State() == raft.Leader {
			if !brought && n.bring != nil {
				brought = n.bringState(k)
			}
			if n.fsm.bytes.Load() > 32<<20 {
				_ = k.raft.Snapshot().Error() // it is tried again, and raft logs it
			}
			give.look(ctx, n, k)
			n.configure(ctx, k)
			n.raise(ctx, k)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-changed: // who is eligible, for one
		case <-view: // who is drained
		case <-lease:
		}
	}
}

// giver remembers what a leader has tried in order to give the address away.
type giver struct {
	better string // who has a better priority, and since when
	since  time.Time
	pause  time.Time            // nothing is given away before
	failed map[string]time.Time // who did not take it, and until when it is not asked again; another need not wait
}

// look gives the address away if another should have it. A leader that can not
// hold it does so at once: nobody has it meanwhile.
func (g *giver) look(ctx context.Context, n *Node, k *core) {
	// What is not applied yet may say that this node is not drained any more.
	if l := n.Lease(); !l.Valid || !l.Current {
		return
	}
	to := n.best(k)
	ok, why := n.serves(k.id)
	if g.court(time.Now(), n.suitor(to, k), n.list.Load().preempt) && ok {
		ok, why = false, "another has a better priority"
	}
	if ok && n.roster(k).leaves() {
		ok, why = false, "not listed any more"
	}
	if ok {
		return
	}
	serves, _ := n.serves(k.id)
	if to = g.heir(time.Now(), to, serves, func() string { return n.bestBut(k, g.waits) }); to == "" {
		return
	}
	n.log.Info("giving the address away", "reason", why, "member", n.label(to))
	if err := n.giveTo(ctx, k, to, why); err != nil {
		n.log.Warn("the address stays here", "reason", why, "err", err)
		g.fail(to, time.Now().Add(max(time.Second, 2*n.cfg.Heartbeat)))
		return
	}
	// It may be back at once, when there is nobody else who can have it.
	g.failed, g.pause = nil, time.Now().Add(n.cfg.Heartbeat/2)
}

// heir is who gets the address now, if it is to be the best one and has to be
// given away; empty: nobody yet. Who did not take it a moment ago is asked again after
// a pause. A leader that can not hold the address does not wait for that one while
// there is another: nobody has the address meanwhile.
func (g *giver) heir(now time.Time, best string, serves bool, another func() string) string {
	switch {
	case now.Before(g.pause):
		return ""
	case !g.waits(best, now):
		return best
	case serves:
		return ""
	}
	return another()
}

func (g *giver) fail(id string, until time.Time) {
	if g.failed == nil {
		g.failed = map[string]time.Time{}
	}
	g.failed[id] = until
}

// waits tells whether a node did not take the address a moment ago.
func (g *giver) waits(id string, now time.Time) bool { return now.Before(g.failed[id]) }

// bringState makes the state of the single node that this one was the cluster's.
// A process that dies before that does it when it leads again.
func (n *Node) bringState(k *core) bool {
	n.mu.Lock()
	founded := n.founded
	n.mu.Unlock()
	if !founded {
		return true
	}
	if n.machine.View().Index == 0 {
		err := k.raft.Restore(&raft.SnapshotMeta{Version: 1, Size: int64(len(n.bring.bytes))}, io.NopCloser(bytes.NewReader(n.bring.bytes)), 10*time.Second)
		if err != nil {
			n.log.Error("the state of the single node is not in the cluster yet", "err", err)
			return false
		}
		n.log.Info("the state of the single node is the cluster's now", "state", n.bring.what)
	}
	if err := n.former.keep(func(p *papers) { p.Brings = false }); err != nil {
		n.log.Warn("the papers of this node are not up to date", "err", err)
	}
	return true
}

// serves tells whether a node could hold the address, and why not.
func (n *Node) serves(id string) (bool, string) {
	if n.View().Drained(id) {
		return false, "drained"
	}
	if k := n.core.Load(); k != nil && id == k.id {
		o := n.note()
		return o.Eligible, o.Why
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.notes[idOf(raft.ServerID(id))]
	switch {
	case !ok || !n.alive(h.hello.Node, h.at):
		return false, "it does not answer"
	case h.hello.Witness:
		return false, "witness"
	}
	return h.Eligible, h.Why
}

// heirLag is how many entries an heir may be behind: it has to get them before
// it can lead, and nobody has the address meanwhile.
const heirLag = 1024

// best is the node that should have the address if this one should not: of those
// that can take it over at once the one of the best rank.
func (n *Node) best(k *core) string {
	return n.bestBut(k, func(string, time.Time) bool { return false })
}

// bestBut is the best one of those that are not to be left alone now.
func (n *Node) bestBut(k *core, not func(id string, now time.Time) bool) string {
	type candidate struct {
		id   string
		slow int // 1: it is far behind, or there is no connection to it now
		rank rank
	}
	last := k.raft.LastIndex()
	var all []candidate
	for _, id := range voters(k.raft) {
		if ok, _ := n.serves(id); ok && id != k.id && !not(id, time.Now()) {
			n.mu.Lock()
			h := n.notes[idOf(raft.ServerID(id))]
			n.mu.Unlock()
			slow := 0
			if h.Applied+heirLag < last || !k.links.connected(id) {
				slow = 1
			}
			all = append(all, candidate{id, slow, rank{h.hello.Witness, int(h.hello.Priority)}})
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.slow, b.slow), a.rank.compare(b.rank), cmp.Compare(a.id, b.id))
	})
	return all[0].id
}
