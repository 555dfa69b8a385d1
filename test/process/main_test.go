//go:build linux

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
	os.Exit(rig.Main(m))
}

// daemon is a pen under test.
type daemon struct {
	*rig.Process
	t       testing.TB
	block   rig.Block
	dir     string
	control string
}

// serve starts a pen in the foreground and waits until it serves. {a} to {f} in
// the arguments are the addresses of servers, {listen} is where it listens.
func serve(t testing.TB, args ...string) *daemon {
	t.Helper()
	d := place(t)
	d.start(args...)
	return d
}

// place is where a pen will run.
func place(t testing.TB) *daemon {
	t.Helper()
	d := &daemon{t: t, block: rig.NewBlock(t), dir: rig.Dir(t)}
	d.control = d.block.Control()
	t.Cleanup(func() {
		if left := rig.Sweep(rig.Pen(t), d.block.Prefix); left != nil {
			t.Errorf("processes left behind: %v", left)
		}
	})
	return d
}

// expand puts addresses into arguments.
func (d *daemon) expand(args []string) []string {
	pairs := []string{"{listen}", d.block.Listen(), "{control}", d.control, "{dir}", d.dir}
	for i := range 6 {
		pairs = append(pairs, "{"+string(rune('a'+i))+"}", d.backendAddr(i))
	}
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = strings.NewReplacer(pairs...).Replace(a)
	}
	return out
}

func (d *daemon) backendAddr(i int) string { return d.block.Addr(11+i, 9001+i) }

// backend starts the server {a} for i = 0, and so on.
func (d *daemon) backend(i int) *rig.Backend {
	d.t.Helper()
	return rig.NewBackend(d.t, string(rune('a'+i)), d.backendAddr(i))
}

// start runs pen in the foreground until the end of the test.
func (d *daemon) start(args ...string) {
	d.t.Helper()
	args = append(rig.AsRoot("-f", "-C", d.control), d.expand(args)...)
	d.Process = rig.Start(d.t, d.dir, rig.Pen(d.t), args...)
	d.answers()
}

// answers waits until the control port answers.
func (d *daemon) answers() {
	d.t.Helper()
	ok := rig.Eventually(rig.Patience, func() bool {
		_, err := rig.Ask(d.control, "pid")
		return err == nil || d.Process != nil && d.Exited()
	})
	if !ok || d.Process != nil && d.Exited() {
		d.t.Fatalf("pen does not answer: %s", d.Stderr())
	}
}

// fails runs pen to its end, which has to be a failure with that status, and
// returns what it complained.
func (d *daemon) fails(want int, args ...string) string {
	d.t.Helper()
	p := rig.Start(d.t, d.dir, rig.Pen(d.t), d.expand(args)...)
	status, ended := p.Wait(rig.Patience)
	if !ended {
		d.t.Fatalf("pen %q goes on running", args)
	}
	if status != want {
		d.t.Errorf("pen %q: status %d, want %d\n%s", args, status, want, p.Stderr())
	}
	return p.Stderr()
}

func (d *daemon) ask(command string) string {
	d.t.Helper()
	reply, err := rig.Ask(d.control, command)
	if err != nil {
		d.t.Fatalf("control %q: %v", command, err)
	}
	return reply
}

// fetch says which server answers the client 127.0.0.N.
func (d *daemon) fetch(n int) string {
	name, err := rig.Fetch(client(n), d.block.Listen())
	if err != nil {
		return err.Error()
	}
	return name
}

func client(n int) string { return fmt.Sprintf("127.0.0.%d:0", n) }

// hold opens a connection of the client 127.0.0.N and leaves it open.
func (d *daemon) hold(n int) *rig.Client {
	d.t.Helper()
	c, err := rig.Dial(client(n), d.block.Listen())
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	if _, err := c.Say("hi"); err != nil {
		d.t.Fatal(err)
	}
	return c
}

// ends waits for the end and checks the status.
func (d *daemon) ends(want int) {
	d.t.Helper()
	status, ended := d.Wait(rig.Patience)
	switch {
	case !ended:
		d.t.Error("pen goes on running")
	case status != want:
		d.t.Errorf("exit status %d, want %d\n%s", status, want, d.Stderr())
	}
}

// contains checks that a text has all of the words.
func contains(t testing.TB, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: no %q in:\n%s", what, w, text)
		}
	}
}

// background starts pen without -f, with a pid file, and returns the number of
// the process that stays behind when the starter has ended well.
func (d *daemon) background(args ...string) (pid int) {
	d.t.Helper()
	p := rig.Start(d.t, d.dir, rig.Pen(d.t), d.expand(args)...)
	return d.left(p, filepath.Join(d.dir, "pid"))
}

// left waits for a starter and returns the process that it leaves behind.
func (d *daemon) left(p *rig.Process, pidFile string) (pid int) {
	d.t.Helper()
	if status, ended := p.Wait(rig.Patience); !ended || status != 0 {
		d.t.Fatalf("starter: ended %t, status %d: %s", ended, status, p.Stderr())
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		d.t.Fatal(err)
	}
	if pid, err = strconv.Atoi(string(text)); err != nil {
		d.t.Fatalf("pid file: %v", err)
	}
	d.t.Cleanup(func() {
		syscall.Kill(pid, syscall.SIGKILL)
		rig.Eventually(rig.Patience, func() bool { return gone(pid) })
	})
	return pid
}

// gone tells whether a process is no more. One that nobody waits for is.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// procStatus returns a line of /proc/PID/status as words.
func procStatus(t testing.TB, pid int, key string) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, key+":"); ok {
			return strings.Fields(rest)
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, key)
	return nil
}

// resident is the memory of a process in bytes.
func resident(t testing.TB, pid int) int {
	t.Helper()
	kib, err := strconv.Atoi(procStatus(t, pid, "VmRSS")[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// descriptors is how many files a process has open.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// busy is the processor time that a process has used.
func busy(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
