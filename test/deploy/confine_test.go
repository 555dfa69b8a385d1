//go:build linux

package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"pen/test/rig"
)

// cage is what a service manager or a container engine makes of a process before
// it becomes the program. The test binary does it to itself.
type cage struct {
	Root     string // an empty one gets a /proc; empty: stay in ours
	User     int    // group, too
	Caps     []uintptr
	Calls    []uint32 // that are allowed; nil: all
	Families []uint32 // of sockets that are allowed; nil: all
	Env      []string
}

// write makes a file of the cage and returns the command that runs argv in it.
func (c *cage) write(t testing.TB, dir string, argv ...string) []string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	text, err := json.Marshal(c)
	must(t, err)
	file := filepath.Join(dir, "cage.json")
	must(t, os.WriteFile(file, text, 0o644))
	return append([]string{self, "caged", file}, argv...)
}

// caged is the test binary as the program that becomes another.
func caged(file string, argv []string) error {
	runtime.LockOSThread() // all of this is about one thread
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c cage
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	for _, step := range []func() error{limits, c.shut, c.become, c.filter} {
		if err := step(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", argv[0], unix.Exec(argv[0], argv, c.Env))
}

// limits are the unit's where root may raise them, which it may not in every
// container. Pen does without.
func limits() error {
	for resource, n := range map[int]uint64{unix.RLIMIT_NOFILE: 1 << 20, unix.RLIMIT_MEMLOCK: math.MaxUint64, unix.RLIMIT_RTPRIO: 1} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: n, Max: n}); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("limit %d: %w", resource, err)
		}
	}
	return nil
}

// shut makes Root the root, in which nothing but a /proc is added.
func (c *cage) shut() error {
	if c.Root == "" {
		return nil
	}
	return errors.Join(
		unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", filepath.Join(c.Root, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		unix.Chroot(c.Root), unix.Chdir("/"))
}

// become takes all capabilities but Caps away, also as a limit, and changes the user.
func (c *cage) become() error {
	for k := range uintptr(64) {
		if !slices.Contains(c.Caps, k) && unix.Prctl(unix.PR_CAPBSET_READ, k, 0, 0, 0) == nil {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, k, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("drop capability %d: %w", k, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS},
		{unix.SYS_SETRESGID, uintptr(c.User), uintptr(c.User), uintptr(c.User)},
		{unix.SYS_SETRESUID, uintptr(c.User), uintptr(c.User), uintptr(c.User)},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return fmt.Errorf("become user %d: %w", c.User, errno)
		}
	}
	var data [2]unix.CapUserData
	for _, k := range c.Caps {
		d := &data[k/32]
		d.Permitted |= 1 << (k % 32)
		d.Effective, d.Inheritable = d.Permitted, d.Permitted
	}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for _, k := range c.Caps {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, k, 0, 0); err != nil {
			return fmt.Errorf("ambient capability %d: %w", k, err)
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// filter installs the filter of system calls: the allowed ones pass, the rest get
// EPERM. It must know execve, which comes next.
func (c *cage) filter() error {
	if c.Calls == nil {
		return nil
	}
	const number, firstArg = 0, 16 // in struct seccomp_data, little endian
	const equal, ret = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	const allow, eperm, eafnosupport = 0x7fff0000, 0x00050000 | uint32(unix.EPERM), 0x00050000 | uint32(unix.EAFNOSUPPORT)
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	program := []unix.SockFilter{load(number)}
	pass := func(k uint32) {
		program = append(program, unix.SockFilter{Code: equal, K: k, Jf: 1}, unix.SockFilter{Code: ret, K: allow})
	}
	if c.Families != nil {
		program = append(program, unix.SockFilter{Code: equal, K: unix.SYS_SOCKET, Jf: uint8(2*len(c.Families) + 2)}, load(firstArg))
		for _, family := range c.Families {
			pass(family)
		}
		program = append(program, unix.SockFilter{Code: ret, K: eafnosupport})
	}
	for _, call := range c.Calls {
		pass(call)
	}
	program = append(program, unix.SockFilter{Code: ret, K: eperm})
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("filter of system calls: %w", errno)
	}
	return nil
}

var capabilityNumbers = map[string]uintptr{
	"NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW, "NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "SETGID": unix.CAP_SETGID,
}

func capabilities(t testing.TB, names []string) (all []uintptr) {
	t.Helper()
	for _, name := range names {
		k, ok := capabilityNumbers[strings.TrimPrefix(name, "CAP_")]
		if !ok {
			t.Fatalf("capability %s: unknown to this test", name)
		}
		all = append(all, k)
	}
	return all
}

// cage is the unit's.
func (u unit) cage(t testing.TB) *cage {
	t.Helper()
	c := &cage{User: nobody, Caps: capabilities(t, u.words("AmbientCapabilities")), Calls: u.calls(t)}
	numbers := map[string]uint32{
		"AF_UNIX": unix.AF_UNIX, "AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6, "AF_NETLINK": unix.AF_NETLINK, "AF_PACKET": unix.AF_PACKET,
	}
	for _, f := range u.words("RestrictAddressFamilies") {
		c.Families = append(c.Families, numbers[f])
	}
	return c
}

const nobody = 65534

// calls are the numbers of the system calls that the unit allows.
func (u unit) calls(t testing.TB) []uint32 {
	t.Helper()
	allowed := map[string]bool{}
	for _, group := range u["SystemCallFilter"] {
		name, deny := strings.CutPrefix(group, "~")
		for _, call := range members(t, name) {
			allowed[call] = !deny
		}
	}
	for _, call := range members(t, "@default") { // always allowed
		allowed[call] = true
	}
	numbers := callNumbers(t)
	var all []uint32
	for call, yes := range allowed {
		if n, known := numbers[call]; yes && known && call != "socket" {
			all = append(all, n)
		}
	}
	return all
}

// members takes a group of system calls apart.
func members(t testing.TB, name string) (calls []string) {
	t.Helper()
	if name[0] != '@' {
		return []string{name}
	}
	_, err := exec.LookPath("systemd-analyze")
	rig.Need(t, err == nil, "systemd-analyze")
	out, err := exec.Command("systemd-analyze", "syscall-filter", name).Output()
	must(t, err)
	for _, line := range strings.Split(string(out), "\n")[1:] {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			calls = append(calls, members(t, line)...)
		}
	}
	return calls
}

// callNumbers are those of this machine, from the C library's headers.
func callNumbers(t testing.TB) map[string]uint32 {
	t.Helper()
	found, _ := filepath.Glob("/usr/include/*/asm/unistd_64.h")
	rig.Need(t, len(found) > 0 && runtime.GOARCH == "amd64", "the numbers of system calls (linux-libc-dev, amd64)")
	text, err := os.ReadFile(found[0])
	must(t, err)
	numbers := map[string]uint32{}
	for _, m := range regexp.MustCompile(`(?m)^#define __NR_(\w+) (\d+)$`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseUint(m[2], 10, 32)
		must(t, err)
		numbers[m[1]] = uint32(n)
	}
	return numbers
}
