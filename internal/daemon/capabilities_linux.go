package daemon

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"pen/internal/config"
	"pen/state"
)

// A capability is a part of root's power, and the word of the language that
// needs it.
type capability struct {
	value cap.Value
	word  string
}

// capabilities are what is left to a process that is not root.
type capabilities []capability

// String lists them for the log: "CAP_NET_ADMIN (vip), CAP_NET_RAW (vip)".
func (c capabilities) String() string {
	all := make([]string, len(c))
	for i, k := range c {
		all[i] = strings.ToUpper(k.value.String()) + " (" + k.word + ")"
	}
	return strings.Join(all, ", ")
}

// needed is what the configuration needs after the start. A node that stands
// alone needs nothing but for transparent and dsr_if: as with the original, what was
// opened is open, and everything is dropped.
func needed(l *config.Local, v *state.View) capabilities {
	var c capabilities
	if witness(&l.Membership) {
		return c // it serves nobody: the file is everybody's
	}
	if len(l.VIPs) == 0 {
		c = append(c, raw(v)...)
	} else {
		// To add the addresses and to fence them, and for announcements. The
		// sockets of the latter are opened anew with each holding.
		c = append(c, capability{cap.NET_ADMIN, "vip"}, capability{cap.NET_RAW, "vip"})
	}
	if !l.Clustered() {
		return c
	}
	// The settings are everybody's: a port that another node moves is opened here
	// too, at any time. The control port is opened once, before.
	from := unprivilegedPorts()
	if slices.ContainsFunc(v.Services, func(s *state.Service) bool { return needsRoot(s.Listen, from) }) {
		c = append(c, capability{cap.NET_BIND_SERVICE, "listen"})
	}
	return c
}

// raw is what it takes to connect from the addresses of clients and to pass packets on,
// where no virtual address asks for it anyway. For the former the kernel takes
// CAP_NET_ADMIN as well, with which one can do much more.
func raw(v *state.View) capabilities {
	switch {
	case slices.ContainsFunc(v.Services, func(s *state.Service) bool { return s.Transparent && !s.Source.IsValid() }):
		return capabilities{{cap.NET_RAW, "transparent"}}
	case slices.ContainsFunc(v.Services, config.Direct):
		// Packet sockets are opened anew when an interface is another one.
		return capabilities{{cap.NET_RAW, "dsr_if"}}
	}
	return nil
}

func needsRoot(l state.Listen, from int) bool {
	return l.Addr.IsValid() && l.Addr.Port() != 0 && int(l.Addr.Port()) < from
}

// unprivilegedPorts is the first port that everybody may listen on.
func unprivilegedPorts() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if from, bad := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && bad == nil {
		return from
	}
	return 1024
}

// survive makes the permitted capabilities outlive the change of the user. The
// kernel drops them otherwise. only ends this.
func (c capabilities) survive() error {
	if len(c) == 0 {
		return nil
	}
	if err := allThreads(); err != nil {
		return err
	}
	if _, err := cap.Prctlw(unix.PR_SET_KEEPCAPS, 1); err != nil {
		return fmt.Errorf("keep %v: %w", c, err)
	}
	return nil
}

// only makes these the capabilities of every thread, as far as they are held:
// what is missing is for those to report who know what for. Nothing is inheritable
// and so nothing ambient; the guard of the virtual addresses is given its share
// when it is started. The bounding set stays as it is: it is the limit for
// programs that gain rights by themselves, like sudo in a notify script.
func (c capabilities) only() error {
	now, want := cap.GetProc(), cap.NewSet()
	for _, k := range c {
		if has, err := now.GetFlag(cap.Permitted, k.value); err != nil || !has {
			continue
		}
		if err := errors.Join(want.SetFlag(cap.Permitted, true, k.value), want.SetFlag(cap.Effective, true, k.value)); err != nil {
			return err
		}
	}
	if err := assume(now, want); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if len(c) > 0 {
		if _, err := cap.Prctlw(unix.PR_SET_KEEPCAPS, 0); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
	}
	return nil
}

// disinherit makes sure that no program that this process starts gets a
// capability or a descriptor by being started. A service manager hands
// capabilities over in this way (systemd's AmbientCapabilities), and what it
// hands over is for this process.
func disinherit() error {
	// What Go opens is closed anyway. Before Linux 5.11 there is no such call.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	now := cap.GetProc()
	want, err := now.Dup()
	if err == nil {
		err = want.ClearFlag(cap.Inheritable)
	}
	if err == nil {
		err = assume(now, want)
	}
	if err != nil {
		return fmt.Errorf("keep capabilities from other programs: %w", err)
	}
	return nil
}

// assume gives every thread the wanted set, and looks.
func assume(now, want *cap.Set) error {
	if same(now, want) {
		return nil
	}
	if err := allThreads(); err != nil {
		return err
	}
	if err := want.SetProc(); err != nil {
		return err
	}
	if now = cap.GetProc(); !same(now, want) {
		return fmt.Errorf("the system did not do it: %v instead of %v", now, want)
	}
	return nil
}

func same(a, b *cap.Set) bool {
	diff, err := a.Cf(b)
	return err == nil && diff == 0
}

// allThreads asks whether all threads can be reached. With the C library they
// are looked for in /proc, and where there is none the library ends the process
// without a word.
func allThreads() error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETUID, 0, 0, 0); errno != syscall.ENOTSUP {
		return nil
	}
	if _, err := os.Stat("/proc/self/task"); err != nil {
		return fmt.Errorf("capabilities of all threads: this program is built with cgo and needs /proc, also in a chroot: %w", err)
	}
	return nil
}

// guardable tells why the guard of the virtual addresses could not be started
// by the process as it is now: in its jail, as its user.
func guardable() error {
	const exe = "/proc/self/exe"
	err := unix.Access(exe, unix.X_OK)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return errors.New("vip: the guard is started from /proc/self/exe, and there is no /proc: mount one in the chroot directory")
	}
	name, _ := os.Readlink(exe)
	return fmt.Errorf("vip: user %d may not execute %s, which is also the guard: chmod a+x, and no noexec mount: %w", os.Geteuid(), name, err)
}
