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

// What two nodes may take to find out that the other one is gone: three seconds of
// silence and half a second between signs, one and a half for the probes, one for
// the node that comes second; the machine is busy with other tests.
const fallbackLimit = 8 * time.Second

// pair begins a cluster of two nodes. The clients' router is the gateway.
func pair(t *testing.T, more ...string) *suite {
	t.Helper()
	s := prepareOf(t, lab.Config{Nodes: 2}, append([]string{"no hash", "gateway 10.0.0.100"}, more...)...)
	must(t, s.Start(s.Nodes...))
	s.well(t)
	return s
}

// tells waits until a node's table has all the words.
func (s *suite) tells(t testing.TB, n *lab.Node, most time.Duration, words ...string) {
	t.Helper()
	text := ""
	if !rig.Eventually(most, func() bool {
		var err error
		text, err = s.Ask(t.Context(), n, "cluster")
		for _, w := range words {
			if err != nil || !strings.Contains(text, w) {
				return false
			}
		}
		return true
	}) {
		t.Errorf("%s does not say %q:\n%s", n.Name, words, text)
	}
}

// keeps checks that clients that came without a quorum have their servers, also
// through the other node.
func (s *suite) keeps(t testing.TB, servers map[int]string) {
	t.Helper()
	holder := s.holder(t)
	s.ask(t, holder, "cluster", "transfer")
	if !rig.Eventually(rig.Patience, func() bool { return s.holder(t) != holder }) {
		t.Errorf("%s still holds the address", holder.Name)
	}
	s.well(t)
	for i, want := range servers {
		got, _, err := s.Fetch(i)
		must(t, err)
		if got != want {
			t.Errorf("client %d, which came without a quorum: got %s, want %s", i, got, want)
		}
	}
}

// The two nodes lose each other, one after the other.
func TestPair(t *testing.T) {
	s := pair(t)
	w, err := s.Watch(clients)
	must(t, err)
	time.Sleep(1500 * time.Millisecond) // every client comes, and is remembered
	for _, f := range []struct {
		name  string
		do    func(t *testing.T, holder, other *lab.Node)
		lasts time.Duration
		gap   time.Duration // at most
		stays bool
		comes bool     // clients that nobody knows come meanwhile
		says  []string // the table of who holds then
	}{
		{"the other node is killed", func(t *testing.T, _, other *lab.Node) {
			other.Signal(syscall.SIGKILL)
		}, 2 * time.Second, gapLimit / 2, true, false, []string{"HOLDER(fallback)", "no quorum (fallback), 1 of 2 alive"}},
		{"the holder is killed", func(t *testing.T, holder, _ *lab.Node) {
			holder.Signal(syscall.SIGKILL)
		}, fallbackLimit, fallbackLimit, false, true, []string{"HOLDER(fallback)"}},
		{"the cluster's port is cut off", func(t *testing.T, holder, other *lab.Node) {
			must(t, s.CutPort(one(holder), one(other)))
		}, 7 * time.Second, gapLimit / 2, true, false, []string{"HOLDER(fallback)"}},
	} {
		if !t.Run(f.name, func(t *testing.T) {
			holder := s.holder(t)
			other := s.others(holder)[0]
			from := time.Now()
			f.do(t, holder, other)
			heir := other
			if f.stays {
				heir = holder
			}
			s.tells(t, heir, f.lasts, f.says...)
			new := map[int]string{}
			for i := clients; f.comes && i < clients+20; i++ {
				server, _, err := s.Fetch(i)
				must(t, err)
				new[i] = server
			}
			if !f.comes {
				time.Sleep(time.Until(from.Add(f.lasts)))
			}
			healing := time.Now()
			must(t, s.Heal())
			s.restart(t)
			s.well(t)
			s.tells(t, s.holder(t), rig.Patience, "HOLDER(quorum)", "quorum, 2 of 2 alive")
			all := time.Now().Add(1100 * time.Millisecond)
			time.Sleep(time.Until(all))
			if f.comes {
				s.keeps(t, new)
			}
			during, after := w.Report(from, healing), w.Report(healing, all)
			t.Logf("during:\n%sfrom the healing on:\n%s", during, after)
			for when, r := range map[string]lab.Report{"during": during, "after": after} {
				must(t, r.Err)
				if r.Doubles > 0 || r.Moved > 0 {
					t.Errorf("%s: two nodes answered %d times, %d clients met another server", when, r.Doubles, r.Moved)
				}
			}
			if during.Gap > f.gap || after.Gap > gapLimit {
				t.Errorf("nobody was answered for %v and, after the healing, %v; want at most %v and %v", during.Gap, after.Gap, f.gap, gapLimit)
			}
			if after.Clients != clients {
				t.Errorf("%d clients came back, want all %d", after.Clients, clients)
			}
			if t.Failed() {
				t.Logf("all that was seen, in ms since the fault:\n%s", w.Trace(from, all))
			}
		}) {
			t.FailNow()
		}
	}
}

// Two nodes that do not even hear each other's ARP both hold the address: that is
// the price. When they find each other the one that has held it all the time keeps
// it.
func TestPairCutApart(t *testing.T) {
	s := pair(t)
	holder := s.holder(t)
	other := s.others(holder)[0]
	must(t, s.Partition(one(holder), one(other)))
	s.tells(t, other, fallbackLimit, "HOLDER(fallback)", "the other node is silent")
	s.tells(t, holder, rig.Patience, "HOLDER(fallback)")
	if said, _ := s.Ask(t.Context(), holder, "server", "0", "weight", "3"); !strings.Contains(said, "error: no quorum (fallback): nothing was changed") {
		t.Errorf("a change was answered %q", said)
	}
	w, err := s.Watch(clients)
	must(t, err)
	healing := time.Now()
	must(t, s.Heal())
	s.well(t)
	if now := s.holder(t); now != holder {
		t.Errorf("%s holds the address, want %s, which has held it all the time", now.Name, holder.Name)
	}
	time.Sleep(500 * time.Millisecond)
	r := w.Report(healing, time.Now())
	t.Log(r)
	if limit := time.Second; r.Overlap > limit {
		t.Errorf("two answered for %v after the healing, want at most %v", r.Overlap, limit)
	}
}

// A change that is forced on the one that is left outlives it, and is the other's,
// too, when that one is back: once.
func TestPairForces(t *testing.T) {
	s := pair(t)
	holder := s.holder(t)
	other := s.others(holder)[0]
	change := []string{"cluster", "force", "server", "0", "max", "77"}
	refused := func(want string, words ...string) {
		t.Helper()
		if said, _ := s.Ask(t.Context(), holder, words...); !strings.Contains(said, want) {
			t.Errorf("%q was answered %q, want %q", words, said, want)
		}
	}
	refused("error: there is a quorum: ask without force", change...)
	other.Signal(syscall.SIGKILL)
	s.tells(t, holder, rig.Patience, "HOLDER(fallback)")
	refused("cluster force COMMAND changes them here now, and there when it is back", change[2:]...)
	refused("error: only what the control port sets for the whole cluster can be forced", "cluster", "force", "reload")
	s.ask(t, holder, change...)
	const waits = "forced changes that the cluster has not agreed on yet: 1"
	s.tells(t, holder, rig.Patience, waits)
	has := func(n *lab.Node) bool {
		text, err := s.Ask(t.Context(), n, "servers")
		return err == nil && strings.Contains(text, " max 77 ")
	}
	if !has(holder) {
		t.Error("the change is not in force at once")
	}
	holder.Signal(syscall.SIGKILL)
	s.Pen(holder).Wait(rig.Patience)
	must(t, s.Start(holder))
	s.tells(t, holder, rig.Patience, waits)
	s.restart(t)
	s.well(t)
	for _, n := range s.Nodes {
		if !rig.Eventually(rig.Patience, func() bool { return has(n) }) {
			t.Errorf("%s does not have the change", n.Name)
		}
		if text := s.ask(t, n, "cluster", "log"); strings.Count(text, "max 77") != 1 {
			t.Errorf("%s: the change is not there once:\n%s", n.Name, text)
		}
	}
	if !rig.Eventually(rig.Patience, func() bool { return !strings.Contains(s.ask(t, holder, "cluster"), "forced changes") }) {
		t.Error("the change still waits")
	}
}

// Who prefers an outage gets one.
func TestPairHolds(t *testing.T) {
	s := pair(t, "quorum_loss hold")
	holder := s.holder(t)
	s.others(holder)[0].Signal(syscall.SIGKILL)
	s.tells(t, holder, rig.Patience, "no quorum, 1 of 2 alive: nothing can be changed, and nobody holds the address", "holder none")
	if server, _, err := s.Fetch(0); err == nil {
		t.Errorf("answered by %s without a quorum", server)
	}
	s.restart(t)
	s.well(t)
}

// One of two machines does not come back after a power failure. The other waits for
// it for half a minute and then takes the address, with what its disk knows.
func TestPairColdStart(t *testing.T) {
	if !long {
		t.Skip("takes 45 s: only with PEN_E2E=long")
	}
	s := pair(t)
	before := s.servers(t)
	for _, n := range s.Nodes {
		n.Signal(syscall.SIGKILL)
	}
	for _, n := range s.Nodes {
		s.Pen(n).Wait(rig.Patience)
	}
	from := time.Now()
	must(t, s.Start(s.Nodes[1]))
	s.tells(t, s.Nodes[1], 40*time.Second, "HOLDER(fallback)")
	if took := time.Since(from); took < 30*time.Second {
		t.Errorf("taken after %v, want at least 30 s", took)
	}
	for i, server := range s.servers(t) {
		if server != before[i] {
			t.Errorf("client %d: got %s, want %s as before", i, server, before[i])
		}
	}
	s.restart(t)
	s.well(t)
}

// A third node comes to a pair that runs. It gets no vote before both of the two
// have the longer list: with that they do not decide alone any more.
func TestPairGrows(t *testing.T) {
	s := prepareOf(t, lab.Config{}, "no hash", "gateway 10.0.0.100")
	first, second, third := s.Nodes[0], s.Nodes[1], s.Nodes[2]
	short := strings.Replace(s.Config, " "+third.Addr.String()+"\n", "\n", 1)
	for _, n := range []*lab.Node{first, second} {
		must(t, os.WriteFile(filepath.Join(n.Dir, "pen.cfg"), []byte(short), 0o644))
	}
	must(t, s.Start(first, second))
	holder := s.holder(t)
	s.tells(t, holder, rig.Patience, "quorum, 2 of 2 alive", "HOLDER(quorum)")
	for _, n := range s.Nodes {
		must(t, os.WriteFile(filepath.Join(n.Dir, "pen.cfg"), []byte(s.Config), 0o644))
	}
	other := first
	if holder == first {
		other = second
	}
	s.ask(t, holder, "reload")
	must(t, s.Start(third))
	warned := func() bool {
		return strings.Contains(s.Pen(holder).Log(), "a third node gets no vote while one of the two decides without a quorum")
	}
	if !rig.Eventually(rig.Patience, warned) {
		t.Error("no word on why the third node has no vote")
	}
	s.tells(t, holder, rig.Patience, "quorum, 2 of 2 alive")
	s.ask(t, other, "reload")
	s.tells(t, holder, rig.Patience, "quorum, 3 of 3 alive")
	s.well(t)
	// The rule of two is over: the last of three gives the address up.
	last := s.holder(t)
	for _, n := range s.others(last) {
		n.Signal(syscall.SIGKILL)
	}
	s.tells(t, last, rig.Patience, "no quorum, 1 of 3 alive: nothing can be changed, and nobody holds the address", "holder none")
	s.restart(t)
	s.well(t)
}
