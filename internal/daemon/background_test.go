//go:build unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv makes TestBackgroundChild play the process in the background.
const childEnv = "PEN_TEST_CHILD"

// TestBackgroundChild is no test: the others start it as their child.
func TestBackgroundChild(t *testing.T) {
	role := os.Getenv(childEnv)
	if role == "" {
		t.Skip("only as a child of the other tests")
	}
	s, err := newStarter()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(4)
	}
	switch role {
	case "serve":
		serveInBackground(s)
	case "fail":
		s.fail(errors.New("listen on 127.0.0.1:80: permission denied"))
		os.Exit(1)
	case "silent":
		os.Exit(3)
	case "done":
		os.Exit(0)
	case "killed":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "hang":
		fmt.Fprintln(os.Stderr, os.Getpid())
	}
	time.Sleep(20 * time.Second) // the others end it
	os.Exit(5)
}

// serveInBackground reports what a detached process sees, then waits to be
// ended.
func serveInBackground(s *starter) {
	fmt.Fprintln(os.Stderr, "a notice at the start")
	_, left := os.LookupEnv(starterEnv)
	waited := s.waited()
	if err := s.ready(); err != nil {
		os.Exit(4)
	}
	fmt.Println("nobody reads this")
	session, _ := unix.Getsid(0)
	dir, _ := os.Getwd()
	var std []string
	for fd := range 3 {
		target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		std = append(std, target)
	}
	text := fmt.Sprintln(os.Getpid(), session == os.Getpid(), waited, left, dir, strings.Join(std, ","))
	os.WriteFile("report.tmp", []byte(text), 0o600)
	os.Rename("report.tmp", "report")
}

// child prepares the test binary to be started as one, in a directory of its
// own.
func child(t *testing.T, role string) (cmd *exec.Cmd, stderr *os.File) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	t.Setenv(childEnv, role)
	return &exec.Cmd{
		Path: exe, Args: []string{exe, "-test.run=^TestBackgroundChild$"}, Dir: t.TempDir(), Stdout: w, Stderr: w,
	}, r
}

func TestBackgroundProcessIsDetached(t *testing.T) {
	cmd, stderr := child(t, "serve")
	if err := detach(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	// The child lives, but no longer holds what the parent's output goes to: a
	// pipe ends with the parent.
	cmd.Stderr.(*os.File).Close()
	stderr.SetReadDeadline(time.Now().Add(10 * time.Second))
	text, err := io.ReadAll(stderr)
	if string(text) != "a notice at the start\n" || err != nil {
		t.Errorf("stderr: got %q, %v", text, err)
	}
	report := waitForFile(t, filepath.Join(cmd.Dir, "report"))
	fields := strings.Fields(report)
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		t.Fatal(err)
	}
	defer endProcess(pid)
	want := fmt.Sprintf("%d true true false %s ", pid, cmd.Dir)
	if runtime.GOOS == "linux" {
		want += "/dev/null,/dev/null,/dev/null"
	} else {
		want += ",,"
	}
	if got := strings.TrimSpace(report); got != want {
		t.Errorf("pid, own session, waited, variable left, directory, stdio:\ngot  %s\nwant %s", got, want)
	}
}

func TestStartErrorReachesTheParent(t *testing.T) {
	for role, want := range map[string]string{
		"fail":   "listen on 127.0.0.1:80: permission denied",
		"silent": "the background process ended before it was ready: exit status 3",
		"killed": "the background process ended before it was ready: signal: killed",
		"done":   "the background process ended before it was ready",
	} {
		t.Run(role, func(t *testing.T) {
			cmd, _ := child(t, role)
			if err := detach(t.Context(), cmd); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
	if err := detach(t.Context(), &exec.Cmd{Path: "/nonexistent", Args: []string{"x"}}); err == nil {
		t.Error("no program, no error")
	}
}

func TestInterruptedParentEndsItsChild(t *testing.T) {
	cmd, stderr := child(t, "hang")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		fmt.Fscan(stderr, new(int)) // it is up
		cancel(errors.New("interrupt"))
	}()
	if err := detach(ctx, cmd); err == nil || !strings.Contains(err.Error(), "interrupt") {
		t.Error(err)
	}
	if cmd.ProcessState == nil {
		t.Error("the child was not waited for")
	}
}

func TestStarterIgnoresAVariableFromElsewhere(t *testing.T) {
	for _, value := range []string{"", "3", "3 1", "x y", "3 " + strconv.Itoa(os.Getpid())} {
		t.Setenv(starterEnv, value)
		s, err := newStarter()
		if err != nil || s.waited() {
			t.Errorf("%q: waited, %v", value, err)
		}
		if err := s.ready(); err != nil {
			t.Error(err)
		}
		if _, left := os.LookupEnv(starterEnv); left {
			t.Errorf("%q: variable left for children", value)
		}
	}
}

func waitForFile(t *testing.T, path string) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(path); err == nil {
			return string(b)
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func endProcess(pid int) { syscall.Kill(pid, syscall.SIGKILL) }
