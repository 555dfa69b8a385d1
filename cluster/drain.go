package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pen/state"
)

// Drain makes a node, by name, id or address, ineligible until Undrain. By is who
// wants it, for the record.
func (n *Node) Drain(ctx context.Context, by, node string) error {
	return n.setDrained(ctx, by, node, true)
}

// Undrain takes Drain back.
func (n *Node) Undrain(ctx context.Context, by, node string) error {
	return n.setDrained(ctx, by, node, false)
}

func (n *Node) setDrained(ctx context.Context, by, node string, drained bool) error {
	what := "undrain"
	if drained {
		what = "drain"
	}
	m, err := n.find(node)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ops := []state.Op{state.SetNode{Node: m.ID.String(), Drained: drained}}
	if n.View().Level() >= 2 {
		ops = append(ops, state.Stamp{Wall: state.At(time.Now())})
	}
	r, err := n.Propose(ctx, state.Command{By: by, Ops: ops})
	if err = cmp.Or(err, r.Err); err != nil {
		return fmt.Errorf("%s %s: %w", what, m.label(), err)
	}
	return nil
}

// find returns the one member with that name, id or address.
func (n *Node) find(node string) (MemberStatus, error) {
	all := n.Status().Members
	var found []MemberStatus
	for _, m := range all {
		if !m.ID.IsZero() && m.is(node) {
			found = append(found, m)
		}
	}
	// What a box was before it was wiped is no member any more.
	if now := slices.DeleteFunc(slices.Clone(found), func(m MemberStatus) bool { return m.Role == roleAbsent }); len(now) == 1 {
		found = now
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return MemberStatus{}, fmt.Errorf("%q could be %s: give the address with its port, or the id", node, labels(found, true))
	case len(all) == 0:
		return MemberStatus{}, fmt.Errorf("no member is called %q: this node is not part of a cluster yet", node)
	}
	return MemberStatus{}, fmt.Errorf("no member is called %q: there are %s", node, labels(all, false))
}

func (m MemberStatus) is(node string) bool {
	return m.ID.String() == node || m.Name == node || m.Addr.String() == node || m.Addr.Addr().String() == node
}

// label is a member for people.
func (m MemberStatus) label() string {
	switch {
	case !m.Addr.IsValid():
		return cmp.Or(m.Name, m.ID.String())
	case m.Name == "":
		return m.Addr.Addr().String()
	}
	return m.Name + " (" + m.Addr.Addr().String() + ")"
}

func labels(all []MemberStatus, whole bool) string {
	var names []string
	for _, m := range all {
		if whole {
			names = append(names, cmp.Or(m.Name, "?")+" ("+m.Addr.String()+", "+m.ID.String()+")")
			continue
		}
		names = append(names, m.label())
	}
	return strings.Join(names, ", ")
}

// label is a member, by its id, for people.
func (n *Node) label(id string) string {
	for _, m := range n.Status().Members {
		if m.ID.String() == id {
			return m.label()
		}
	}
	return id
}

// named is the name of a node as far as it is known. It is called with mu held.
func (n *Node) named(id ID) string {
	if id == n.wire.Hello().Node {
		return n.cfg.Node
	}
	return n.notes[id].hello.Name
}
