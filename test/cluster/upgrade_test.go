//go:build linux

package cluster

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// before is the directory with a pen that stands for the version before: it
// knows the first state level and protocol only. PEN_OLD names a directory with a
// real one.
func before(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("PEN_OLD"); dir != "" {
		return dir
	}
	dir := t.TempDir()
	must(t, rig.Build(dir, "-tags", "pen_level1"))
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// exchange ends pen on a node in good order, and starts another build of it.
func (s *suite) exchange(t testing.TB, n *lab.Node, bin string) {
	t.Helper()
	s.Pen(n).Signal(syscall.SIGTERM)
	if status, ended := s.Pen(n).Wait(rig.Patience); !ended || status != 0 {
		t.Fatalf("%s: ended %t with status %d, want 0:\n%s", n.Name, ended, status, s.Pen(n).Log())
	}
	s.Install(n, bin)
	must(t, s.Start(n))
	s.well(t)
}

// Three nodes are upgraded one by one, the holder last, under load; one goes back
// meanwhile. What is new is used only when the last one knows it.
func TestRollingUpgrade(t *testing.T) {
	old, now := before(t), rig.Bin(t)
	s := prepare(t, "no hash")
	for _, n := range s.Nodes {
		s.Install(n, old)
	}
	must(t, s.Start(s.Nodes...))
	s.well(t)
	w, err := s.Watch(clients)
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	load := s.Load(ctx, 2)
	t.Cleanup(load.Wait)
	t.Cleanup(stop)
	time.Sleep(1500 * time.Millisecond)
	before, from := s.lapses(t), time.Now()

	holder := s.holder(t)
	others := s.others(holder)
	s.exchange(t, others[0], now)
	waits := "\nstate level 1, and 2 when all know it: "
	if got := s.ask(t, others[0], "cluster"); !strings.Contains(got, waits) || !strings.Contains(got, others[1].Name+" knows up to 1") {
		t.Errorf("with one new node of three:\n%s", got)
	}
	s.refused(t, others[0], "changes are not kept yet", "cluster", "log")
	s.refused(t, others[0], "it runs a version that can not be asked for this: upgrade it", "cluster", "diff", others[1].Name)
	s.ask(t, others[0], "timeout", "7")
	s.exchange(t, others[0], old) // back again
	s.exchange(t, others[0], now)
	s.exchange(t, others[1], now)
	s.ask(t, holder, "timeout", "8") // by the old one
	if got := s.same(t, "timeout"); !strings.Contains(got, "8") {
		t.Errorf("timeout in a mixed cluster: %s", got)
	}
	s.exchange(t, holder, now)
	s.level(t, 2)
	s.ask(t, others[1], "timeout", "9")
	matches(t, "log", s.same(t, "cluster", "log"), `(?s)^\S+ \S+ leader \S+: state level 2\n.*: timeout 9$`)

	r := w.Report(from, time.Now())
	t.Log(r)
	must(t, r.Err)
	if r.Doubles > 0 || r.Moved > 0 || r.Gap > gapLimit {
		t.Error("want one node answering at any time, and every client at its server")
	}
	fault{smooth: true}.judgeConnects(t, r, lab.Report{}, before, s.lapses(t))
	stop()
	load.Wait()
	w.Stop()
	if load.Answered.Load() < 100 {
		t.Errorf("only %d of the load were answered, %d were not", load.Answered.Load(), load.Failed.Load())
	}
	s.same(t, "cluster", "digest")

	// There is no way back now, and both sides say so.
	last := others[1]
	s.Pen(last).Signal(syscall.SIGTERM)
	s.Pen(last).Wait(rig.Patience)
	if os.Getenv("PEN_OLD") != "" {
		return
	}
	s.Install(last, old)
	must(t, s.Start(last))
	status, ended := s.Pen(last).Wait(rig.Patience)
	if want := "the cluster uses state level 2, and this program knows up to 1: install a version that knows it"; !ended || status == 0 || !strings.Contains(s.Pen(last).Log(), want) {
		t.Errorf("ended %t with status %d, want %q:\n%s", ended, status, want, s.Pen(last).Log())
	}
	must(t, os.RemoveAll(filepath.Join(last.Dir, "data"))) // as a new node
	must(t, s.Start(last))
	want := "state level 2 is in use, " + last.Name + " knows up to 1: install a newer version there"
	if !rig.Eventually(rig.Patience, func() bool {
		text, err := s.Ask(t.Context(), others[0], "cluster")
		return err == nil && strings.Contains(text, want)
	}) {
		t.Errorf("want %q:\n%s", want, s.ask(t, others[0], "cluster"))
	}
	s.logs(t, last, want)
}
