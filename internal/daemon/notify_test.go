//go:build unix

package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// notifying runs a notifier of a script until stop is called, in a directory
// where the script can write; DIR in it stands for that.
func notifying(t *testing.T, script string, adjust func(*notifier)) (n *notifier, dir string, log *safeBuffer, stop func()) {
	t.Helper()
	dir, log = t.TempDir(), &safeBuffer{}
	file := filepath.Join(dir, "notify me") // one argument, whatever is in its name
	script = "#!/bin/sh\n" + strings.ReplaceAll(script, "DIR", dir) + "\n"
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	n, err := newNotifier(file, "shop", "10.0.0.11", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if adjust != nil {
		adjust(n)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx) }()
	stop = sync.OnceFunc(func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return n, dir, log, stop
}

// logged waits for words in the log.
func logged(t *testing.T, log *safeBuffer, words ...string) string {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text := log.String()
		missing := ""
		for _, w := range words {
			if !strings.Contains(text, w) {
				missing = w
			}
		}
		if missing == "" {
			return text
		}
		if time.Now().After(end) {
			t.Fatalf("no %q in the log:\n%s", missing, text)
		}
	}
}

func TestNotifyProgramIsToldAndNothingElse(t *testing.T) {
	t.Setenv("PEN_TEST_SECRET", "x")
	// A descriptor as a careless parent leaves it.
	fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	n, dir, log, _ := notifying(t, `
		for a; do echo "arg $a"; done >'DIR/out'
		env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort >>'DIR/out'
		echo "stdin <$(cat)>" >>'DIR/out'
		ls /proc/self/fd >'DIR/fds' 2>&1
		echo "to the log"; echo "and this" >&2`, nil)
	n.tell("holder", 1<<63)
	logged(t, log, `msg="notify program says" state=holder line="to the log"`, `line="and this"`, "msg=notified", "term=9223372036854775808")
	got, _ := os.ReadFile(filepath.Join(dir, "out"))
	want := "arg holder\narg shop\narg 9223372036854775808\n" +
		"PATH=" + notifyPath + "\nPEN_CLUSTER=shop\nPEN_NODE=10.0.0.11\nPEN_STATE=holder\nPEN_TERM=9223372036854775808\nstdin <>\n"
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if fds, _ := os.ReadFile(filepath.Join(dir, "fds")); runtime.GOOS == "linux" && string(fds) != "0\n1\n2\n3\n" { // 3 is the directory
		t.Errorf("descriptors %q", fds)
	}
}

func TestNotifyOneAfterTheOtherAndOnlyTheNewest(t *testing.T) {
	n, dir, log, stop := notifying(t, `echo "begin $1 $3" >>'DIR/out'; [ "$3" != 1 ] || read x <'DIR/gate'; echo "end $3" >>'DIR/out'; echo "done $3"`, nil)
	gate := filepath.Join(dir, "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	n.tell("holder", 1)
	waitForFile(t, filepath.Join(dir, "out"))
	n.tell("standby", 2)
	n.tell("fault", 3)
	n.tell("standby", 4)
	open, err := os.OpenFile(gate, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	open.Close()
	logged(t, log, `"done 4"`)
	// What is told at the very end is run too.
	n.tell("fault", 5)
	stop()
	got, _ := os.ReadFile(filepath.Join(dir, "out"))
	if want := "begin holder 1\nend 1\nbegin standby 4\nend 4\nbegin fault 5\nend 5\n"; string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNotifyProgramThatDoesNotEnd(t *testing.T) {
	const script = `sleep 600 & echo $! >'DIR/pid'; wait`
	killed := func(t *testing.T, dir string) {
		t.Helper()
		text, _ := os.ReadFile(filepath.Join(dir, "pid"))
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); running(pid); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("process %d of the program's group goes on", pid)
			}
		}
	}
	t.Run("is killed with its group", func(t *testing.T) {
		n, dir, log, _ := notifying(t, script, func(n *notifier) { n.limit = 500 * time.Millisecond })
		n.tell("holder", 1)
		logged(t, log, "level=ERROR", "ran for too long", "term=1")
		killed(t, dir)
		n.tell("standby", 2)
		logged(t, log, "term=2")
	})
	t.Run("does not keep the process", func(t *testing.T) {
		n, dir, log, stop := notifying(t, script, func(n *notifier) { n.last = 50 * time.Millisecond })
		n.tell("holder", 1)
		waitForFile(t, filepath.Join(dir, "pid"))
		stop()
		logged(t, log, "ran for too long")
		killed(t, dir)
	})
	t.Run("may leave something behind", func(t *testing.T) {
		n, dir, log, _ := notifying(t, `sleep 600 & echo $! >'DIR/pid'`, nil)
		n.tell("holder", 1)
		logged(t, log, "msg=notified")
		text, _ := os.ReadFile(filepath.Join(dir, "pid"))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		if !running(pid) {
			t.Error("it was killed")
		}
		endProcess(pid)
	})
}

// running tells whether there is such a process; one that has ended and that
// nobody waits for does not run.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if runtime.GOOS == "linux" {
		return err == nil && !strings.Contains(string(stat), ") Z ")
	}
	return syscall.Kill(pid, 0) == nil
}

func TestNotifyProgramFails(t *testing.T) {
	n, dir, log, _ := notifying(t, `exit 3`, nil)
	n.tell("holder", 1)
	logged(t, log, "level=ERROR", `err="exit status 3"`)
	os.Remove(n.file)
	n.tell("holder", 2)
	logged(t, log, "no such file or directory")
	if err := checkNotify(n.file); err == nil || !strings.Contains(err.Error(), "notify: stat "+n.file) {
		t.Errorf("got %v", err)
	}
	if err := checkNotify(dir); err == nil || !strings.Contains(err.Error(), "not a program") {
		t.Errorf("got %v", err)
	}
	os.WriteFile(n.file, nil, 0o644)
	if err := checkNotify(n.file); err == nil || !strings.Contains(err.Error(), "chmod a+x") {
		t.Errorf("got %v", err)
	}
	if err := checkNotify("/bin/sh"); err != nil {
		t.Error(err)
	}
}

func TestNotifyProgramThatTalksTooMuch(t *testing.T) {
	n, _, log, _ := notifying(t, `i=0; while [ $i -lt 500 ]; do echo "line $i"; i=$((i+1)); done`, nil)
	n.tell("holder", 1)
	text := logged(t, log, "msg=notified")
	if got := strings.Count(text, "program says\""); got != notifyLines || !strings.Contains(text, "says more") {
		t.Errorf("%d lines logged, want %d\n%s", got, notifyLines, text)
	}
	n, _, log, _ = notifying(t, `head -c 100000 /dev/zero | tr '\0' x; echo; printf last`, nil)
	n.tell("holder", 1)
	text = logged(t, log, "msg=notified", "line=last")
	if want := "line=" + strings.Repeat("x", notifyLine) + "\n"; !strings.Contains(text, want) {
		t.Errorf("a long line is not cut at %d bytes: log of %d bytes", notifyLine, len(text))
	}
}

func TestNoNotifyProgram(t *testing.T) {
	n, err := newNotifier("", "shop", "node", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	n.tell("holder", 1)
	end()
	if err := n.run(ctx); err != nil {
		t.Error(err)
	}
}
