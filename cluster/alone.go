package cluster

import (
	"errors"
	"net/netip"
	"time"

	"github.com/hashicorp/raft"
)

// alone is Alone on the wire.
type alone struct {
	SinceMS   int64  `json:"since_ms"` // so long ago
	Term      uint64 `json:"term"`
	Incumbent bool   `json:"incumbent,omitempty"`
	Gateway   bool   `json:"gateway,omitempty"`
}

func (a Alone) pack(now time.Time) *alone {
	if a == (Alone{}) {
		return nil
	}
	return &alone{SinceMS: max(now.Sub(a.Since).Milliseconds(), 1), Term: a.Term, Incumbent: a.Incumbent, Gateway: a.Gateway}
}

func (a *alone) unpack(at time.Time) *Alone {
	if a == nil {
		return nil
	}
	age := time.Duration(min(max(a.SinceMS, 0), agesMax.Milliseconds())) * time.Millisecond
	return &Alone{Since: at.Add(-age), Term: a.Term, Incumbent: a.Incumbent, Gateway: a.Gateway}
}

// errFallen answers a leader whose word this node can not acknowledge.
var errFallen = errors.New("this node holds the address without a quorum")

// HoldAlone begins or ends to hold the address without a quorum. While it lasts
// nothing of this node helps another to lead. It reports whether it is so now: it
// can not begin while another may have a lease, or may have been elected just now.
// It may end only when the address is gone from this node, or this node has a lease.
func (n *Node) HoldAlone(on bool) bool {
	k := n.core.Load()
	if k == nil || on && n.behind() != "" {
		return !on
	}
	return k.elector.holdAlone(on)
}

func (e *elector) holdAlone(on bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if on {
		return e.rules.fall(time.Now())
	}
	if e.rules.fallen {
		e.rules.rise()
		e.wanted = time.Time{}
		e.opened()
	}
	return true
}

func (e *elector) isFallen() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rules.fallen
}

// precedes tells whether another node comes before this one.
func (e *elector) precedes(id string, r rank) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.before(id, r)
}

// touch notes that another node spoke to raft here.
func (e *elector) touch(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.spoke[id] = time.Now()
}

// yields waits, for a node that needs this one's vote, until this node does not
// hold alone. Only one that knows more can lead instead of this node; the others
// hear no at once, for this node to stand.
func (e *elector) yields(term, index uint64, down <-chan struct{}) bool {
	r := e.raft.Load()
	start := time.Now()
	for {
		e.mu.Lock()
		fallen, wake := e.rules.fallen, e.wake
		e.mu.Unlock()
		if !fallen {
			return true
		}
		if r == nil {
			return false
		}
		mine, last := reach(r)
		if last > term || last == term && mine >= index || time.Since(start) >= 2*e.hb {
			return false
		}
		e.mu.Lock()
		e.wanted = time.Now()
		e.mu.Unlock()
		timer := time.NewTimer(2 * e.hb)
		select {
		case <-timer.C:
		case <-wake:
		case <-down:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// reachOf is how far the log of one reaches who wants to be elected.
func reachOf(command any) (term, index uint64) {
	switch q := command.(type) {
	case *raft.RequestVoteRequest:
		return q.LastLogTerm, q.LastLogIndex
	case *raft.RequestPreVoteRequest:
		return q.LastLogTerm, q.LastLogIndex
	}
	return 0, 0
}

// SetAlone says what the others should hear of this node while it holds without
// a quorum; the zero value when it does not. They hear it at once.
func (n *Node) SetAlone(a Alone) {
	k := n.core.Load()
	n.mu.Lock()
	same := n.alone == a
	if k != nil && n.alone == (Alone{}) && !same && !a.Incumbent {
		n.noteTaken(k.id, a)
	}
	n.alone = a
	n.mu.Unlock()
	if k != nil && !same {
		k.links.announce()
	}
}

// SetFalls says whether this node would hold without a quorum. Who leads gives no
// third node a vote before that is over, since two could agree without this one.
func (n *Node) SetFalls(falls bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.falls = falls
}

// Sighting tells what this node knows of the other one of a pair.
func (n *Node) Sighting() Sighting {
	k := n.core.Load()
	if k == nil {
		return Sighting{}
	}
	all := voters(k.raft)
	other := ""
	for _, id := range all {
		if id != k.id {
			other = id
		}
	}
	s := Sighting{Pair: len(all) == 2 && other != "" && (all[0] == k.id || all[1] == k.id)}
	if s.Pair = s.Pair && n.behind() == ""; !s.Pair {
		return s
	}
	_, leader := k.raft.LeaderWithID()
	s.Leader = leader != "" && string(leader) != k.id
	id := idOf(raft.ServerID(other))
	last, now := n.born, time.Now()
	heard := func(at time.Time, path string) {
		if at.After(n.born) && !at.Before(last) {
			last, s.Path = at, path
		}
	}
	n.mu.Lock()
	h, known := n.notes[id]
	n.mu.Unlock()
	if known {
		heard(h.at, "the cluster's port")
		s.Before = k.elector.precedes(other, rank{h.hello.Witness, int(h.hello.Priority)})
		if fresh := now.Sub(h.at) < 3*noteEvery; fresh {
			s.Rival, s.Leased = h.Alone.unpack(h.at), h.Leased
		}
	} else {
		s.Before = other < k.id
	}
	if at, ok := n.placeOf(k, other); ok {
		heard(n.wire.packetFrom(at), "gossip")
	}
	k.elector.mu.Lock()
	spoke, wanted := k.elector.spoke[other], k.elector.wanted
	k.elector.mu.Unlock()
	heard(spoke, "agreement")
	s.Silence = now.Sub(last)
	s.Wanted = !wanted.IsZero() && now.Sub(wanted) < 2*n.cfg.Heartbeat
	return s
}

// placeOf is the address of a node: the newest, or that of raft's configuration.
func (n *Node) placeOf(k *core, id string) (netip.AddrPort, bool) {
	if at, ok := n.where(id); ok {
		return at, true
	}
	for _, s := range k.raft.GetConfiguration().Configuration().Servers {
		if string(s.ID) == id {
			at, err := netip.ParseAddrPort(string(s.Address))
			return at, err == nil
		}
	}
	return netip.AddrPort{}, false
}

// packeted notes a packet that has the key. Only expected addresses are remembered.
func (w *Wire) packeted(from netip.AddrPort) {
	if !w.expects(from.Addr()) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.packets[from]; ok || len(w.packets) < nodesMax {
		w.packets[from] = time.Now()
	}
}

func (w *Wire) packetFrom(a netip.AddrPort) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.packets[a]
}
