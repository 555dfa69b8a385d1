package cluster

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// logFiles is the directory of the log as the package that writes it wants to see
// it: what it writes is tried until it works. That package does not get over an
// error: one that comes when it begins a new file ends the log until a restart.
type logFiles struct {
	*walfs.FS
	health *health
	begun  func(name string) error // is told before the first sync of a file counts
}

// Create is of types.VFS.
func (l logFiles) Create(dir, name string, size uint64) (f types.WritableFile, err error) {
	path := filepath.Join(dir, name)
	failed := false
	err = l.health.step("create", path, func() (err error) {
		if failed { // a file that got no room is in the way
			if err := ignoreMissing(os.Remove(path)); err != nil {
				return err
			}
		}
		f, err = l.FS.Create(dir, name, size)
		failed = !errors.Is(err, fs.ErrExist)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &logFile{WritableFile: f, path: path, health: l.health, begun: l.begun}, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// OpenWriter is of types.VFS.
func (l logFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := l.FS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &logFile{WritableFile: f, path: filepath.Join(dir, name), health: l.health, begun: l.begun}, nil
}

// logFile is a file of the log. It is written by one goroutine.
type logFile struct {
	types.WritableFile
	path   string
	health *health
	begun  func(name string) error // nil: it was told
	fresh  []written               // since the last sync
}

type written struct {
	b  []byte
	at int64
}

// WriteAt is of types.WritableFile.
func (f *logFile) WriteAt(b []byte, at int64) (n int, err error) {
	err = f.health.step("write", f.path, func() error {
		n, err = f.put(b, at)
		return err
	})
	f.fresh = append(f.fresh, written{bytes.Clone(b), at})
	return n, err
}

// put writes. That a write ends with the file is no error.
func (f *logFile) put(b []byte, at int64) (int, error) {
	n, err := f.WritableFile.WriteAt(b, at)
	if errors.Is(err, io.EOF) && n == len(b) {
		err = nil
	}
	return n, err
}

// Sync is of types.WritableFile. After an error nobody knows what the disk holds,
// and a second sync may succeed without having written anything. So all that was
// not synced is written once more before it.
func (f *logFile) Sync() error {
	failed := false
	err := f.health.step("sync", f.path, func() error {
		if failed {
			for _, w := range f.fresh {
				if _, err := f.put(w.b, w.at); err != nil {
					return err
				}
			}
		}
		err := f.WritableFile.Sync()
		if err == nil && failed {
			// That of the directory comes with the first sync only.
			err = syncPath(filepath.Dir(f.path))
		}
		failed = failed || err != nil
		return err
	})
	if err != nil {
		return err
	}
	clear(f.fresh)
	f.fresh = f.fresh[:0]
	if f.begun != nil {
		if err = f.begun(filepath.Base(f.path)); err == nil {
			f.begun = nil
		}
	}
	return err
}

func syncPath(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return syncDir(root)
}
