package cluster

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pen/state"
)

// The state's level rises when every member, and every listed node, was heard
// lately and says that it knows the new one: a node that is away may come back
// with an older program. From then on a program that does not know it is refused
// at the handshake, and at its own start by its papers.

// knower is a node that has a say in the level.
type knower struct {
	name  string
	heard bool
	knows state.Level
	at    netip.AddrPort
}

// commonLevel is the level that all know, newest at the most, and who keeps it
// from being that.
func commonLevel(all []knower, newest state.Level) (level state.Level, waits []string) {
	level = newest
	for _, k := range all {
		switch {
		case !k.heard:
			level = 1
			waits = append(waits, k.name+" is not heard of")
		case k.knows < newest:
			level = min(level, max(k.knows, 1))
			waits = append(waits, fmt.Sprintf("%s knows up to %d", k.name, max(k.knows, 1)))
		}
	}
	return level, waits
}

// distinct adds the address to names that more than one has.
func distinct(all []knower, self string) []knower {
	count := map[string]int{self: 1}
	for _, k := range all {
		count[k.name]++
	}
	for i, k := range all {
		if at := k.at.String(); count[k.name] > 1 && k.name != at {
			all[i].name += " (" + at + ")"
		}
	}
	return all
}

// knowers are the other members and listed nodes.
func (n *Node) knowers(k *core) (all []knower) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var seen []netip.AddrPort
	add := func(h heardNote, known bool, at netip.AddrPort) {
		seen = append(seen, at)
		all = append(all, knower{
			name:  cmp.Or(h.hello.Name, at.String()),
			heard: known && n.alive(h.hello.Node, h.at), knows: state.Level(h.hello.StateVersion), at: at,
		})
	}
	for _, s := range k.raft.GetConfiguration().Configuration().Servers {
		if string(s.ID) == k.id {
			continue
		}
		h, known := n.notes[idOf(s.ID)]
		at := h.hello.Addr
		if !known {
			at, _ = netip.ParseAddrPort(string(s.Address))
		}
		add(h, known, at)
	}
	for _, p := range n.list.Load().peers {
		if p.Addr != n.cfg.Self && !slices.Contains(seen, p.Addr) {
			add(heardNote{}, false, p.Addr)
		}
	}
	return distinct(all, n.cfg.Node)
}

// raise proposes the level that all know, if it is higher than that of the
// state. The first settings come before: a state that somebody brings along would
// not be taken after anything else.
func (n *Node) raise(ctx context.Context, k *core) {
	v := n.View()
	if v.Level() >= state.Newest || len(v.Seed) == 0 || !n.Lease().Current {
		return
	}
	to, _ := commonLevel(n.knowers(k), state.Newest)
	if to <= v.Level() {
		return
	}
	c := state.Command{By: "leader " + n.cfg.Self.Addr().String(), Ops: []state.Op{state.SetLevel{Level: to}, state.Stamp{Wall: state.At(time.Now())}}}
	if r, err := n.Propose(ctx, c); cmp.Or(err, r.Err) != nil {
		n.log.Warn("the state's level stays as it is", "level", v.Level(), "err", cmp.Or(err, r.Err))
		return
	}
	n.log.Info("all nodes know a newer state level, which is used from now on", "level", to)
}

// keepLevel makes the level of the state what this node says of itself: to the
// others, and on its disk to whatever program is started next.
func (n *Node) keepLevel() {
	level := uint32(n.View().Level())
	if n.wire.Hello().Level >= level {
		return
	}
	if err := n.former.keep(func(p *papers) { p.Level = max(p.Level, level) }); err != nil {
		n.log.Warn("the papers of this node are not up to date", "err", err)
		return // it is tried again
	}
	n.wire.SetLevel(level)
}

// startable tells why this program can not take part with those papers.
func (p papers) startable() error {
	if newest := uint32(state.Newest); p.Level > newest {
		return fmt.Errorf("the cluster uses state level %d, and this program knows up to %d: install a version that knows it; the level does not go down again", p.Level, newest)
	}
	return nil
}

// SetLevel says which state level is in use from now on. Streams of peers that do
// not know it are closed.
func (w *Wire) SetLevel(level uint32) {
	w.change(func(h *Hello) { h.Level = level })
}

// LevelStatus is how far the state's level is.
type LevelStatus struct {
	Now   state.Level `json:"now"`
	Known state.Level `json:"known"`           // the newest that this node's program knows
	Waits []string    `json:"waits,omitempty"` // who keeps it from rising to that
}

func (n *Node) levelStatus(k *core) LevelStatus {
	s := LevelStatus{Now: n.View().Level(), Known: state.Newest}
	if k != nil && s.Now < s.Known {
		_, s.Waits = commonLevel(n.knowers(k), s.Known)
	}
	return s
}

// tooOldFor tells why a node can not take part at a level.
func (h Hello) tooOldFor(level uint32) string {
	return fmt.Sprintf("state level %d is in use, %s knows up to %d: install a newer version there", level, cmp.Or(h.Name, h.Node.String()), max(h.StateVersion, 1))
}
