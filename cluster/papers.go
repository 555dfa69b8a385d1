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
	"time"
)

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
	// Sum is the checksum of the file, see parsePapers. Older versions write none.
	Sum string `json:"sum,omitempty"`
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
		if a.papers, err = parsePapers(b); err != nil {
			err = fmt.Errorf("%s: %w", filepath.Join(dir, papersName), err)
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

// The checksum is that of the file with zeros in its place. So it counts for what
// later versions have added, too.
const (
	papersSum   = `"sum": "`
	papersNoSum = "00000000"
)

func sumOf(b []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli)) }

// text is the papers as the file holds them.
func (p papers) text() ([]byte, error) {
	p.Sum = papersNoSum
	b, err := json.MarshalIndent(p, "", "\t")
	b = append(b, '\n')
	if at := bytes.LastIndex(b, []byte(papersSum)); err == nil {
		copy(b[at+len(papersSum):], sumOf(b))
	}
	return b, err
}

// parsePapers reads them.
func parsePapers(b []byte) (p papers, err error) {
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("%w: %w", err, errLogDamaged)
	}
	if p.Node.IsZero() {
		return p, fmt.Errorf("no node id: %w", errLogDamaged)
	}
	if p.Sum == "" {
		return p, nil // an older version wrote them
	}
	at := bytes.LastIndex(b, []byte(papersSum+p.Sum)) + len(papersSum)
	if at >= len(papersSum) && len(p.Sum) == len(papersNoSum) {
		zeroed := bytes.Clone(b)
		copy(zeroed[at:], papersNoSum)
		if p.Sum == sumOf(zeroed) {
			return p, nil
		}
	}
	return p, fmt.Errorf("its checksum does not match: %w", errLogDamaged)
}

// save makes p what this node remembers: whole or not at all, and for good.
func (a *archive) save(p papers) error {
	b, err := p.text()
	if err != nil {
		return err
	}
	err = a.disk.create(filepath.Join(a.dir, papersName), func(w io.Writer) error {
		_, err := w.Write(b)
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
