package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// logMeta is which files the log is made of, in a file that is replaced whole and
// has a checksum. It is what the package that writes the log asks for.
//
// Older versions kept it in a database, which is read once.
type logMeta struct {
	disk   *disk
	path   string
	health *health

	mu   sync.Mutex // guards what follows
	held logPapers
}

// logPapers are what the file holds.
type logPapers struct {
	types.PersistentState
	Stable map[string][]byte `json:",omitempty"`
	// Closed is the last entry that the log had when it was closed in order; 0: it
	// was not, or its end was cut since.
	Closed uint64 `json:",omitempty"`
	// Begun is the last file that entries are in: it was there, and must be.
	Begun string `json:",omitempty"`
}

const (
	logMetaName  = "segments"
	logMetaMagic = "pen segments 1 "
)

func openLogMeta(dir string, h *health) (*logMeta, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	m := &logMeta{disk: &disk{root: root}, path: filepath.Join(dir, logMetaName), health: h}
	b, err := m.disk.read(m.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if m.held.PersistentState, err = loadDatabase(dir); err == nil && len(m.held.Segments) == 0 && exists(filepath.Join(dir, ballotName)) {
			err = fmt.Errorf("it is gone: %w", errLogDamaged) // the ballot comes later than the list
		}
	case err == nil:
		m.held, err = parseLogPapers(b)
	}
	if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("%s: %w", m.path, err)
	}
	return m, nil
}

// text is the papers as the file holds them: a line with the checksum, then JSON.
func (p logPapers) text() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "\t")
	return append(fmt.Appendf(nil, "%s%08x\n", logMetaMagic, crc32.Checksum(b, castagnoli)), b...), err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

var errLogDamaged = errors.New("it is damaged: take the cluster's directory away, and this node joins as a new one")

func parseLogPapers(b []byte) (p logPapers, err error) {
	head, body, _ := bytes.Cut(b, []byte("\n"))
	if !bytes.Equal(head, fmt.Appendf(nil, "%s%08x", logMetaMagic, crc32.Checksum(body, castagnoli))) {
		return p, fmt.Errorf("byte 0: its checksum does not match: %w", errLogDamaged)
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return p, fmt.Errorf("%w: %w", err, errLogDamaged)
	}
	return p, nil
}

// loadDatabase reads what an older version has left, if it has.
func loadDatabase(dir string) (s types.PersistentState, err error) {
	if _, err := os.Stat(filepath.Join(dir, metadb.FileName)); err != nil {
		return s, ignoreMissing(err)
	}
	db := &metadb.BoltMetaDB{}
	defer func() {
		if r := recover(); r != nil { // that is how it says that it is damaged
			err = fmt.Errorf("%s: %v: %w", metadb.FileName, r, errLogDamaged)
		}
	}()
	if s, err = db.Load(dir); err == nil {
		err = db.Close()
	}
	return s, err
}

func (m *logMeta) state() types.PersistentState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held.PersistentState
}

// save makes the papers what counts, on the disk first. It is called with mu held.
func (m *logMeta) save(p logPapers) error {
	return m.health.step("write", m.path, func() error { return m.write(p) })
}

// write is one attempt.
func (m *logMeta) write(p logPapers) error {
	b, err := p.text()
	if err != nil {
		return err
	}
	err = m.disk.create(m.path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
	if err == nil {
		m.held = p
	}
	return err
}

// closed notes that the log ends in order, and where.
func (m *logMeta) closed(last uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.held
	p.Closed = last
	return m.write(p)
}

// checkEnd compares where the log ends with where it ended.
func (m *logMeta) checkEnd(last uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last >= m.held.Closed {
		return nil
	}
	name := "the last file"
	if n := len(m.held.Segments); n > 0 {
		name = segmentName(m.held.Segments[n-1])
	}
	return fmt.Errorf("%s: the log ended with entry %d when it was closed, and ends with entry %d now: %w", name, m.held.Closed, last, errLogDamaged)
}

// begun notes that a file has something on the disk, before that is promised.
func (m *logMeta) begun(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held.Begun == name {
		return nil
	}
	p := m.held
	p.Begun = name
	return m.save(p)
}

// checkFiles refuses a log whose last file is gone. The package that writes the log
// takes it for one that was to be begun when a crash came, and begins it: a voter
// would have forgotten what it has promised. It was to be begun if nothing was ever
// synced in it, and it is not the first, which is there before the ballot is.
func (m *logMeta) checkFiles(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.held.Segments)
	if n == 0 {
		return nil
	}
	name := segmentName(m.held.Segments[n-1])
	path := filepath.Join(dir, name)
	first := m.held.NextSegmentID == 1 && exists(filepath.Join(dir, ballotName))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && (first || m.held.Begun == name) {
		return fmt.Errorf("%s: it is gone, and entries were in it: %w", path, errLogDamaged)
	}
	return nil
}

// Load is of types.MetaStore.
func (m *logMeta) Load(string) (types.PersistentState, error) { return m.state(), nil }

// CommitState is of types.MetaStore.
func (m *logMeta) CommitState(s types.PersistentState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.save(logPapers{PersistentState: s, Stable: m.held.Stable, Begun: m.held.Begun})
}

// GetStable is of types.MetaStore.
func (m *logMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held.Stable[string(key)], nil
}

// SetStable is of types.MetaStore.
func (m *logMeta) SetStable(key, v []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.held
	p.Stable = map[string][]byte{}
	for k, old := range m.held.Stable {
		p.Stable[k] = old
	}
	p.Stable[string(key)] = v
	if v == nil {
		delete(p.Stable, string(key))
	}
	return m.save(p)
}

// Close is of types.MetaStore.
func (m *logMeta) Close() error { return m.disk.root.Close() }
