package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"pen/state"
)

// Save writes the settings to a file as Write does. The file is the old one or
// the new one at any time, also when the power fails: it is written beside it,
// flushed and renamed. Its mode and, if possible, its owner stay; a new file is
// for its owner alone. A symbolic link stays one, and its target is replaced;
// what is not a regular file is refused, and so is another's link in a directory
// that everybody can write to.
func Save(path string, v *state.View, l Local, now time.Time) error {
	return save(path, true, func(w io.Writer, target string) error {
		l := l.movedTo(path)
		l.File = target // as the original says
		return Write(w, v, l, now)
	})
}

// SaveSecret writes a file as Save does, which is then for its owner alone, also
// if it was there before.
func SaveSecret(path string, write func(io.Writer) error) error {
	return save(path, false, func(w io.Writer, _ string) error { return write(w) })
}

func save(path string, keep bool, write func(w io.Writer, target string) error) (err error) {
	path, old, err := target(path)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
			err = fmt.Errorf("save %s: %w", path, err)
		}
	}()
	if err := write(file, path); err != nil {
		return err
	}
	if old != nil && keep {
		keepOwner(file, old)
		if err := file.Chmod(old.Mode().Perm()); err != nil {
			return err
		}
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// target follows a link and says what is there now, if anything.
func target(path string) (string, os.FileInfo, error) {
	if path == "" {
		return "", nil, errors.New("no file is named")
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return path, nil, nil
	case err != nil:
		return "", nil, err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		if planted(path, info) {
			return "", nil, fmt.Errorf("%s is somebody else's link in a directory open to all", path)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", nil, err
		}
		if info, err = os.Lstat(path); err != nil {
			return "", nil, err
		}
	}
	if !info.Mode().IsRegular() {
		return "", nil, fmt.Errorf("%s is not a regular file", path)
	}
	return path, info, nil
}
