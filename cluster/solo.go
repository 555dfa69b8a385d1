// Package cluster lets nodes agree on one state.
//
// A command that Propose has returned is part of the state, on this node at
// least, and stays so: it survives a restart and a power cut. The exception are
// visits of clients, which are on the disk within about a second.
//
// Solo is agreement with oneself, for a node that stands alone. Node is agreement
// with others by raft, and says which of them has the lease of the address.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"pen/state"
)

// Solo is agreement with oneself: one machine, kept in a directory or only in
// memory. Its methods may be called by any goroutine.
type Solo struct {
	machine *state.Machine
	log     *slog.Logger
	fresh   bool
	// least is how long the log may become at least before a snapshot takes its
	// place.
	least int64

	// mu is held while a command is written and applied, as both go in one
	// order. Who proposes expects to wait for the disk; who reads does not come
	// by here.
	mu     sync.Mutex
	closed bool
	store  *store    // nil: in memory only
	broken error     // why the tail of the log can not be written to
	healed time.Time // when mending was last tried
	err    error     // the last error of the disk, nil after a success
}

// Status is how keeping the state on the disk goes.
type Status struct {
	Dir      string    // empty: the state is in memory only
	Bytes    int64     // of log since the last snapshot
	Snapshot time.Time // when the last snapshot was taken; zero: never
	Err      error     // what went wrong last, nil if it went right again
}

const (
	leastLog  = 16 << 20
	healPause = time.Second
)

// OpenSolo opens the state kept in dir, which is made if need be; an empty dir
// keeps the state in memory only. Another process that has it open is an error.
// So is anything in it that is not as it was written, except the end of the log
// as a crash leaves it: that is cut and logged. The caller closes it.
func OpenSolo(dir string, log *slog.Logger) (*Solo, error) {
	return openSolo(&disk{}, dir, log)
}

func openSolo(d *disk, dir string, log *slog.Logger) (*Solo, error) {
	s := &Solo{machine: newMachine(), log: log, fresh: true, least: leastLog}
	if dir == "" {
		return s, nil
	}
	var err error
	s.store, s.fresh, err = openStore(d, dir, s.machine, log)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	return s, nil
}

// Chown gives the files to another user, whom this process is about to become.
// With the state in memory there is nothing to do.
func (s *Solo) Chown(uid, gid int) error {
	if s.store == nil {
		return nil
	}
	if err := s.store.chown(uid, gid); err != nil {
		return fmt.Errorf("give the state to user %d: %w", uid, err)
	}
	return nil
}

// View returns the state as it is.
func (s *Solo) View() *state.View { return s.machine.View() }

// Snapshot returns the state as it is. The caller releases it.
func (s *Solo) Snapshot() *state.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.Snapshot()
}

// Watch returns a channel that is closed when the view changes, see
// state.Machine.
func (s *Solo) Watch() <-chan struct{} { return s.machine.Watch() }

// Fresh tells that there was no state when Solo was opened.
func (s *Solo) Fresh() bool { return s.fresh }

// Propose makes the command part of the state. It returns after the command has
// been applied or, with the error in the result, refused by the state. An error
// of Propose itself means that it has not been applied; after an error of the
// disk it may yet turn out to have been kept when the process starts again.
func (s *Solo) Propose(ctx context.Context, c state.Command) (state.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return state.Result{}, err
	}
	if s.closed {
		return state.Result{}, fmt.Errorf("propose: %w", os.ErrClosed)
	}
	if s.store != nil {
		if err := s.write(c); err != nil {
			return state.Result{}, err
		}
	}
	return s.machine.Apply(c), nil
}

// write puts the command into the log, and unless it is soft on the disk.
func (s *Solo) write(c state.Command) error {
	b, err := c.Append(nil)
	if err != nil {
		return err
	}
	if s.broken != nil {
		if err := s.mend(); err != nil {
			return err
		}
	}
	tail := s.store.tail
	before := tail.end
	err = tail.append(s.View().Index+1, b)
	if err == nil && !soft(c) {
		if err = tail.sync(); err != nil {
			err = tail.cut(before, err)
		}
	}
	return s.note(err)
}

// soft tells that a command may be lost in a power cut: visits are many, and a
// client that is forgotten is only placed again.
func soft(c state.Command) bool {
	for _, o := range c.Ops {
		if _, ok := o.(state.Visits); !ok {
			return false
		}
	}
	return len(c.Ops) > 0
}

// note remembers how the disk does.
func (s *Solo) note(err error) error {
	if _, ok := errors.AsType[brokenError](err); ok && s.broken == nil {
		s.broken = err
		s.log.Error("log is broken, begin a new one", "err", err)
	}
	s.err = err
	return err
}

// mend leaves a log behind of which nobody knows what the disk holds: the state
// that is in memory is written as a snapshot, and a new log follows it.
func (s *Solo) mend() error {
	if time.Since(s.healed) < healPause {
		return s.broken
	}
	s.healed = time.Now()
	snap := s.machine.Snapshot()
	defer snap.Release()
	saved, err := s.store.save(snap)
	if err != nil {
		return s.note(err)
	}
	s.store.snapshot = saved
	s.store.tail.f.Close() // not everywhere can an open file be replaced
	if err := s.store.begin(saved.index); err != nil {
		return s.note(err)
	}
	s.broken, s.store.older = nil, 0
	s.log.Info("log begun anew", "dir", s.store.dir)
	if err := s.store.sweep(); err != nil {
		s.log.Warn("old files of the state are left", "err", err)
	}
	return nil
}

// Run does what is not done by Propose: it brings visits to the disk every
// second, and lets a snapshot take the place of a log that has become long. It
// returns nil when ctx has ended.
func (s *Solo) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var pause int // ticks to wait after a snapshot that went wrong
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.sync(); err != nil {
			s.log.Warn("visits are not on the disk", "err", err)
		}
		if pause--; pause > 0 || !s.long() {
			continue
		}
		if err := s.rotate(); err != nil {
			s.log.Error("no snapshot of the state", "err", err)
			pause = 10
		}
	}
}

func (s *Solo) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil || s.closed || s.broken != nil || s.store.tail.safe == s.store.tail.end {
		return nil
	}
	return s.note(s.store.tail.sync())
}

// long tells whether it is time for a snapshot.
func (s *Solo) long() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil || s.closed || s.broken != nil {
		return false
	}
	return s.store.tail.end > max(s.least, s.store.snapshot.size)
}

// rotate begins a new segment and writes the state before it as a snapshot.
// Proposals wait for the first only.
func (s *Solo) rotate() error {
	snap, err := s.turn()
	if snap == nil {
		return err
	}
	defer snap.Release()
	saved, err := s.store.save(snap)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if saved.index > s.store.snapshot.index {
		s.store.snapshot = saved
		s.store.older = 0
	}
	if err := s.store.sweep(); err != nil {
		s.log.Warn("old files of the state are left", "err", err)
	}
	return nil
}

// turn begins a new segment and returns the state before it.
func (s *Solo) turn() (*state.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.broken != nil {
		return nil, nil
	}
	// Only the last segment may have a torn end.
	if err := s.note(s.store.tail.sync()); err != nil {
		return nil, err
	}
	if err := s.note(s.store.begin(s.View().Index)); err != nil {
		return nil, err
	}
	return s.machine.Snapshot(), nil
}

// Status reports how keeping the state on the disk goes.
func (s *Solo) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		return Status{}
	}
	return Status{
		Dir:      s.store.dir,
		Bytes:    s.store.older + s.store.tail.end,
		Snapshot: s.store.snapshot.time,
		Err:      s.err,
	}
}

// Close brings everything to the disk and lets go of the directory. Run must
// have returned. Nothing can be proposed afterwards; the view stays.
func (s *Solo) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.store == nil {
		return nil
	}
	defer s.store.unlock()
	if s.broken != nil {
		return fmt.Errorf("close state: %w", s.broken)
	}
	if err := s.seal(); err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}

// seal ends the segment with a mark: what is before it was on the disk.
func (s *Solo) seal() error {
	if err := s.store.tail.sync(); err != nil {
		return err
	}
	if err := s.store.tail.append(s.View().Index, nil); err != nil {
		return err
	}
	return s.store.tail.sync()
}
