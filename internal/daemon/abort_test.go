//go:build unix

package daemon

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"pen/internal/config"
)

// TestAbortOnError lets a part fail, in a process of its own.
func TestAbortOnError(t *testing.T) {
	if word := os.Getenv("PEN_TEST_ABORT"); word != "" {
		d := &daemon{journal: newJournal(os.Stderr, 0)}
		d.adopt(config.Local{AbortOnError: true})
		d.adopt(config.Local{AbortOnError: word == "on"})
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) // no file of this one
		d.failed(errors.New("the loop has ended"))
		return
	}
	for _, word := range []string{"on", "off"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAbortOnError$", "-test.count=1")
		cmd.Env = append(os.Environ(), "PEN_TEST_ABORT="+word)
		out, err := cmd.CombinedOutput()
		state, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		aborted := state.Signaled() && state.Signal() == syscall.SIGABRT
		switch {
		case word == "off" && err != nil:
			t.Errorf("off: %v\n%s", err, out)
		case word == "on" && (!aborted || !strings.Contains(string(out), "abort_on_error: the loop has ended") ||
			strings.Count(string(out), "\ngoroutine ") < 2):
			t.Errorf("on: %v; want SIGABRT and the stacks of all goroutines\n%s", err, out)
		}
	}
}
