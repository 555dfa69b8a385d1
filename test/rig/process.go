//go:build linux

package rig

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a running command.
type Process struct {
	Cmd *exec.Cmd

	out, err output
	done     chan struct{}
	status   int
}

// output is a buffer that may be read while the process writes.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Start starts a command in dir. It is killed when the test ends, if it still
// runs then.
func Start(t testing.TB, dir, bin string, args ...string) *Process {
	t.Helper()
	return StartCmd(t, dir, exec.Command(bin, args...))
}

// StartCmd is Start for a command with an environment of its own.
func StartCmd(t testing.TB, dir string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, done: make(chan struct{}), status: -1}
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = &p.out, &p.err
	// A background child may keep the pipes open for ever.
	cmd.WaitDelay = 200 * time.Millisecond
	if cmd.Env == nil {
		cmd.Env = Env()
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	go func() {
		cmd.Wait()
		if s := cmd.ProcessState; s != nil {
			p.status = s.ExitCode()
		}
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	return p
}

// Env is the environment of the commands: the message language and time zone
// of whoever runs the tests do not matter.
func Env() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.Cmd.Process.Pid }

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) { p.Cmd.Process.Signal(s) }

// Kill ends the process by force and waits for it.
func (p *Process) Kill() {
	p.Cmd.Process.Kill()
	<-p.done
}

// Exited tells whether the process has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait returns the exit status, or false if the process is still there after d.
func (p *Process) Wait(d time.Duration) (int, bool) {
	select {
	case <-p.done:
		return p.status, true
	case <-time.After(d):
		return 0, false
	}
}

// Stdout returns what the process has printed so far.
func (p *Process) Stdout() string { return p.out.String() }

// Stderr returns what the process has complained so far.
func (p *Process) Stderr() string { return p.err.String() }

// Eventually waits until cond holds and tells whether it did within d.
func Eventually(d time.Duration, cond func() bool) bool {
	for end := time.Now().Add(d); ; {
		if cond() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// Dir returns an empty directory that every user may enter, for files that a
// pen running as nobody has to reach. (The directories of package testing may
// be entered by their owner only.)
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pen-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// WriteFile writes a file below dir and returns its path.
func WriteFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// AsRoot adds to a command line what lets the control port open for root.
func AsRoot(args ...string) []string {
	if os.Geteuid() == 0 {
		return append([]string{"-u", "root"}, args...)
	}
	return args
}

// Sweep ends every process that runs bin and has word in its command line, and
// returns their numbers. It finds what has detached itself; the word has to be
// one that nobody else uses, such as the prefix of a Block.
func Sweep(bin, word string) (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range names {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		exe, err := os.Readlink(dir + "/exe")
		line, _ := os.ReadFile(dir + "/cmdline")
		if err == nil && exe == bin && bytes.Contains(line, []byte(word)) && syscall.Kill(pid, syscall.SIGKILL) == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
