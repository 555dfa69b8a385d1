//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockDir has a locked file for each living lab. The lock ends with the process,
// whatever ends it.
const lockDir = "/run/pen-lab"

// dirPattern begins the names of the labs' directories.
const dirPattern = "pen-lab-"

// take makes the lab's file and locks it. It will say where the lab's directory is.
func take(prefix string) (*os.File, error) {
	if err := os.MkdirAll(lockDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(lockDir, prefix), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

// ours is how namespaces of labs are named.
var ours = regexp.MustCompile(`^pen\d+-\d+-`)

// sweep removes what labs have left behind whose process is gone.
func sweep() (err error) {
	paths, _ := filepath.Glob(filepath.Join(netnsDir, "pen*"))
	locks, _ := filepath.Glob(filepath.Join(lockDir, "pen*"))
	dead := map[string]bool{}
	for _, path := range append(paths, locks...) {
		if prefix := ours.FindString(filepath.Base(path)); prefix != "" && !alive(prefix) {
			dead[prefix] = true
		}
	}
	for prefix := range dead {
		lock := filepath.Join(lockDir, prefix)
		if dir, _ := os.ReadFile(lock); strings.HasPrefix(filepath.Base(string(dir)), dirPattern) {
			err = errors.Join(err, os.RemoveAll(string(dir)))
		}
		err = errors.Join(err, removeNamespaces(prefix))
		_ = os.Remove(lock) // there is none if the lab ended early
	}
	return err
}

// alive tells whether somebody has the lock.
func alive(prefix string) bool {
	f, err := os.OpenFile(filepath.Join(lockDir, prefix), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

// removeNamespaces removes all namespaces with that prefix and kills who lives in
// them: a namespace stays as long as somebody does.
func removeNamespaces(prefix string) error {
	paths, _ := filepath.Glob(filepath.Join(netnsDir, prefix+"*"))
	var lines []string
	for _, path := range paths {
		if id, err := identify(path); err == nil {
			signalAll(inhabitants(id), syscall.SIGKILL)
		}
		lines = append(lines, "netns delete "+filepath.Base(path))
	}
	if lines == nil {
		return nil
	}
	return ip("", strings.Join(lines, "\n"))
}
