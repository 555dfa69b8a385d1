package cluster

import (
	"context"
	"fmt"
	"time"

	"pen/state"
)

// Drain makes a node, by name, id or address, ineligible until Undrain.
func (n *Node) Drain(ctx context.Context, node string) error { return n.setDrained(ctx, node, true) }

// Undrain takes Drain back.
func (n *Node) Undrain(ctx context.Context, node string) error {
	return n.setDrained(ctx, node, false)
}

func (n *Node) setDrained(ctx context.Context, node string, drained bool) error {
	m, err := n.find(node)
	if err != nil {
		return err
	}
	r, err := n.Propose(ctx, state.Command{Time: state.At(time.Now()), Ops: []state.Op{state.SetNode{Node: m.ID.String(), Drained: drained}}})
	if err != nil {
		return err
	}
	return r.Err
}

// find returns the one member with that name, id or address.
func (n *Node) find(node string) (MemberStatus, error) {
	var found []MemberStatus
	for _, m := range n.Status().Members {
		if m.ID.String() == node || m.Name == node || m.Addr.String() == node || m.Addr.Addr().String() == node {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		return MemberStatus{}, fmt.Errorf("%d members are called %q", len(found), node)
	}
	return found[0], nil
}
