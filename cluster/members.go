package cluster

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// configure makes one change of raft's configuration, if one is due. A listed
// node is never removed because it is dead: only because its place was taken, or
// because it is not listed any more.
func (n *Node) configure(ctx context.Context, k *core) {
	r := n.roster(k)
	act, s, what := r.due()
	if act == memberVote && n.pairFalls(r.servers, s.ID, r.alive) {
		act = memberKeep // it learns meanwhile
	}
	var f raft.IndexFuture
	switch act {
	case memberKeep:
		return
	case memberRemove:
		f = k.raft.RemoveServer(s.ID, 0, time.Second)
	case memberLearn:
		f = k.raft.AddNonvoter(s.ID, s.Address, 0, time.Second)
	case memberVote:
		f = k.raft.AddVoter(s.ID, s.Address, 0, time.Second)
	}
	if err := outcome(ctx, n.down, f); err != nil {
		n.log.Warn("members stay as they are", "member", s.ID, "addr", s.Address, "err", err)
		return
	}
	n.log.Info("members changed", "member", s.ID, "addr", s.Address, "change", what)
	n.tell()
}

// roster is what decides who should be a member.
type roster struct {
	servers []raft.Server    // of raft, as they are
	alive   map[ID]heardNote // the others that are heard
	peers   []Peer           // the list of this node, which leads
	self    string
	addr    netip.AddrPort // of this node, which raft may know by an earlier one
	last    uint64         // entry of the log
	out     map[ID]ID      // who was removed, and the process that it was then
}

func (n *Node) roster(k *core) roster {
	r := roster{
		servers: k.raft.GetConfiguration().Configuration().Servers, alive: map[ID]heardNote{},
		peers: n.list.Load().peers, self: k.id, addr: n.cfg.Self, last: k.raft.LastIndex(), out: map[ID]ID{},
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, h := range n.notes {
		// What was heard last may be more than a second old: a vote that is counted on
		// has to be there now. A member of raft's answers heartbeats.
		member := r.server(id.String()) >= 0
		if n.alive(id, h.at) && k.links.connected(id.String()) && (!member || k.elector.contacted(id.String(), 2*n.cfg.Heartbeat)) {
			r.alive[id] = h
		}
	}
	for id, boot := range n.out {
		r.out[id] = boot
	}
	return r
}

type memberAct uint8

const (
	memberKeep memberAct = iota
	memberRemove
	memberLearn
	memberVote
)

// learnerLag is how many entries a new node may be behind when it gets its vote.
const learnerLag = 64

// due decides which change is due.
func (r roster) due() (memberAct, raft.Server, string) {
	ids := make([]ID, 0, len(r.alive))
	for id := range r.alive {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		if act, s, what := r.dueFor(r.alive[id]); act != memberKeep {
			return act, s, what
		}
	}
	// Raft leaves it to us to keep its idea of this node's address up to date.
	if i := r.server(r.self); i >= 0 && r.servers[i].Suffrage == raft.Voter && r.servers[i].Address != r.here() && r.atAddress(r.here()) < 0 {
		return memberVote, raft.Server{ID: raft.ServerID(r.self), Address: r.here()}, "its address changed"
	}
	if s, ok := r.surplus(); ok {
		return memberRemove, s, "it is not listed any more"
	}
	return memberKeep, raft.Server{}, ""
}

func (r roster) here() raft.ServerAddress { return raft.ServerAddress(r.addr.String()) }

func (r roster) server(id string) int {
	return slices.IndexFunc(r.servers, func(s raft.Server) bool { return string(s.ID) == id })
}

func (r roster) atAddress(a raft.ServerAddress) int {
	return slices.IndexFunc(r.servers, func(s raft.Server) bool { return s.Address == a })
}

// dueFor is the change for a node that is heard.
func (r roster) dueFor(h heardNote) (memberAct, raft.Server, string) {
	want := raft.Server{ID: raft.ServerID(h.hello.Node.String()), Address: raft.ServerAddress(h.hello.Addr.String())}
	i := r.server(string(want.ID))
	if i < 0 && (!r.listed(h.hello.Addr) || r.removed(h)) || string(want.ID) == r.self {
		return memberKeep, want, ""
	}
	taken := slices.IndexFunc(r.servers, func(s raft.Server) bool { return s.Address == want.Address && s.ID != want.ID })
	switch {
	case taken >= 0:
		old := r.servers[taken]
		if _, lives := r.alive[idOf(old.ID)]; lives || string(old.ID) == r.self || !r.safeWithout(old.ID) {
			return memberKeep, want, ""
		}
		return memberRemove, old, "its disk was replaced"
	case i < 0:
		return memberLearn, want, "it is new"
	case r.servers[i].Address != want.Address && r.servers[i].Suffrage == raft.Voter:
		return memberVote, want, "its address changed"
	case r.servers[i].Suffrage != raft.Voter && h.Applied+learnerLag >= r.last:
		return memberVote, want, "it has caught up"
	}
	return memberKeep, want, ""
}

func (r roster) listed(a netip.AddrPort) bool {
	return slices.ContainsFunc(r.peers, func(p Peer) bool { return p.Addr == a })
}

// removed tells whether a node is out because somebody has said so: until it is
// started again.
func (r roster) removed(h heardNote) bool {
	boot, known := r.out[h.hello.Node]
	return h.Out != "" || known && boot == h.hello.Boot
}

// where is the address of a member, as it is now.
func (r roster) where(s raft.Server) netip.AddrPort {
	if string(s.ID) == r.self {
		return r.addr
	}
	if h, ok := r.alive[idOf(s.ID)]; ok {
		return h.hello.Addr
	}
	a, _ := netip.ParseAddrPort(string(s.Address))
	return a
}

// surplus is a member that is not listed while all who are listed vote: as long
// as one of them does not, the other may be what is going to be it, at another
// address, and the quorum must not shrink meanwhile.
func (r roster) surplus() (raft.Server, bool) {
	filled := map[netip.AddrPort]bool{}
	for _, s := range r.servers {
		if s.Suffrage == raft.Voter {
			filled[r.where(s)] = true
		}
	}
	for _, p := range r.peers {
		if !filled[p.Addr] {
			return raft.Server{}, false
		}
	}
	for _, s := range r.servers {
		if !r.listed(r.where(s)) && string(s.ID) != r.self && r.safeWithout(s.ID) {
			return s, true
		}
	}
	return raft.Server{}, false
}

// leaves tells whether this node, which leads, is itself to be removed: another
// has to do that.
func (r roster) leaves() bool {
	if r.listed(r.addr) {
		return false
	}
	for _, p := range r.peers {
		if !slices.ContainsFunc(r.servers, func(s raft.Server) bool { return s.Suffrage == raft.Voter && r.where(s) == p.Addr }) {
			return false
		}
	}
	return len(r.peers) > 0
}

func idOf(s raft.ServerID) ID {
	id, _ := ParseID(string(s)) // one that is none is nobody's
	return id
}

// safeWithout tells whether those who live are a majority of the voters that
// are left.
func (r roster) safeWithout(gone raft.ServerID) bool {
	voters, living := r.without(gone)
	return voters > 0 && living >= voters/2+1
}

// without counts the voters that would be left, and those of them who live.
func (r roster) without(gone raft.ServerID) (voters, living int) {
	for _, s := range r.servers {
		if s.ID == gone || s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if _, ok := r.alive[idOf(s.ID)]; ok || string(s.ID) == r.self {
			living++
		}
	}
	return voters, living
}

// pairFalls tells whether a third vote would be given while one of the two that
// vote now would hold the address without a quorum: with the third the other is one.
func (n *Node) pairFalls(servers []raft.Server, third raft.ServerID, alive map[ID]heardNote) bool {
	n.mu.Lock()
	falls, told := n.falls, n.waiting
	n.mu.Unlock()
	voting, who := 0, n.cfg.Node
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if s.ID == third {
			return false // its address changes, nothing else
		}
		voting++
		if h, ok := alive[idOf(s.ID)]; !falls && ok && h.Falls {
			falls, who = true, h.hello.Name
		}
	}
	falls = falls && voting == 2
	if falls && !told {
		n.log.Warn("a third node gets no vote while one of the two decides without a quorum: give that one the longer list of peers, too",
			"member", who)
	}
	n.mu.Lock()
	n.waiting = falls
	n.mu.Unlock()
	return falls
}
