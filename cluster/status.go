package cluster

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"pen/state"
)

// MemberStatus is what this node knows of a member.
type MemberStatus struct {
	ID       ID             `json:"id"`
	Name     string         `json:"name"`
	Addr     netip.AddrPort `json:"addr"`
	Role     string         `json:"role"` // voter, witness, learner, absent
	Leader   bool           `json:"leader"`
	Self     bool           `json:"self"`
	Alive    bool           `json:"alive"`
	Heard    time.Time      `json:"heard"` // when it last spoke to this node
	Priority int            `json:"priority"`
	Applied  uint64         `json:"applied"`
	Lag      uint64         `json:"lag"` // entries behind the last that this node knows
	Eligible bool           `json:"eligible"`
	Why      string         `json:"why,omitempty"` // why not
	Drained  bool           `json:"drained"`
	// What it says of itself as a holder, as of Heard. Of the others only the
	// present leader is believed: one that was killed can not say that it holds the
	// address no more.
	Leased          bool          `json:"leased"`        // its lease is valid
	Holding         bool          `json:"holding"`       // it answers for the address
	HoldingSince    time.Time     `json:"holding_since"` // when that last changed; zero: not told
	Fallback        bool          `json:"fallback"`      // it does so without a quorum
	Unreplicated    int           `json:"unreplicated"`  // clients that the others do not know yet
	UnreplicatedAge time.Duration `json:"unreplicated_age_ns"`
	Version         string        `json:"version"`
	StateVersion    uint32        `json:"state_version"` // the newest state level that its program knows; zero: not told
	Digest          uint64        `json:"digest"`        // of its configuration file
	// Heartbeat differs from this node's only by a mistake: the smallest counts.
	Heartbeat time.Duration `json:"heartbeat_ns"`
}

// roleAbsent is of a node that is listed, or was heard of, and is no member.
const roleAbsent = "absent"

// NodeStatus is how the cluster looks from this node.
type NodeStatus struct {
	Cluster    string         `json:"cluster"`
	Formation  ID             `json:"formation"` // zero: not formed yet
	Generation uint64         `json:"generation"`
	Self       ID             `json:"self"`
	Role       string         `json:"role"`   // of raft: Leader, Follower, Candidate; forming
	Leader     string         `json:"leader"` // id; empty: none
	Term       uint64         `json:"term"`
	Out        string         `json:"out,omitempty"` // why this node is not part of the cluster any more, or not yet, and what to do; empty: it is a member, or knows of no cluster
	Quorum     bool           `json:"quorum"`        // a majority of the voters is alive, this node's among them
	Voters     int            `json:"voters"`
	Living     int            `json:"living"` // voters that are alive
	Last       uint64         `json:"last"`
	Applied    uint64         `json:"applied"`
	Contact    time.Time      `json:"contact"` // last word of the leader
	Since      time.Time      `json:"since"`   // of the leadership, as the leader says once it has been heard; zero: nobody leads
	Moves      int            `json:"moves"`   // changes of the leader, or of who holds without one, since this node started
	LastMove   Move           `json:"last_move"`
	Lease      Lease          `json:"lease"`
	Members    []MemberStatus `json:"members"`
	Refused    []Refusal      `json:"refused"` // who was not let in
	Held       int64          `json:"held"`    // votes and questions that had to wait
	Late       int64          `json:"late"`    // votes that did not leave
	Level      LevelStatus    `json:"state_level"`
	Forced     int            `json:"forced,omitempty"` // changes that were forced here, see Force, and wait for a quorum
}

// Status reports how the cluster looks from here. It asks nobody, and works
// without a leader.
func (n *Node) Status() NodeStatus {
	p := n.former.now()
	s := NodeStatus{
		Cluster: n.cfg.Name, Formation: p.Formation, Generation: ordinal(p.Generation), Self: p.Node, Role: "forming",
		Refused: n.wire.Refused(), Lease: n.Lease(), Forced: n.Forced(),
	}
	var servers []raft.Server
	if k := n.core.Load(); k != nil {
		n.noteLeader(k) // so that all of this is of one moment
		s.Role, s.Term = k.raft.State().String(), k.raft.CurrentTerm()
		s.Last, s.Applied, s.Contact = k.raft.LastIndex(), k.raft.AppliedIndex(), k.raft.LastContact()
		if s.Role == raft.Leader.String() {
			s.Contact = time.Now()
		}
		s.Held, s.Late = k.elector.held.Load(), k.elector.late.Load()
		servers = k.raft.GetConfiguration().Configuration().Servers
	}
	s.Level = n.levelStatus(n.core.Load())
	n.mu.Lock()
	s.Moves, s.LastMove = n.moves, n.last
	if !n.since.IsZero() {
		s.Leader, s.Since = n.leader, n.ledSince()
	}
	n.mu.Unlock()
	seen := map[ID]Member{}
	var absent []Member
	for _, g := range n.gossip.Members() {
		seen[g.ID] = g
		if (g.Listed || g.Self) && !slices.ContainsFunc(servers, func(r raft.Server) bool { return idOf(r.ID) == g.ID }) {
			absent = append(absent, g)
		}
	}
	for _, r := range servers {
		m := n.memberStatus(idOf(r.ID), s)
		m.Version, m.Digest = seen[m.ID].Meta.Version, seen[m.ID].Meta.Digest
		if m.Name == "" { // not heard of since this node started
			m.Name = seen[m.ID].Name
		}
		if !m.Addr.IsValid() {
			m.Addr, _ = netip.ParseAddrPort(string(r.Address))
		}
		if !m.Alive && !m.Drained && n.inPlaceOf(m.ID, m.Addr) {
			m.Why = "another node is at its address: its disk was replaced"
		}
		switch {
		case r.Suffrage != raft.Voter:
			m.Role = "learner"
		case m.Role == "":
			m.Role = "voter"
		}
		if r.Suffrage == raft.Voter {
			s.Voters++
			if m.Alive {
				s.Living++
			}
		}
		s.Members = append(s.Members, m)
	}
	for _, g := range absent {
		if replaced(g, s.Members) {
			continue
		}
		s.Members = append(s.Members, MemberStatus{
			ID: g.ID, Name: g.Name, Addr: g.Addr, Role: roleAbsent, Self: g.Self, Alive: g.State == Alive, Why: "not part of the cluster",
			Priority: int(g.Priority), Heartbeat: g.Heartbeat, StateVersion: g.StateVersion, Version: g.Meta.Version, Digest: g.Meta.Digest,
		})
	}
	n.tellOut(s.Members)
	s.Out = n.outside(servers)
	s.Quorum = s.Voters > 0 && s.Living >= s.Voters/2+1 && s.Out == ""
	for i := range s.Members {
		if m := &s.Members[i]; m.Self && s.Out != "" {
			m.Eligible, m.Why = false, s.Out
		}
	}
	return s
}

// outside tells why this node is none of the members, and what to do. What raft
// knows here may be from before.
func (n *Node) outside(servers []raft.Server) string {
	if why := n.behind(); why != "" {
		return why
	}
	n.mu.Lock()
	by := n.outBy
	n.mu.Unlock()
	switch {
	case by != "":
		return removedBy(by)
	case len(servers) > 0 && !slices.ContainsFunc(servers, func(s raft.Server) bool { return idOf(s.ID) == n.former.now().Node }):
		return "not a member; if it is listed on the others it becomes one when they hear it"
	}
	return ""
}

// replaced tells of a node that is silent and no member that a member lives at its
// address: its disk was wiped, and what was there before does not come again.
func replaced(g Member, members []MemberStatus) bool {
	return g.State != Alive && slices.ContainsFunc(members, func(m MemberStatus) bool {
		return m.Role != roleAbsent && m.ID != g.ID && m.Addr == g.Addr
	})
}

func (n *Node) memberStatus(id ID, s NodeStatus) MemberStatus {
	m := MemberStatus{ID: id, Leader: s.Leader == id.String(), Self: id == s.Self, Drained: n.View().Drained(id.String())}
	var o note
	if m.Self {
		o = n.note()
		m.Name, m.Addr, m.Alive, m.Heard, m.Heartbeat = n.cfg.Node, n.cfg.Self, true, time.Now(), n.cfg.Heartbeat
		self := n.list.Load().self
		m.Priority, m.StateVersion = self.Priority, uint32(state.Newest)
		if self.Witness {
			m.Role = "witness"
		}
	} else {
		n.mu.Lock()
		h := n.notes[id]
		n.mu.Unlock()
		o = h.note
		m.Name, m.Addr, m.Heard, m.Heartbeat = h.hello.Name, h.hello.Addr, h.at, h.hello.Heartbeat
		m.Priority, m.Alive, m.StateVersion = int(h.hello.Priority), n.alive(id, h.at), h.hello.StateVersion
		if h.hello.Witness {
			m.Role = "witness"
		}
	}
	f := o.Facts.unpack(m.Heard)
	m.Fallback = o.Alone != nil && m.Alive
	if !m.Self && (!m.Leader && !m.Fallback || !m.Alive) {
		o.Leased = false
		if f.Holding {
			f = Facts{}
		}
	}
	m.Leased, m.Holding, m.HoldingSince, m.Unreplicated, m.UnreplicatedAge = o.Leased, f.Holding, f.Since, f.Unreplicated, f.UnreplicatedAge
	m.Applied, m.Eligible, m.Why = o.Applied, o.Eligible && m.Alive && !m.Drained, o.Why
	switch {
	case m.Drained:
		m.Why = "drained"
	case !m.Alive:
		m.Why = "not heard of"
	case m.Eligible:
		m.Why = ""
	}
	if m.Applied < s.Last {
		m.Lag = s.Last - m.Applied
	}
	return m
}

// inPlaceOf tells whether another node than that one lives at its address.
func (n *Node) inPlaceOf(id ID, at netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for other, h := range n.notes {
		if other != id && h.hello.Addr == at && time.Since(h.at) < 3*noteEvery {
			return true
		}
	}
	return false
}

// ledSince is since when the leader leads. It is called with mu held.
func (n *Node) ledSince() time.Time {
	leader := idOf(raft.ServerID(n.leader))
	h := n.notes[leader]
	switch {
	case n.leader == n.lead.id && !n.lead.since.IsZero():
		return n.lead.since
	case h.Lead != nil && h.at.After(n.since):
		return h.at.Add(-h.Lead.age())
	}
	return n.since
}
