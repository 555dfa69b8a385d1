package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"pen/state"
)

// store keeps a machine's commands and snapshots in a directory:
//
//	lock                      held by the process that has it open
//	00000000000000000000.log  the commands after the one with that number
//	00000000000000004711.snap the state after the command with that number
//
// What holds at every moment: the newest snapshot, or the empty state, and the
// segments from the last one that begins at or before it give the state.
type store struct {
	disk *disk
	dir  string
	log  *slog.Logger
	lock *os.File
	tail *segment

	older    int64 // bytes in segments before the tail that no snapshot covers
	snapshot snapshotFile
}

type snapshotFile struct {
	index uint64
	size  int64
	time  time.Time // zero: there is none
}

const (
	logs      = ".log"
	snapshots = ".snap"
	temporary = ".tmp"
)

func (s *store) path(index uint64, kind string) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d%s", index, kind))
}

// openStore locks the directory and brings the machine, which must be new, to
// the state that is kept there. Fresh tells that nothing was.
func openStore(d *disk, dir string, m *state.Machine, log *slog.Logger) (s *store, fresh bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, false, err
	}
	s = &store{disk: d, dir: dir, log: log, lock: lock}
	if d.root, err = os.OpenRoot(dir); err != nil {
		s.unlock()
		return nil, false, err
	}
	fresh, err = s.load(m)
	if err != nil {
		s.unlock()
		return nil, false, err
	}
	return s, fresh, nil
}

func (s *store) unlock() {
	if s.tail != nil {
		s.tail.f.Close()
	}
	if s.disk.root != nil {
		_ = s.disk.root.Close()
	}
	s.lock.Close()
}

// chown gives the directory and what is in it to somebody else.
func (s *store) chown(uid, gid int) error {
	snaps, segments, err := s.files()
	if err != nil {
		return err
	}
	names := []string{".", filepath.Base(s.lock.Name())}
	for _, i := range snaps {
		names = append(names, filepath.Base(s.path(i, snapshots)))
	}
	for _, i := range segments {
		names = append(names, filepath.Base(s.path(i, logs)))
	}
	for _, name := range names {
		if err := s.disk.root.Chown(name, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) load(m *state.Machine) (fresh bool, err error) {
	snaps, segments, err := s.files()
	if err != nil {
		return false, err
	}
	if len(snaps)+len(segments) == 0 {
		s.tail, err = createSegment(s.disk, s.path(0, logs), 0)
		return true, err
	}
	if len(snaps) > 0 {
		if err := s.restore(m, snaps[len(snaps)-1]); err != nil {
			return false, err
		}
	}
	if err := s.replay(m, segments); err != nil {
		return false, err
	}
	return false, s.sweep()
}

// files returns the numbers of the snapshots and segments, in order, and
// removes what was never finished.
func (s *store) files() (snaps, segments []uint64, err error) {
	entries, err := fs.ReadDir(s.disk.root.FS(), ".")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name, unfinished := strings.CutSuffix(e.Name(), temporary)
		kind := filepath.Ext(name)
		index, err := strconv.ParseUint(strings.TrimSuffix(name, kind), 10, 64)
		switch {
		case err != nil || name != filepath.Base(s.path(index, kind)) || kind != snapshots && kind != logs:
		case unfinished:
			if err := s.disk.remove(filepath.Join(s.dir, e.Name())); err != nil {
				return nil, nil, err
			}
		case kind == snapshots:
			snaps = append(snaps, index)
		default:
			segments = append(segments, index)
		}
	}
	return snaps, segments, nil
}

func (s *store) restore(m *state.Machine, index uint64) error {
	path := s.path(index, snapshots)
	f, err := s.disk.open(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := m.Restore(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if got := m.View().Index; got != index {
		return fmt.Errorf("%s: it holds the state after command %d", path, got)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s.snapshot = snapshotFile{index, info.Size(), info.ModTime()}
	return nil
}

// replay applies the commands after the snapshot and opens the last segment
// for writing.
func (s *store) replay(m *state.Machine, segments []uint64) error {
	begin := m.View().Index
	first := -1
	for i, base := range segments {
		if base <= begin {
			first = i
		}
	}
	if first < 0 {
		return fmt.Errorf("%s is missing", s.path(begin, logs))
	}
	segments = segments[first:]
	for i, base := range segments {
		last := i == len(segments)-1
		end, err := s.replaySegment(m, base, last)
		if err != nil {
			return err
		}
		if !last && end != segments[i+1] {
			return fmt.Errorf("%s ends with command %d, but the next is %s", s.path(base, logs), end, s.path(segments[i+1], logs))
		}
		if last && end < m.View().Index {
			// The snapshot was taken because this segment had gone bad.
			return s.begin(m.View().Index)
		}
	}
	return nil
}

// replaySegment applies what the machine does not have yet. It returns the
// number of the last command.
func (s *store) replaySegment(m *state.Machine, base uint64, last bool) (uint64, error) {
	path := s.path(base, logs)
	b, err := s.disk.read(path)
	if err != nil {
		return 0, err
	}
	if err := checkHeader(b, base); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	index, at := base, int64(segmentHead)
	for at < int64(len(b)) {
		r, bad := readRecord(b[at:], at)
		if bad != nil {
			if !last {
				return 0, fmt.Errorf("%s: byte %d: %w, but it is not the last segment", path, at, bad)
			}
			if proof, ok := torn(b, at, index+1); !ok {
				return 0, fmt.Errorf("%s: byte %d: %w, but it was on the disk before the record at byte %d", path, at, bad, proof)
			}
			s.log.Warn("cut torn end of log", "file", path, "offset", at, "bytes", int64(len(b))-at, "reason", bad)
			break
		}
		if err := apply(m, r, index); err != nil {
			return 0, fmt.Errorf("%s: byte %d: %w", path, at, err)
		}
		index = r.index
		at += r.size
	}
	if !last {
		s.older += int64(len(b))
		return index, nil
	}
	return index, s.openTail(path, at, int64(len(b)))
}

// apply applies a record that follows command number last.
func apply(m *state.Machine, r record, last uint64) error {
	if len(r.command) == 0 {
		if r.index != last {
			return fmt.Errorf("mark after command %d, want %d", r.index, last)
		}
		return nil
	}
	if r.index != last+1 {
		return fmt.Errorf("command %d, want %d", r.index, last+1)
	}
	c, err := state.Decode(r.command)
	if err != nil {
		return err
	}
	if r.index == m.View().Index+1 {
		m.Apply(c) // one that was refused then is refused now
	}
	return nil
}

func (s *store) openTail(path string, end, size int64) error {
	f, err := s.disk.open(path, os.O_RDWR)
	if err != nil {
		return err
	}
	s.tail = &segment{disk: s.disk, f: f, path: path, end: end, safe: segmentHead}
	if end < size {
		if err := s.disk.truncate(f, end); err != nil {
			return err
		}
	}
	// What was read may never have been synced by the process that died.
	if err := s.disk.sync(f); err != nil {
		return err
	}
	s.tail.safe = end
	return nil
}

// begin starts a new segment after a command.
func (s *store) begin(index uint64) error {
	next, err := createSegment(s.disk, s.path(index, logs), index)
	if err != nil {
		return err
	}
	if s.tail != nil {
		s.older += s.tail.end
		s.tail.f.Close()
	}
	s.tail = next
	return nil
}

// save writes a snapshot. It uses nothing of the store that changes.
func (s *store) save(snap *state.Snapshot) (snapshotFile, error) {
	var size int64
	err := s.disk.create(s.path(snap.Index(), snapshots), func(w io.Writer) (err error) {
		size, err = snap.WriteTo(w)
		return err
	})
	if err != nil {
		return snapshotFile{}, err
	}
	return snapshotFile{snap.Index(), size, time.Now()}, nil
}

// sweep removes what the newest snapshot has made superfluous.
func (s *store) sweep() error {
	snaps, segments, err := s.files()
	if err != nil {
		return err
	}
	var all []error
	for _, i := range snaps {
		if i < s.snapshot.index {
			all = append(all, s.disk.remove(s.path(i, snapshots)))
		}
	}
	if i, found := slices.BinarySearch(segments, s.snapshot.index); !found {
		segments = segments[:max(0, i-1)]
	} else {
		segments = segments[:i]
	}
	for _, i := range segments {
		all = append(all, s.disk.remove(s.path(i, logs)))
	}
	return errors.Join(all...)
}
