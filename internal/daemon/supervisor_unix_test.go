//go:build unix

package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// managed is a service manager's end, and a supervisor that speaks to it.
func managed(t *testing.T, name string) (*net.UnixConn, *supervisor) {
	t.Helper()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	t.Setenv(supervisorEnv, name)
	s := newSupervisor(newJournal(os.Stderr, 0).log)
	if s == nil {
		t.Fatal("the manager was not found")
	}
	s.now = func() int64 { return 42 }
	return manager, s
}

// hear returns what has arrived; empty: nothing. On one machine what was said is there.
func hear(t *testing.T, manager *net.UnixConn) string {
	t.Helper()
	raw, err := manager.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	b, n := make([]byte, 4096), 0
	if err := raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), b) }); err != nil {
		t.Fatal(err)
	}
	return string(b[:max(n, 0)])
}

func TestSupervisorHearsWhatIsNew(t *testing.T) {
	manager, s := managed(t, filepath.Join(t.TempDir(), "notify"))
	steps := []struct {
		do   func()
		want string
	}{
		{func() { s.keep("serving") }, "READY=1\nSTATUS=serving"},
		{func() { s.keep("serving") }, ""},
		{func() { s.keep("a\nb") }, "READY=1\nSTATUS=a; b"},
		{func() { s.enter(phaseReloading, "reading") }, "RELOADING=1\nSTATUS=reading\nMONOTONIC_USEC=42"},
		{func() { s.keep("serving") }, ""}, // this would end the reload
		{func() { s.enter(phaseReady, "a\nb") }, "READY=1\nSTATUS=a; b"},
		{func() { s.keep(strings.Repeat("ä", 200)) }, "READY=1\nSTATUS=" + strings.Repeat("ä", 128)},
		{func() { s.enter(phaseStopping, "stopping") }, "STOPPING=1\nSTATUS=stopping"},
		{func() { s.enter(phaseReady, "serving") }, ""},
		{func() { s.keep("serving") }, ""},
	}
	for i, step := range steps {
		step.do()
		if got := hear(t, manager); got != step.want {
			t.Errorf("step %d: got %q, want %q", i, got, step.want)
		}
	}
	if _, still := os.LookupEnv(supervisorEnv); still {
		t.Errorf("%s is left to other programs", supervisorEnv)
	}
}

func TestSupervisorWithoutFile(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("abstract sockets are Linux's")
	}
	manager, s := managed(t, fmt.Sprintf("@pen-test-%d", os.Getpid()))
	s.keep("serving")
	if got := hear(t, manager); got != "READY=1\nSTATUS=serving" {
		t.Errorf("got %q", got)
	}
}

func TestSupervisorNeverWaits(t *testing.T) {
	manager, s := managed(t, filepath.Join(t.TempDir(), "notify"))
	var full error
	for i := 0; full == nil && i < 100000; i++ {
		full = s.send("EXTEND_TIMEOUT_USEC=1")
	}
	if !errors.Is(full, unix.EAGAIN) && !errors.Is(full, unix.ENOBUFS) {
		t.Fatalf("a socket that nobody reads: got %v", full)
	}
	begun := time.Now()
	s.keep("serving")
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it waited for %v", took)
	}
	for hear(t, manager) != "" {
	}
	s.keep("serving") // what did not arrive is said again
	if got := hear(t, manager); got != "READY=1\nSTATUS=serving" {
		t.Errorf("got %q", got)
	}
}

func TestSupervisorIsNotNeeded(t *testing.T) {
	var log bytes.Buffer
	j := newJournal(&log, 0)
	for _, name := range []string{"", "vsock:2:1234", filepath.Join(t.TempDir(), "nobody")} {
		t.Setenv(supervisorEnv, name)
		s := newSupervisor(j.log)
		if s != nil {
			t.Fatalf("%q: got a supervisor", name)
		}
		s.keep("serving")
		s.enter(phaseStopping, "stopping")
	}
	for _, want := range []string{`neither a path nor a name after @`, "connect: no such file"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, log.String())
		}
	}
	d := daemon{}
	if err := d.supervise(context.Background()); err != nil {
		t.Error(err)
	}
	d.reloading()()
}
