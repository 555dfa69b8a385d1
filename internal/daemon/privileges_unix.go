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
// ids, no group but the user's own, and no capability but those to keep. It does
// not believe the kernel's word and looks. After an error the process may be
// anything and must end.
//
// Root as the user stays root: what it may do is not the capabilities' doing.
func (a account) become(keep ...capability) error {
	if err := a.switchTo(keep); err != nil {
		return fmt.Errorf("run as %s: %w", a.name, err)
	}
	return nil
}

func (a account) switchTo(keep capabilities) error {
	if os.Geteuid() == 0 {
		if err := a.leaveRoot(keep); err != nil {
			return err
		}
	} else if !a.is() {
		return errors.New("only root can become another user")
	} // and a user who stays keeps the groups, which only root can drop
	if a.uid == 0 {
		return nil
	}
	if err := keep.only(); err != nil {
		return err
	}
	if syscall.Setuid(0) == nil {
		return errors.New("the way back to root is open")
	}
	return nil
}

// leaveRoot changes the ids. Effective capabilities are gone with them.
func (a account) leaveRoot(keep capabilities) error {
	if a.uid != 0 {
		if err := keep.survive(); err != nil {
			return err
		}
	}
	if err := syscall.Setgroups([]int{a.gid}); err != nil {
		return fmt.Errorf("drop groups: %w", err)
	}
	if err := syscall.Setgid(a.gid); err != nil {
		return fmt.Errorf("set group %d: %w", a.gid, err)
	}
	if err := syscall.Setuid(a.uid); err != nil {
		return fmt.Errorf("set user %d: %w", a.uid, err)
	}
	groups, err := syscall.Getgroups()
	switch {
	case err != nil:
		return err
	case !a.is() || slices.ContainsFunc(groups, func(g int) bool { return g != a.gid }):
		return errors.New("the system did not do it")
	}
	return nil
}

// is tells whether the process is that user.
func (a account) is() bool {
	return os.Getuid() == a.uid && os.Geteuid() == a.uid && os.Getgid() == a.gid && os.Getegid() == a.gid
}
