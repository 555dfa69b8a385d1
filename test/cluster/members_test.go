//go:build linux

package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

func TestRollingRestart(t *testing.T) {
	s := begin(t)
	w, err := s.Watch(clients)
	must(t, err)
	time.Sleep(1500 * time.Millisecond)
	before, from := s.lapses(t), time.Now()
	for range pick(1, 10) {
		for _, n := range s.Nodes {
			s.Pen(n).Signal(syscall.SIGTERM)
			if status, ended := s.Pen(n).Wait(rig.Patience); !ended || status != 0 {
				t.Fatalf("%s: ended %t with status %d, want 0", n.Name, ended, status)
			}
			must(t, s.Start(n))
			s.well(t)
		}
	}
	r := w.Report(from, time.Now())
	t.Log(r)
	must(t, r.Err)
	if r.Doubles > 0 || r.Moved > 0 || r.Gap > gapLimit {
		t.Error("want one node answering at any time, and every client at its server")
	}
	fault{smooth: true}.judgeConnects(t, r, lab.Report{}, before, s.lapses(t))
	if r.Clients != clients {
		t.Errorf("%d clients came back, want all %d", r.Clients, clients)
	}
}

func TestRestartOfAll(t *testing.T) {
	s := begin(t)
	before := s.servers(t)
	for _, n := range s.Nodes {
		s.Pen(n).Signal(syscall.SIGKILL)
	}
	for _, n := range s.Nodes {
		s.Pen(n).Wait(rig.Patience)
	}
	s.restart(t)
	s.well(t)
	for client, server := range s.servers(t) {
		if before[client] != server {
			t.Errorf("client %d: got %s, want %s as before", client, server, before[client])
		}
	}
}

// servers says who answers the first ten clients.
func (s *suite) servers(t testing.TB) (all []string) {
	t.Helper()
	for i := range 10 {
		server, _, err := s.Fetch(i)
		must(t, err)
		all = append(all, server)
	}
	time.Sleep(200 * time.Millisecond) // that they are known to all nodes
	return all
}

func TestWrongKey(t *testing.T) {
	s := prepare(t)
	stranger := s.Nodes[2]
	key, err := stranger.Run(t.Context(), rig.Pen(t), "--genkey")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(stranger.Dir, "cluster.key"), []byte(key), 0o600))
	must(t, s.Start(s.Nodes...))
	if holder := s.holder(t); holder == stranger {
		t.Fatal("the stranger holds the address")
	}
	said := func() bool {
		text := s.ask(t, s.Nodes[0], "cluster")
		return strings.Contains(text, "key") && strings.Contains(text, stranger.Addr.String())
	}
	if !rig.Eventually(rig.Patience, said) {
		t.Errorf("status does not tell about the wrong key:\n%s", s.ask(t, s.Nodes[0], "cluster"))
	}
	s.logs(t, s.Nodes[0], "key", stranger.Addr.String())
	s.logs(t, stranger, "key")
}

// logs checks that a node has logged words in one line.
func (s *suite) logs(t testing.TB, n *lab.Node, words ...string) {
	t.Helper()
	for line := range strings.Lines(s.Pen(n).Log()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return
		}
	}
	t.Errorf("%s has no line with %q in its log", n.Name, words)
}

func TestFileThatDiffers(t *testing.T) {
	s := prepare(t)
	other := s.Nodes[1]
	must(t, os.WriteFile(filepath.Join(other.Dir, "pen.cfg"), []byte(s.Config+"server 2 address 10.0.1.3 port 81\n"), 0o644))
	must(t, s.Start(s.Nodes...))
	s.well(t)
	for _, n := range s.Nodes {
		var st status
		if !rig.Eventually(rig.Patience, func() bool { // it is told by gossip
			var err error
			st, err = s.status(t.Context(), n)
			must(t, err)
			digests := map[uint64]int{}
			for _, m := range st.Members {
				digests[m.Digest]++
			}
			return len(digests) == 2
		}) {
			t.Errorf("%s: want one file that differs from two: %+v", n.Name, st)
		}
	}
}
