package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"pen/state"
)

// Assume makes View what this node's own disk knows, its whole log taken for
// agreed on, until a leader says what is. After a start that is what a node of two
// can go by that finds itself alone: raft applies nothing without a leader. It may
// take a second where there are many clients, and must not be called when this node
// is current.
//
// What a leader says takes its place whole. In between nothing was agreed on, and
// what this node has proposed waits for that.
func (n *Node) Assume() error {
	if n.isCurrent() {
		return errors.New("what was agreed on is known here")
	}
	m := newMachine()
	from, err := n.assumeSnapshot(m)
	if err != nil {
		return err
	}
	first, err := n.logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := n.logs.LastIndex()
	if err != nil {
		return err
	}
	if first > from+1 {
		return fmt.Errorf("entries %d to %d are missing between the snapshot and the log", from+1, first-1)
	}
	for i := from + 1; i <= last; i++ {
		var l raft.Log
		if err := n.logs.GetLog(i, &l); err != nil {
			return fmt.Errorf("entry %d of the log: %w", i, err)
		}
		if l.Type == raft.LogCommand {
			m.ApplyBytes(l.Data) // one that the state refuses changes nothing
		}
	}
	v := m.View()
	if len(v.Seed) == 0 {
		return errors.New("no settings of the cluster are on this node's disk")
	}
	n.assumed.Store(v)
	n.tell()
	return nil
}

// assumeSnapshot restores the newest snapshot and returns the last entry in it.
func (n *Node) assumeSnapshot(m *state.Machine) (uint64, error) {
	all, err := n.snaps.List()
	if err != nil || len(all) == 0 {
		return 0, err
	}
	_, r, err := n.snaps.Open(all[0].ID)
	if err != nil {
		return 0, fmt.Errorf("snapshot %s: %w", all[0].ID, err)
	}
	defer r.Close()
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, fmt.Errorf("snapshot %s: %w", all[0].ID, err)
	}
	if err := m.Restore(r); err != nil {
		return 0, fmt.Errorf("snapshot %s: %w", all[0].ID, err)
	}
	return max(binary.BigEndian.Uint64(head[:]), all[0].Index), nil
}

// view is the state as this node knows it: agreed on, or assumed before that.
func (n *Node) view() *state.View {
	if v := n.assumed.Load(); v != nil && !n.isCurrent() {
		return v
	}
	return n.machine.View()
}
