//go:build linux

package deploy

import (
	"strings"
	"syscall"
	"testing"
)

// The worst that a service manager can do: it kills the holder and its guard at
// one moment. The kernel's own fences end the answers; ExecStopPost takes away what is left.
func TestReleaseOfWhatWasLeft(t *testing.T) {
	s := settle(t, 3, "three.conf", readUnit(t, "pen.service"))
	s.startAll()
	s.answers(address, "web")
	m := s.holder(s.nodes...)
	// As the unit's user, with what the unit leaves.
	command := s.unit.cage(t).write(t, m.Dir, m.here("/usr/local/bin/pen --release -F /etc/pen/pen.conf")...)
	release := func() (string, error) { return m.Run(t.Context(), command...) }

	if out, err := release(); err == nil || !strings.Contains(out, "10.0.0.") || !strings.Contains(out, "pen runs on this node") {
		t.Errorf("beside a holder: got %q, %v", out, err)
	}
	if !m.left("10.0.0.10") {
		t.Fatal("the holder has lost its address")
	}

	guard := m.pen.Guard()
	must(t, syscall.Kill(guard, syscall.SIGSTOP)) // so that it can not be quicker
	m.pen.Signal(syscall.SIGKILL)
	must(t, syscall.Kill(guard, syscall.SIGKILL))
	m.pen.Wait(patience)
	if !m.left("10.0.0.10") || !m.fenced() {
		t.Fatal("nothing was left, so this test shows nothing")
	}
	out, err := release()
	if err != nil || !strings.Contains(out, "released 1 addresses") {
		t.Errorf("got %q, %v", out, err)
	}
	if m.left("10.0.0.10") || m.fenced() {
		t.Error("something is still there")
	}
	if out, err := release(); err != nil || out != "" {
		t.Errorf("again: got %q, %v", out, err)
	}
	s.answers(address, "web")
}

// fenced tells whether the packet filter has a table of ours.
func (m *machine) fenced() bool {
	m.site.t.Helper()
	out, err := m.Run(m.site.t.Context(), "nft", "list", "tables")
	must(m.site.t, err)
	return strings.Contains(out, "pen_shop")
}
