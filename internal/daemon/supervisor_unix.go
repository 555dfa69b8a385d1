//go:build unix

package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// newSupervisor finds the service manager that has started this process; nil: there
// is none that listens. It is called once, before the jail, which has no such
// socket. The variable is taken out of the environment: it is not meant for the
// programs that this process starts.
func newSupervisor(log *slog.Logger) *supervisor {
	name, ok := os.LookupEnv(supervisorEnv)
	_ = os.Unsetenv(supervisorEnv)
	if !ok || name == "" {
		return nil
	}
	s, err := dialSupervisor(name)
	if err != nil {
		log.Warn("the service manager is told nothing", "err", err)
		return nil
	}
	return s
}

// dialSupervisor takes a path, or a name after @ that is in no directory.
func dialSupervisor(name string) (*supervisor, error) {
	if name[0] != '/' && name[0] != '@' {
		return nil, fmt.Errorf("%s is %q: neither a path nor a name after @", supervisorEnv, name)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", supervisorEnv, err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", supervisorEnv, err)
	}
	send := func(text string) (err error) {
		// The socket does not block, and nobody waits here until it has room.
		if failed := raw.Write(func(fd uintptr) bool {
			_, err = unix.Write(int(fd), []byte(text))
			return true
		}); failed != nil {
			return failed
		}
		return err
	}
	return &supervisor{send: send, now: monotonic}, nil
}

// monotonic is the clock by which the service manager orders what it hears.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("no monotonic clock: " + err.Error()) // every Unix has it
	}
	return ts.Nano() / 1000
}
