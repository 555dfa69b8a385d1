//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

func TestMain(m *testing.M) {
	if os.Getenv("PEN_DEMO") != "" {
		main()
		return
	}
	os.Exit(rig.Main(m))
}

// program is the demonstration in a process of its own.
type program struct {
	*exec.Cmd
	out *bufio.Reader
}

func start(t *testing.T, args ...string) program {
	t.Helper()
	rig.NeedRoot(t)
	t.Parallel()
	p := program{Cmd: exec.Command("/proc/self/exe", append([]string{"-bin", rig.Bin(t)}, args...)...)}
	p.Env = append(os.Environ(), "PEN_DEMO=1")
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() { p.Process.Signal(os.Interrupt) })
	t.Cleanup(func() {
		late.Stop()
		p.Process.Kill() // if it has not ended
	})
	return p
}

// left is what it has left behind.
func (p program) left() (all []string) {
	for _, pattern := range []string{"/run/netns/pen%d-*", "/run/pen-lab/pen%d-*"} {
		some, _ := filepath.Glob(fmt.Sprintf(pattern, p.Process.Pid))
		all = append(all, some...)
	}
	return all
}

// until reads until a line that contains text.
func (p program) until(t *testing.T, text string) string {
	t.Helper()
	var all strings.Builder
	for !strings.Contains(all.String(), text) {
		line, err := p.out.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			t.Fatalf("no %q in:\n%s", text, all.String())
		}
	}
	return all.String()
}

func (p program) end(t *testing.T) string {
	t.Helper()
	rest, _ := io.ReadAll(p.out)
	if err := p.Wait(); err != nil {
		t.Errorf("it ended with %v after:\n%s", err, rest)
	}
	if left := p.left(); len(left) > 0 {
		t.Errorf("it has left %q", left)
	}
	return string(rest)
}

func TestOnce(t *testing.T) {
	text := start(t, "-once").end(t)
	for _, want := range []string{
		"vip 10.0.0.10/24", "answers for 10.0.0.10", "NODE", "is killed now",
		"clients 200 kept their server", "At no moment did two nodes answer for the address: 0s seen.",
		"is started again", "Everything is removed.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// Whatever goes on, Ctrl-C ends it and nothing is left.
func TestInterrupt(t *testing.T) {
	for name, at := range map[string]string{"during the start": "Three nodes", "during the fault": "is killed now", "at the end": "until Ctrl-C"} {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			p.until(t, at)
			if len(p.left()) == 0 {
				t.Fatal("it has made no namespaces: nothing is tried")
			}
			p.Process.Signal(syscall.SIGINT)
			if rest := p.end(t); !strings.Contains(rest, "Everything is removed.") {
				t.Errorf("it ended with:\n%s", rest)
			}
		})
	}
}
