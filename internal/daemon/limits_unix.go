//go:build unix

package daemon

import (
	"fmt"
	"math"
	"syscall"
)

// raiseFiles raises the limit of open files as far as the process may, and
// beyond the hard limit if need asks for it and the process has the privilege.
// It returns the limit that is now in force.
func raiseFiles(need int) (files, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	if uint64(r.Max) < uint64(need) { //nolint:unconvert // signed on FreeBSD
		wish := r
		set(&wish.Cur, need)
		set(&wish.Max, need)
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &wish) == nil {
			return files(need), nil
		}
	}
	if r.Cur != r.Max {
		soft := r.Cur
		r.Cur = r.Max
		// macOS names no hard limit and then refuses it.
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
			r.Cur = soft
		}
	}
	return files(min(uint64(r.Cur), math.MaxInt)), nil //nolint:unconvert // signed on FreeBSD
}

// set assigns to a field that is signed on some systems only.
func set[T int64 | uint64](field *T, v int) { *field = T(v) }
