package daemon

import (
	"errors"
	"fmt"
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
