package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
)

// errRootControl is why there is no control port for root without -u.
var errRootControl = errors.New("Won't open control port running as root; use -u to run as different user") //nolint:staticcheck // the original's words

// account is the user that the process is going to be.
type account struct {
	name     string
	uid, gid int
}

// lookAccount finds a user by name, or by number. It comes before chroot, which
// hides the table of users.
func lookAccount(name string) (account, error) {
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		if u, err = user.LookupId(name); err != nil {
			return account{}, fmt.Errorf("user %s: no such user", name)
		}
	}
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, fmt.Errorf("user %s: user number: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return account{}, fmt.Errorf("user %s: group number: %w", name, err)
	}
	return account{name, uid, gid}, nil
}

// stillOurs tells why the directory, which was what it was before the process
// became another user and went into its jail, can not be used any more by its
// path. The log of a cluster opens files in it now and then, and the first time
// may be days away.
func stillOurs(dir string, was fs.FileInfo) error {
	is, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(is, was) {
		return fmt.Errorf("data_dir: %s is not there in the chroot directory: the log of a cluster must be inside, under the same path", dir)
	}
	var f *os.File
	if err == nil {
		f, err = os.CreateTemp(dir, ".probe-*")
	}
	if err != nil {
		return fmt.Errorf("data_dir: the user of the process can not use %s: it must own it, and be able to pass every directory above it: %w", dir, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
