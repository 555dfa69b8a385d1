package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	walsegment "github.com/hashicorp/raft-wal/segment"
)

// logStore keeps raft's log, and its term and vote. When a method has returned
// without error what it wrote survives a power cut.
type logStore interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

// segmentBytes is how large a file of the log becomes. It is taken from the disk
// at once.
const segmentBytes = 8 << 20

// walStore is the log in files. The package that writes them syncs each append.
// Term and vote are in a file of ours.
type walStore struct {
	*wal.WAL
	meta   *logMeta
	ballot *ballot
	health *health
}

func openWAL(dir string, h *health, logger hclog.Logger) (logStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	w, err := openLog(dir, h, logger)
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	return w, nil
}

func openLog(dir string, h *health, logger hclog.Logger) (_ *walStore, err error) {
	s := &walStore{health: h}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if s.meta, err = openLogMeta(dir, h); err != nil {
		return nil, err
	}
	if err = errors.Join(s.meta.checkFiles(dir), checkLog(dir, s.meta.state())); err != nil {
		return nil, err
	}
	s.WAL, err = wal.Open(dir, wal.WithMetaStore(s.meta), wal.WithSegmentFiler(walsegment.NewFiler(dir, logFiles{walfs.New(), h, s.meta.begun})),
		wal.WithSegmentSize(segmentBytes), wal.WithLogger(logger))
	if err != nil {
		return nil, err
	}
	last, err := s.LastIndex()
	if err != nil {
		return nil, err
	}
	if err = s.meta.checkEnd(last); err != nil {
		return nil, err
	}
	s.ballot, err = openBallot(dir, s.WAL, h)
	h.tries.Store(true)
	return s, err
}

// Close waits for what is being written. The attempts to write what the disk does
// not take are given up.
func (w *walStore) Close() error {
	last, err := w.LastIndex()
	if err == nil && w.health.fault(time.Now()) == nil {
		err = w.meta.closed(last)
	}
	w.health.close()
	return errors.Join(err, w.close())
}

func (w *walStore) close() error {
	var errs []error
	if w.WAL != nil {
		errs = append(errs, w.WAL.Close())
	}
	if w.ballot != nil {
		errs = append(errs, w.ballot.close())
	}
	if w.meta != nil {
		errs = append(errs, w.meta.Close())
	}
	return errors.Join(errs...)
}

// Set is of raft.StableStore.
func (w *walStore) Set(key, v []byte) error {
	if string(key) == keyVoteFor {
		return w.ballot.set(v)
	}
	return w.WAL.Set(key, v)
}

// Get is of raft.StableStore.
func (w *walStore) Get(key []byte) ([]byte, error) {
	if string(key) == keyVoteFor {
		return w.ballot.get().voteFor, nil
	}
	return w.WAL.Get(key)
}

// SetUint64 is of raft.StableStore.
func (w *walStore) SetUint64(key []byte, n uint64) error {
	switch string(key) {
	case keyTerm:
		err := w.ballot.setTerm(n)
		if err != nil && w.health.closed() {
			return nil // raft would die of it, and nothing leaves this node any more
		}
		return err
	case keyVoteTerm:
		w.ballot.vote(n)
		return nil
	}
	return w.WAL.SetUint64(key, n)
}

// GetUint64 is of raft.StableStore.
func (w *walStore) GetUint64(key []byte) (uint64, error) {
	switch string(key) {
	case keyTerm:
		return w.ballot.get().term, nil
	case keyVoteTerm:
		return w.ballot.get().voteTerm, nil
	}
	return w.WAL.GetUint64(key)
}

// IsMonotonic tells raft that the log has no gaps, so that it clears the log
// before it installs a snapshot beyond the end.
func (w *walStore) IsMonotonic() bool { return w.WAL.IsMonotonic() }

// memStore is the log in memory, for tests.
type memStore struct{ *raft.InmemStore }

func (memStore) Close() error { return nil }
