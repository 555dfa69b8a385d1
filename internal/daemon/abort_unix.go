//go:build unix

package daemon

import "golang.org/x/sys/unix"

// allowCore raises the limit of core files as far as it goes.
func allowCore() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &limit)
	}
}
