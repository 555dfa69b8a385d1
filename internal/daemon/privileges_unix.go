//go:build unix

package daemon

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// jail makes dir the root directory for good. The process must become another
// user after it: root can leave a jail.
func jail(dir string) error {
	_, _ = time.Now().Local().Zone() // reads the time zone, which the jail need not have
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("chroot %s: %w", dir, err)
	}
	if err := syscall.Chroot("."); err != nil {
		return fmt.Errorf("chroot %s: %w", dir, err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("chroot %s: %w", dir, err)
	}
	return nil
}

// become makes the process that user: all threads, real, effective and saved
// ids, and no group but the user's own. It does not believe the kernel's word
// and looks. After an error the process may be anything and must end.
func (a account) become() error {
	if os.Geteuid() != 0 {
		if a.is() {
			return nil // and keeps its groups, which only root can drop
		}
		return fmt.Errorf("run as %s: only root can become another user", a.name)
	}
	if err := syscall.Setgroups([]int{a.gid}); err != nil {
		return fmt.Errorf("run as %s: drop groups: %w", a.name, err)
	}
	if err := syscall.Setgid(a.gid); err != nil {
		return fmt.Errorf("run as %s: set group %d: %w", a.name, a.gid, err)
	}
	if err := syscall.Setuid(a.uid); err != nil {
		return fmt.Errorf("run as %s: set user %d: %w", a.name, a.uid, err)
	}
	groups, err := syscall.Getgroups()
	switch {
	case err != nil:
		return fmt.Errorf("run as %s: %w", a.name, err)
	case !a.is() || slices.ContainsFunc(groups, func(g int) bool { return g != a.gid }):
		return fmt.Errorf("run as %s: the system did not do it", a.name)
	case a.uid != 0 && syscall.Setuid(0) == nil:
		return errors.New("run as " + a.name + ": the way back to root is open")
	}
	return nil
}

// is tells whether the process is that user.
func (a account) is() bool {
	return os.Getuid() == a.uid && os.Geteuid() == a.uid && os.Getgid() == a.gid && os.Getegid() == a.gid
}
