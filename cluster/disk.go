package cluster

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// disk is what a store does to its files. Tests stop it between any two steps
// and fill it up; nil fields mean the real thing.
//
// Paths are for messages and tests. The files are found through the directory
// that was opened at the start: the process may go into a jail afterwards, from
// which the path leads nowhere.
type disk struct {
	root  *os.Root
	step  func(op, path string, do func() error) error
	write func(f *os.File, b []byte, at int64) (int, error)
}

func (d *disk) do(op, path string, do func() error) error {
	if d.step != nil {
		return d.step(op, path, do)
	}
	return do()
}

func (d *disk) writeAt(f *os.File, b []byte, at int64) error {
	return d.do("write", f.Name(), func() (err error) {
		if d.write != nil {
			_, err = d.write(f, b, at)
		} else {
			_, err = f.WriteAt(b, at)
		}
		return err
	})
}

func (d *disk) sync(f *os.File) error { return d.do("sync", f.Name(), f.Sync) }

func (d *disk) truncate(f *os.File, size int64) error {
	return d.do("truncate", f.Name(), func() error { return f.Truncate(size) })
}

func (d *disk) remove(path string) error {
	return d.do("remove", path, func() error { return d.root.Remove(filepath.Base(path)) })
}

func (d *disk) open(path string, flag int) (*os.File, error) {
	return d.root.OpenFile(filepath.Base(path), flag, 0o600)
}

func (d *disk) read(path string) ([]byte, error) { return d.root.ReadFile(filepath.Base(path)) }

func (d *disk) syncDir(dir string) error {
	return d.do("syncdir", dir, func() error { return syncDir(d.root) })
}

// create makes a file that is there whole or not at all, also after a power
// cut: it is written under another name, then renamed. A brokenError says that
// the file may be there nevertheless.
func (d *disk) create(path string, fill func(io.Writer) error) error {
	temp := path + temporary
	if err := d.fill(temp, fill); err != nil {
		_ = d.remove(temp) // it is in nobody's way if this does not work
		return fmt.Errorf("create %s: %w", path, err)
	}
	err := d.do("rename", path, func() error { return d.root.Rename(filepath.Base(temp), filepath.Base(path)) })
	if err == nil {
		err = d.syncDir(filepath.Dir(path))
	}
	if err != nil {
		return brokenError{fmt.Errorf("create %s: %w", path, err)}
	}
	return nil
}

func (d *disk) fill(path string, fill func(io.Writer) error) error {
	var f *os.File
	err := d.do("create", path, func() (err error) {
		f, err = d.open(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR)
		return err
	})
	if err != nil {
		return err
	}
	if err := fill(&fileWriter{disk: d, f: f}); err != nil {
		f.Close()
		return err
	}
	if err := d.sync(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// fileWriter writes a file from its beginning.
type fileWriter struct {
	disk *disk
	f    *os.File
	at   int64
}

func (w *fileWriter) Write(b []byte) (int, error) {
	if err := w.disk.writeAt(w.f, b, w.at); err != nil {
		return 0, err
	}
	w.at += int64(len(b))
	return len(b), nil
}
