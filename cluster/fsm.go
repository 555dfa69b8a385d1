package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"pen/state"
)

// fsm is the machine as raft sees it. It knows how far raft's log is applied:
// the machine counts commands, raft counts entries.
type fsm struct {
	machine *state.Machine
	bytes   atomic.Int64 // of commands since the last snapshot
	turn    sync.Mutex   // held while the machine is worked with

	mu      sync.Mutex
	applied uint64
	moved   chan struct{} // closed and replaced when applied grows
}

// newMachine returns an empty machine that holds nobody up.
func newMachine() *state.Machine {
	m := state.New()
	m.Rest = rest
	return m
}

func newFSM(m *state.Machine) *fsm { return &fsm{machine: m, moved: make(chan struct{})} }

// Apply is there because raft asks for it; raft calls ApplyBatch.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies commands and gives a state.Result for each.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	f.turn.Lock()
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			results[i] = f.machine.ApplyBytes(l.Data)
			f.bytes.Add(int64(len(l.Data)))
		}
	}
	f.turn.Unlock()
	f.reach(logs[len(logs)-1].Index)
	return results
}

func (f *fsm) reach(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if index > f.applied {
		f.applied = index
		close(f.moved)
		f.moved = make(chan struct{})
	}
}

// reached tells whether an entry is applied, and gives a channel that is closed
// when there is reason to ask again.
func (f *fsm) reached(index uint64) (bool, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied >= index, f.moved
}

func (f *fsm) last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied
}

// Snapshot takes microseconds; Persist runs beside Apply.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes.Store(0)
	return &fsmSnapshot{f.applied, f.machine.Snapshot()}, nil
}

// Restore takes the place of the state with a snapshot: the index of the last
// entry in it, in eight bytes, and the machine's own.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	f.turn.Lock()
	err := f.machine.Restore(r)
	f.turn.Unlock()
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	f.reach(binary.BigEndian.Uint64(head[:]))
	return nil
}

type fsmSnapshot struct {
	applied uint64
	state   *state.Snapshot
}

func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(binary.BigEndian.AppendUint64(nil, s.applied))
	if err == nil {
		_, err = s.state.WriteTo(sink)
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s *fsmSnapshot) Release() { s.state.Release() }
