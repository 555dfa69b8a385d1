//go:build linux

package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pen/test/rig"
)

func nobody(t testing.TB) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup("nobody")
	rig.Need(t, err == nil, "the user nobody")
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

func TestRunsAsAnotherUser(t *testing.T) {
	t.Parallel()
	rig.NeedRoot(t)
	uid, gid := nobody(t)
	d := place(t)
	d.backend(0)
	if err := os.Chmod(d.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	d.control = filepath.Join(d.dir, "control")
	d.Process = rig.Start(t, d.dir, rig.Pen(t), d.expand([]string{
		"-f", "-u", "nobody", "-C", "{control}", "-p", "{dir}/pid", "{listen}", "{a}",
	})...)
	d.answers()
	u, g := strconv.Itoa(uid), strconv.Itoa(gid)
	if got := procStatus(t, d.Pid(), "Uid"); !slices.Equal(got, []string{u, u, u, u}) {
		t.Errorf("user ids %v, want %s", got, u)
	}
	if got := procStatus(t, d.Pid(), "Gid"); !slices.Equal(got, []string{g, g, g, g}) {
		t.Errorf("group ids %v, want %s", got, g)
	}
	if got := procStatus(t, d.Pid(), "Groups"); slices.ContainsFunc(got, func(x string) bool { return x != g }) {
		t.Errorf("further groups %v", got)
	}
	// Every thread has changed, not only the first, and no capability is left.
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", d.Pid()))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads: %v, %v", threads, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		for l := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(l, ":")
			value = strings.TrimSpace(value)
			switch key {
			case "Uid":
				if want := strings.Join([]string{u, u, u, u}, "\t"); value != want {
					t.Errorf("%s: user ids %q", thread, value)
				}
			case "CapInh", "CapPrm", "CapEff", "CapAmb":
				if strings.Trim(value, "0") != "" {
					t.Errorf("%s: %s is %s", thread, key, value)
				}
			}
		}
	}
	if got := d.fetch(2); got != "a" {
		t.Errorf("answer %q", got)
	}
	var st syscall.Stat_t
	for _, name := range []string{"control", "pid"} {
		if err := syscall.Stat(filepath.Join(d.dir, name), &st); err != nil || int(st.Uid) != uid {
			t.Errorf("%s belongs to %d, %v; want %d", name, st.Uid, err, uid)
		}
	}
}

func TestJail(t *testing.T) {
	t.Parallel()
	rig.NeedRoot(t)
	d := place(t)
	d.backend(0)
	jail := filepath.Join(d.dir, "jail")
	if err := os.Mkdir(jail, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(jail, 0o777); err != nil {
		t.Fatal(err)
	}
	d.Process = rig.Start(t, d.dir, rig.Pen(t), d.expand([]string{
		"-f", "-u", "nobody", "-j", "{dir}/jail", "-C", "{control}", "-p", "/pid", "-w", "/page", "{listen}", "{a}",
	})...)
	d.answers()
	if root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", d.Pid())); err != nil || root != jail {
		t.Errorf("root directory %q, %v; want %s", root, err, jail)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", d.Pid())); err != nil || cwd != jail {
		t.Errorf("working directory %q, %v; want %s", cwd, err, jail)
	}
	contains(t, "status", d.ask("status"), "Pen status page")
	for _, name := range []string{"pid", "page"} {
		if _, err := os.Stat(filepath.Join(jail, name)); err != nil {
			t.Error(err)
		}
	}
	if got := d.fetch(2); got != "a" {
		t.Errorf("answer %q", got)
	}
	d.Signal(syscall.SIGTERM)
	d.ends(0)
}

func TestRootNeedsAUserForTheControlPort(t *testing.T) {
	t.Parallel()
	rig.NeedRoot(t)
	d := place(t)
	d.backend(0)
	d.Process = rig.Start(t, d.dir, rig.Pen(t), d.expand([]string{"-f", "-C", "{control}", "{listen}", "{a}"})...)
	if !rig.Eventually(rig.Patience, func() bool { return d.fetch(2) == "a" }) {
		t.Fatalf("no service: %s", d.Stderr())
	}
	if reply, err := rig.Ask(d.control, "pid"); err == nil {
		t.Errorf("the control port answers %q", reply)
	}
	contains(t, "log", d.Stderr(), "control port", "-u")
}

// freePort returns a port that no address has in use. It is not one of those from
// which the kernel lets others connect, at any moment and on any address.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(20_000 + rand.IntN(12_000))
		if l, err := net.Listen("tcp", ":"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// A listener may move to an address that overlaps with the old one: both must
// belong to the same user.
func TestListenMovesUnderAnotherUser(t *testing.T) {
	t.Parallel()
	rig.NeedRoot(t)
	d := place(t)
	d.backend(0)
	d.start("-u", "nobody", "{listen}", "{a}")
	port := freePort(t)
	for _, to := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, "127.0.0.1:" + port, d.block.Listen()} {
		if got := d.ask("listen " + to); got != to+"\n" {
			t.Errorf("listen %s: %q", to, got)
		}
	}
	if got := d.fetch(2); got != "a" {
		t.Errorf("got %q", got)
	}
}
