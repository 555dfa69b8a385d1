//go:build linux

package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// same asks all nodes, and wants one answer of all: a moment later, when all have
// applied what one has.
func (s *suite) same(t testing.TB, words ...string) string {
	t.Helper()
	var all []string
	if !rig.Eventually(rig.Patience, func() bool {
		all = nil
		for _, n := range s.Nodes {
			all = append(all, s.ask(t, n, words...))
		}
		return len(slices.Compact(slices.Clone(all))) == 1
	}) {
		t.Errorf("%v: the nodes say\n%s", words, strings.Join(all, "\n\n"))
	}
	return all[0]
}

func matches(t testing.TB, what, got, want string) {
	t.Helper()
	if !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("%s: got\n%s\nwant\n%s", what, got, want)
	}
}

// refused asks what is to be refused.
func (s *suite) refused(t testing.TB, n *lab.Node, want string, words ...string) {
	t.Helper()
	got, err := s.Ask(t.Context(), n, words...)
	if !strings.Contains(got+errText(err), want) {
		t.Errorf("%v: got %q, %v; want %q", words, got, err, want)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestChangesAreKnownEverywhere(t *testing.T) {
	s := begin(t)
	s.level(t, 2)
	if got := s.same(t, "cluster", "diff"); got != "no difference" {
		t.Errorf("at the beginning: %s", got)
	}
	a, b := s.Nodes[0], s.Nodes[1]
	s.ask(t, b, "timeout", "7")
	s.ask(t, b, "server", "1", "max", "9")
	want := `(?m)^- server 1 .* max 0 .*
\+ server 1 .* max 9 .*  # \d{4}-\d\d-\d\d \d\d:\d\d:\d\d control unix uid 0 pid \d+ at ` + b.Addr.String() + `
- timeout \d+
\+ timeout 7  # .* at ` + b.Addr.String() + `$`
	matches(t, "diff", s.same(t, "cluster", "diff"), want)
	// Another node's file is its own.
	must(t, os.WriteFile(filepath.Join(b.Dir, "pen.cfg"), []byte(s.Config+"timeout 7\n"), 0o644))
	matches(t, "diff with that file", s.same(t, "cluster", "diff", b.Name), `^- server 1 .*\n\+ server 1 .*$`)
	if !strings.Contains(s.ask(t, a, "cluster", "diff"), "+ timeout 7") {
		t.Errorf("diff of %s shows another file", a.Name)
	}
	must(t, os.WriteFile(filepath.Join(b.Dir, "pen.cfg"), []byte("nonsense\n"), 0o644))
	s.refused(t, a, "nonsense", "cluster", "diff", b.Name)

	s.refused(t, a, "", "service", "gone", "timeout", "3")
	log := `(?s)state level 2\n.* control unix uid 0 pid \d+ at ` + b.Addr.String() + `: timeout 7\n[^\n]*: server 1 max 9`
	matches(t, "log", s.same(t, "cluster", "log"), log+"$")
	s.ask(t, a, "cluster", "drain", b.Name)
	s.ask(t, a, "cluster", "undrain", b.Name)
	matches(t, "log of two", s.same(t, "cluster", "log", "2"), `^[^\n]* cluster drain `+b.Name+`\n[^\n]* cluster undrain `+b.Name+`$`)

	// After the holder has died, and from the disk.
	holder := s.holder(t)
	before := s.same(t, "cluster", "log")
	s.Pen(holder).Signal(9)
	s.Pen(holder).Wait(rig.Patience)
	heir := s.others(holder)[0]
	if !rig.Eventually(rig.Patience, func() bool { return s.ask(t, heir, "cluster", "log") == before }) {
		t.Errorf("after the death of the holder: got\n%s\nwant\n%s", s.ask(t, heir, "cluster", "log"), before)
	}
	must(t, os.WriteFile(filepath.Join(b.Dir, "pen.cfg"), []byte(s.Config), 0o644))
	s.restart(t)
	s.well(t)
	if got := s.same(t, "cluster", "log"); got != before {
		t.Errorf("after a restart: got\n%s\nwant\n%s", got, before)
	}
}

// level waits until all nodes are at a level of the state.
func (s *suite) level(t testing.TB, want int) {
	t.Helper()
	var last string
	if !rig.Eventually(rig.Patience, func() bool {
		for _, n := range s.Nodes {
			text, err := s.Ask(t.Context(), n, "cluster")
			if last = n.Name + " says " + text + errText(err); !strings.Contains(text, "\nstate level "+string(rune('0'+want))+"\n") {
				return false
			}
		}
		return true
	}) {
		t.Fatalf("not all are at level %d: %s", want, last)
	}
}

func TestRehearsal(t *testing.T) {
	s := begin(t)
	holder := s.holder(t)
	others := s.others(holder)
	plan := s.ask(t, others[0], "cluster", "rehearse", "check")
	matches(t, "check", plan, `^`+holder.Name+` gives the address to .*\nnothing was done$`)
	w, err := s.Watch(clients)
	must(t, err)
	defer w.Stop()
	before, from := s.lapses(t), time.Now()
	got := s.slow(t, others[0], "cluster", "rehearse", others[1].Name)
	t.Log(got)
	matches(t, "rehearsal", got, `^`+holder.Name+` gives the address to `+others[1].Name+` and takes it back; `+others[0].Name+` connects to 10\.\S+ every 5ms
`+holder.Name+` -> `+others[1].Name+`: \d+ ms without an answer, \d+ of \d+ connects lost.*
`+others[1].Name+` -> `+holder.Name+`: \d+ ms without an answer, \d+ of \d+ connects lost.*$`)
	r := w.Report(from, time.Now())
	fault{smooth: true}.judgeConnects(t, r, lab.Report{}, before, s.lapses(t))
	if !held(r, before, s.lapses(t)) && strings.Count(got, " 0 of ") != 2 {
		t.Errorf("it has lost connects, and no client has: %s", got)
	}
	if now := s.holder(t); now != holder {
		t.Errorf("%s has the address after it, want %s", now.Name, holder.Name)
	}
	s.refused(t, others[0], "error: rehearse: "+holder.Name+" holds the address already", "cluster", "rehearse", holder.Name)
	s.ask(t, holder, "cluster", "drain", others[0].Name)
	s.refused(t, holder, "error: rehearse: "+others[0].Name+" could not take the address: drained", "cluster", "rehearse")
}

// slow asks what takes its time.
func (s *suite) slow(t testing.TB, n *lab.Node, words ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	text, err := n.Run(ctx, append([]string{rig.Penctl(t), s.Control(n)}, words...)...)
	must(t, err)
	return strings.TrimSpace(text)
}

func TestBackup(t *testing.T) {
	s := begin(t)
	s.level(t, 2)
	a, b := s.Nodes[0], s.Nodes[1]
	s.ask(t, a, "timeout", "7")
	before := s.servers(t)
	file := filepath.Join(a.Dir, "shop.backup")
	matches(t, "backup", s.ask(t, a, "cluster", "backup", file, "clients"), `^settings and known clients of cluster shop after \d+ changes are in `+file+`$`)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: %v, %v", info.Mode(), err)
	}
	s.ask(t, a, "cluster", "backup", "settings.backup")
	if _, err := os.Stat(filepath.Join(a.Dir, "data", "settings.backup")); err != nil {
		t.Error(err)
	}
	s.refused(t, a, "error: ../x: give the whole path", "cluster", "backup", "../x")
	s.refused(t, b, "no such file", "cluster", "restore", filepath.Join(b.Dir, "nothing"))
	// What was known is lost, and other clients have other servers.
	s.ask(t, b, "tracking", "1")
	time.Sleep(2 * time.Second)
	s.ask(t, b, "timeout", "9")
	if got := s.ask(t, b, "cluster"); !strings.Contains(got, "\nclients 0,") {
		t.Errorf("clients are still known:\n%s", got)
	}
	text, err := os.ReadFile(file)
	must(t, err)
	copied := filepath.Join(b.Dir, "copied")
	must(t, os.WriteFile(copied, append(text[:len(text)/2:len(text)/2], 'x'), 0o600))
	s.refused(t, b, "it is damaged", "cluster", "restore", copied)
	must(t, os.WriteFile(copied, text, 0o600))
	got := s.ask(t, b, "cluster", "restore", copied)
	matches(t, "restore", got, `^restored what cluster shop was after \d+ changes, .*: 2 settings changed, 1\d clients known$`)
	if got := s.same(t, "timeout"); !strings.Contains(got, "7") {
		t.Errorf("timeout after it: %s", got)
	}
	matches(t, "log", s.same(t, "cluster", "log", "1"), ` restore of `+copied+`: \d+ clients, control .*: timeout 7; tracking \d+$`)
	for client, server := range s.servers(t) {
		if before[client] != server {
			t.Errorf("client %d: got %s, want %s as before", client, server, before[client])
		}
	}
	s.alone(t, copied)
}

// alone restores the backup of the cluster on a node that stands alone.
func (s *suite) alone(t testing.TB, file string) {
	t.Helper()
	n := s.Nodes[2]
	s.Pen(n).Signal(15)
	s.Pen(n).Wait(rig.Patience)
	ctl := filepath.Join(n.Dir, "alone")
	p, err := n.Start(rig.Pen(t), "-f", "-u", "root", "-C", ctl, "--data-dir", filepath.Join(n.Dir, "other"), "127.0.0.1:0")
	must(t, err)
	ask := func(words ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return n.Run(ctx, append([]string{rig.Penctl(t), ctl}, words...)...)
	}
	if !rig.Eventually(rig.Patience, func() bool { _, err := os.Stat(ctl); return !errors.Is(err, os.ErrNotExist) }) {
		t.Fatal(p.Log())
	}
	got, err := ask("cluster", "restore", file)
	if want := "is of cluster shop, and this is a node that stood alone: if that is meant, add the word force"; !strings.Contains(got+errText(err), want) {
		t.Errorf("without force: got %q, %v, want %q", got, err, want)
	}
	got, err = ask("cluster", "backup", "mine")
	if err != nil || !strings.HasPrefix(got, "settings of a node that stood alone") {
		t.Errorf("backup alone: %q, %v", got, err)
	}
	got, err = ask("cluster", "restore", "mine")
	if err != nil || !strings.Contains(got, ": 0 settings changed") {
		t.Errorf("restore alone: %q, %v", got, err)
	}
	p.Signal(15)
	p.Wait(rig.Patience)
}
