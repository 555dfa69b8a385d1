package cluster

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// note is what a node says of itself now and then, and at once when something
// of it changes. What is missing was said by an older version.
type note struct {
	Applied  uint64 `json:"applied"`
	Eligible bool   `json:"eligible"`
	Why      string `json:"why,omitempty"`
	Leased   bool   `json:"leased,omitempty"` // its lease is valid
	Rank     *rank  `json:"rank,omitempty"`   // newer than that of its hello
	Out      string `json:"out,omitempty"`    // it was removed, and by whom
	Broken   bool   `json:"broken,omitempty"` // raft there waits for its disk: it can not vote
	Lead     *lead  `json:"lead,omitempty"`   // of a leader
	Facts    *facts `json:"facts,omitempty"`
	Alone    *alone `json:"alone,omitempty"` // it holds the address without a quorum
	Falls    bool   `json:"falls,omitempty"` // it would, when it hears nobody
}

// Facts is what the holder of the address says of itself for the status of all
// nodes.
type Facts struct {
	Holding         bool          // it answers for the address
	Since           time.Time     // when that last changed
	Unreplicated    int           // clients that the others do not know yet
	UnreplicatedAge time.Duration // how long the oldest of them has waited
}

// facts is Facts on the wire: clocks differ, so times are ages.
type facts struct {
	Holding        bool  `json:"holding,omitempty"`
	SinceMS        int64 `json:"since_ms,omitempty"` // so long ago
	Unreplicated   int64 `json:"unreplicated,omitempty"`
	UnreplicatedMS int64 `json:"unreplicated_ms,omitempty"`
}

// agesMax bounds what others can claim: a year is more than any age of use.
const agesMax = 365 * 24 * time.Hour

func (f Facts) pack(now time.Time) *facts {
	if f == (Facts{}) {
		return nil
	}
	o := &facts{Holding: f.Holding, Unreplicated: int64(f.Unreplicated), UnreplicatedMS: f.UnreplicatedAge.Milliseconds()}
	if !f.Since.IsZero() {
		o.SinceMS = max(now.Sub(f.Since).Milliseconds(), 1)
	}
	return o
}

// unpack reads what a node has said, at the time at which it was heard.
func (f *facts) unpack(at time.Time) Facts {
	if f == nil {
		return Facts{}
	}
	age := func(ms int64) time.Duration {
		return time.Duration(min(max(ms, 0), agesMax.Milliseconds())) * time.Millisecond
	}
	o := Facts{Holding: f.Holding, Unreplicated: int(min(max(f.Unreplicated, 0), 1<<31-1)), UnreplicatedAge: age(f.UnreplicatedMS)}
	if f.SinceMS > 0 {
		o.Since = at.Add(-age(f.SinceMS))
	}
	return o
}

// heardNote is what another node has said, and when this one heard it.
type heardNote struct {
	note
	hello Hello
	at    time.Time
	ready time.Time // since when it has said without a break that it could hold the address; zero: it does not
}

// SetFacts says what the others should show of this node. Whether it holds the
// address they hear at once, the figures within half a second.
func (n *Node) SetFacts(f Facts) {
	n.mu.Lock()
	turned := n.facts.Holding != f.Holding
	n.facts = f
	n.mu.Unlock()
	if k := n.core.Load(); k != nil && turned {
		k.links.announce()
	}
}

// where returns the newest address of a node.
func (n *Node) where(id string) (netip.AddrPort, bool) {
	node, err := ParseID(id)
	if err != nil {
		return netip.AddrPort{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.notes[node]
	return h.hello.Addr, ok && h.hello.Addr.IsValid()
}

// others are the addresses to be connected with.
func (n *Node) others() []netip.AddrPort {
	var all []netip.AddrPort
	add := func(a netip.AddrPort) {
		if a.IsValid() && a != n.cfg.Self && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	for _, p := range n.list.Load().peers {
		add(p.Addr)
	}
	if k := n.core.Load(); k != nil {
		for _, s := range k.raft.GetConfiguration().Configuration().Servers {
			if a, ok := n.where(string(s.ID)); ok {
				add(a)
			} else if a, err := netip.ParseAddrPort(string(s.Address)); err == nil {
				add(a)
			}
		}
	}
	return all
}

// note is what this node says of itself.
func (n *Node) note() note {
	k := n.core.Load()
	self := n.list.Load().self
	o := note{Rank: &rank{self.Witness, self.Priority}}
	leads := false
	if k != nil {
		o.Applied, o.Leased = k.raft.AppliedIndex(), k.elector.lease().Valid
		leads = k.raft.State() == raft.Leader
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o.Alone, o.Falls = n.alone.pack(time.Now()), n.falls
	o.Out = n.outBy
	o.Eligible, o.Why, o.Facts = n.eligible && !self.Witness, shorten(n.why, reasonMax), n.facts.pack(time.Now())
	if self.Witness {
		o.Why = "witness"
	}
	if why := n.behind(); why != "" {
		o.Eligible, o.Why = false, why
	}
	if f := n.health.fault(time.Now()); f != nil {
		o.Eligible, o.Why, o.Broken = false, shorten(f.text, reasonMax), f.blocked
	}
	if leads && n.lead.Term > 0 {
		l := n.lead
		l.AgoMS = time.Since(l.since).Milliseconds()
		o.Lead = &l
	}
	return o
}

// heard takes what another node says of itself. Whoever has the key could say
// anything: what people will read is made fit for that.
func (n *Node) heard(h Hello, o note) {
	o.Why = shorten(clean(o.Why), reasonMax)
	if o.Lead != nil {
		o.Lead.Reason = shorten(clean(o.Lead.Reason), reasonMax)
	}
	o.Out = shorten(clean(o.Out), reasonMax)
	if o.Rank != nil {
		h.Witness, h.Priority = o.Rank.Witness, int32(o.Rank.Priority)
		if k := n.core.Load(); k != nil {
			k.elector.meet(h)
		}
	}
	n.mu.Lock()
	was, known := n.notes[h.Node]
	now := time.Now()
	n.notes[h.Node] = heardNote{o, h, now, readySince(was, h.Boot, o.Eligible, now)}
	n.explain(h.Node, o.Lead)
	n.mu.Unlock()
	if o.Lead != nil && o.Lead.Applied > 0 {
		n.follow(o.Lead.Applied)
	}
	if !known || was.Eligible != o.Eligible || was.Leased != o.Leased || was.hello.Witness != h.Witness || was.hello.Priority != h.Priority ||
		(was.Alone == nil) != (o.Alone == nil) {
		n.tell()
	}
}

// alive tells whether a node that was heard at that time still is: it was heard
// lately, and its port is not closed.
func (n *Node) alive(id ID, heard time.Time) bool {
	if time.Since(heard) > 3*noteEvery {
		return false
	}
	k := n.core.Load()
	return k == nil || !k.links.goneSince(id.String(), heard)
}
