package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
	if err = checkLog(dir, s.meta.state()); err != nil {
		return nil, err
	}
	s.WAL, err = wal.Open(dir, wal.WithMetaStore(s.meta), wal.WithSegmentFiler(walsegment.NewFiler(dir, logFiles{walfs.New(), h})),
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

// papers are what a node has to remember beside its log.
type papers struct {
	Node ID `json:"node"`
	// Heartbeat is the timeout that this node promised when it last ran. After a
	// start it is silent for the longer of this and the new one.
	Heartbeat  time.Duration `json:"heartbeat_ns"`
	Formation  ID            `json:"formation"` // zero: not part of a cluster yet
	Generation uint64        `json:"generation"`
	Promise    *promise      `json:"promise,omitempty"`
	// Found tells that this node is to begin the cluster with the members of its
	// promise: a majority has promised, and raft may not have been told yet.
	Found bool `json:"found,omitempty"`
	// Brings tells that this node has begun the cluster, and that the state of the
	// single node that it was is not the cluster's yet.
	Brings bool `json:"brings,omitempty"`
	// Level is the state level that was in use when this node last ran.
	Level uint32 `json:"level,omitempty"`
	// Recover tells that this node is to become the only member, in this generation:
	// raft has not been told yet.
	Recover bool `json:"recover,omitempty"`
	// Overtaken is the generation in which the cluster was recovered without this
	// node; zero: it was not, as far as is known.
	Overtaken uint64 `json:"overtaken,omitempty"`
}

// archive is the directory of a node.
type archive struct {
	dir    string
	disk   *disk
	lock   *os.File
	papers papers
	past   bool // there were papers
}

const (
	papersName = "node.json"
	logDir     = "log"
)

// openArchive locks dir and reads what is there. A directory without papers gets
// new ones: it is another node.
func openArchive(dir string) (*archive, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	a := &archive{dir: dir, lock: lock, disk: &disk{}}
	if a.disk.root, err = os.OpenRoot(dir); err != nil {
		lock.Close()
		return nil, err
	}
	b, err := a.disk.read(papersName)
	switch {
	case errors.Is(err, fs.ErrNotExist) && exists(filepath.Join(dir, logDir, ballotName)):
		// Another node must not go on with the log and the votes of this one.
		err = fmt.Errorf("%s: it is gone: %w", filepath.Join(dir, papersName), errLogDamaged)
	case errors.Is(err, fs.ErrNotExist):
		a.papers.Node = NewID()
		err = a.save(a.papers)
	case err == nil:
		a.past = true
		if err = json.Unmarshal(b, &a.papers); err == nil && a.papers.Node.IsZero() {
			err = errors.New("no node id")
		}
		if err != nil {
			err = fmt.Errorf("%s: %w: %w", filepath.Join(dir, papersName), err, errLogDamaged)
		} else if path := filepath.Join(dir, logDir, ballotName); !a.papers.Formation.IsZero() && !exists(path) {
			// The log is there before a node is part of a cluster. Without it the node
			// would have forgotten what it has promised the others.
			err = fmt.Errorf("%s: it is gone: %w", path, errNoBallot)
		}
	}
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// save makes p what this node remembers: whole or not at all, and for good.
func (a *archive) save(p papers) error {
	b, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return err
	}
	err = a.disk.create(filepath.Join(a.dir, papersName), func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
	if err == nil {
		a.papers = p
	}
	return err
}

func (a *archive) close() {
	_ = a.disk.root.Close()
	a.lock.Close()
}

// chown gives everything in the directory to somebody else.
func (a *archive) chown(uid, gid int) error {
	return filepath.WalkDir(a.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}
