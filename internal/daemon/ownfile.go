package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ownFile refuses a file in the directory that the cluster keeps on this node: what
// somebody writes there takes the place of what the node has promised the others.
func (d *daemon) ownFile(path string) error {
	dir := d.local.Load().DataDir
	if dir == "" {
		return nil
	}
	dir = filepath.Join(dir, "cluster")
	whole, err := resolved(path, 0)
	if err != nil {
		return nil // it can not be written either, which says why
	}
	own, err := resolved(dir, 0)
	if err != nil {
		return nil // there is no such directory
	}
	if whole == own || strings.HasPrefix(whole, own+string(filepath.Separator)) {
		return fmt.Errorf("%s is in %s, where the cluster keeps what this node has promised the others: give another name", path, dir)
	}
	return nil
}

const maxLinks = 40 // as the kernel follows

// resolved is where a file is or would be, behind all links. Its directory exists.
func resolved(path string, links int) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	whole, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return whole, err
	}
	if to, err := os.Readlink(path); err == nil && links < maxLinks { // to nowhere yet
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		return resolved(to, links+1)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}
