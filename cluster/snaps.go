package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// snapStore keeps raft's snapshots, each in a directory of its own. What is in
// the state's file has a checksum, which the package that writes it keeps beside it
// in another file, which has none: so that one gets a third.
//
// It shows the newest snapshot only. Raft would take an older one for one that is
// damaged, and the log begins after the newest.
type snapStore struct {
	raft.SnapshotStore
	dir string
}

const (
	snapsDir  = "snapshots"
	snapMeta  = "meta.json"
	snapState = "state.bin"
	snapSum   = "meta.sum"

	snapSumMagic = "pen snapshot 1 "
)

func openSnapshots(dir string, logs raft.LogStore, log *slog.Logger) (raft.SnapshotStore, error) {
	s, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: newRaftLog(log), DisableTime: true}))
	if err != nil {
		return nil, fmt.Errorf("open snapshots in %s: %w", dir, err)
	}
	dir = filepath.Join(dir, snapsDir)
	if err := checkSnapshots(dir, logs); err != nil {
		return nil, err
	}
	return &snapStore{s, dir}, nil
}

// List is of raft.SnapshotStore.
func (s *snapStore) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.SnapshotStore.List()
	return all[:min(len(all), 1)], err
}

// Create is of raft.SnapshotStore.
func (s *snapStore) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, at, trans)
	if err != nil {
		return nil, err
	}
	// The directory gets its name when it is complete, with this file in it.
	if err := sumSnapshot(filepath.Join(s.dir, sink.ID()+temporary)); err != nil {
		return nil, errors.Join(err, sink.Cancel())
	}
	return sink, nil
}

// snapPapers are what is known of a snapshot beside its state.
type snapPapers struct {
	raft.SnapshotMeta
	CRC []byte
}

// sum is the line with the checksum of everything that is known before the state
// is written. Its size and its checksum prove themselves.
func (p snapPapers) sum() ([]byte, error) {
	p.Size, p.CRC = 0, nil
	b, err := json.Marshal(p)
	return fmt.Appendf(nil, "%s%08x\n", snapSumMagic, crc32.Checksum(b, castagnoli)), err
}

// sumSnapshot writes the checksum of a snapshot that was begun.
func sumSnapshot(dir string) error {
	p, err := readSnapPapers(dir)
	if err != nil {
		return err
	}
	line, err := p.sum()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, snapSum), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Sync(), f.Close())
}

func readSnapPapers(dir string) (p snapPapers, err error) {
	b, err := os.ReadFile(filepath.Join(dir, snapMeta))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	return p, err
}

// checkSnapshots refuses a directory of which raft would make a wrong state: the
// newest snapshot has to be whole, and the log has to go on where it ends.
func checkSnapshots(dir string, logs raft.LogStore) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var newest snapName
	for _, e := range entries {
		if n, ok := parseSnapName(e.Name()); ok && e.IsDir() && newest.before(n) {
			newest = n
		}
	}
	for _, e := range entries {
		if n, ok := parseSnapName(e.Name()); ok && e.IsDir() {
			if err := checkSnapshot(filepath.Join(dir, e.Name()), n, n == newest); err != nil {
				return err
			}
		}
	}
	first, err := logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := logs.LastIndex()
	if err != nil {
		return err
	}
	switch {
	case first > newest.index+1 && newest.index == 0:
		return fmt.Errorf("%s: the log begins with entry %d, and the snapshot of what was before is missing: %w", dir, first, errLogDamaged)
	case first > newest.index+1:
		return fmt.Errorf("%s: the snapshot ends with entry %d, and the log begins with entry %d: %w", filepath.Join(dir, newest.text), newest.index, first, errLogDamaged)
	case last > 0 && last < newest.index:
		// The process died after it had got a snapshot from the leader. The log
		// can not go on after a gap, and all of it is in the snapshot.
		return logs.DeleteRange(first, last)
	}
	return nil
}

// checkSnapshot tells what is wrong with one. Of those that are not the newest the
// rest of a removal may be there; they only have to be what their name says.
func checkSnapshot(dir string, name snapName, newest bool) error {
	bad := func(file, format string, args ...any) error {
		return fmt.Errorf("%s: %s: %w", filepath.Join(dir, file), fmt.Sprintf(format, args...), errLogDamaged)
	}
	p, err := readSnapPapers(dir)
	switch {
	case err != nil && !newest:
		return nil // raft passes over it, too
	case err != nil:
		return bad(snapMeta, "%v", err)
	case p.ID != name.text || p.Term != name.term || p.Index != name.index:
		return bad(snapMeta, "it is of snapshot %q, term %d, entry %d", p.ID, p.Term, p.Index)
	}
	want, err := p.sum()
	if err != nil {
		return err
	}
	switch got, err := os.ReadFile(filepath.Join(dir, snapSum)); {
	case errors.Is(err, fs.ErrNotExist): // an older version wrote it
	case err != nil:
		return err
	case !bytes.Equal(got, want):
		return bad(snapMeta, "it does not match the checksum in %s", snapSum)
	}
	if p.Version < raft.SnapshotVersionMin || p.Version > raft.SnapshotVersionMax {
		return fmt.Errorf("%s: version %d, this program knows %d to %d; install a newer one", filepath.Join(dir, snapMeta), p.Version, raft.SnapshotVersionMin, raft.SnapshotVersionMax)
	}
	if !newest {
		return nil
	}
	f, err := os.Open(filepath.Join(dir, snapState))
	if errors.Is(err, fs.ErrNotExist) {
		return bad(snapState, "it is missing")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h := crc64.New(crc64.MakeTable(crc64.ECMA))
	switch n, err := io.Copy(h, f); {
	case err != nil:
		return err
	case n != p.Size:
		return bad(snapState, "%d bytes, and %s says %d", n, snapMeta, p.Size)
	case !bytes.Equal(h.Sum(nil), p.CRC):
		return bad(snapState, "it does not match the checksum in %s", snapMeta)
	}
	return nil
}

// snapName is the name of a snapshot's directory. The zero one is none.
type snapName struct {
	term, index, time uint64
	text              string
}

func (n snapName) before(o snapName) bool {
	switch {
	case n.term != o.term:
		return n.term < o.term
	case n.index != o.index:
		return n.index < o.index
	}
	return n.text < o.text
}

func parseSnapName(s string) (n snapName, ok bool) {
	part := strings.Split(s, "-")
	if len(part) != 3 {
		return n, false
	}
	for i, to := range []*uint64{&n.term, &n.index, &n.time} {
		v, err := strconv.ParseUint(part[i], 10, 64)
		if err != nil {
			return n, false
		}
		*to = v
	}
	n.text = s
	return n, true
}
