//go:build unix

package config

import (
	"os"
	"path/filepath"
	"syscall"
)

// keepOwner gives the file the owner of the old one, which only root can do.
func keepOwner(file *os.File, old os.FileInfo) {
	if s, ok := old.Sys().(*syscall.Stat_t); ok {
		_ = file.Chown(int(s.Uid), int(s.Gid))
	}
}

// planted tells whether a link was put there by somebody else, where everybody
// can put something.
func planted(path string, link os.FileInfo) bool {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil || dir.Mode().Perm()&0o002 == 0 {
		return false
	}
	s, ok := link.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) != os.Geteuid()
}

// syncDir makes a rename last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
