//go:build linux

package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// boxes is a lab with so many nodes, of which the list names only some at first.
func boxes(t *testing.T, nodes int, peers string, more ...string) *suite {
	t.Helper()
	rig.NeedRoot(t)
	bin := rig.Bin(t)
	l, err := lab.New(lab.Config{Nodes: nodes})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	c, err := l.NewCluster(bin, more...)
	must(t, err)
	s := &suite{l, c, t}
	t.Cleanup(func() {
		if t.Failed() {
			s.confess(t)
		}
	})
	s.list(t, peers, s.Nodes...)
	return s
}

// list writes the file of nodes with other peers. They are given by the last part
// of their addresses.
func (s *suite) list(t testing.TB, peers string, nodes ...*lab.Node) {
	t.Helper()
	var all []string
	for _, p := range strings.Fields(peers) {
		all = append(all, "10.0.0."+p)
	}
	lines := strings.Split(s.Config, "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "peers ") })
	lines[i] = "peers " + strings.Join(all, " ")
	for _, n := range nodes {
		must(t, os.WriteFile(filepath.Join(n.Dir, "pen.cfg"), []byte(strings.Join(lines, "\n")), 0o644))
	}
}

// box is what `cluster json` says of a cluster and its boxes.
type box struct {
	Generation uint64      `json:"generation"`
	Quorum     bool        `json:"quorum"`
	Voters     int         `json:"voters"`
	Living     int         `json:"living"`
	Moves      int         `json:"moves"`
	Members    []boxMember `json:"members"`
}

type boxMember struct {
	ID       string `json:"id"`
	Addr     string `json:"addr"`
	Role     string `json:"role"`
	Alive    bool   `json:"alive"`
	Eligible bool   `json:"eligible"`
	Holding  bool   `json:"holding"`
	Priority int    `json:"priority"`
}

// String is the members of a cluster as a node sees them, in a line: the last part
// of the address of each, and its role.
func (b box) String() string {
	var all []string
	for _, m := range b.Members {
		host, _, _ := strings.Cut(m.Addr, ":")
		text := host[strings.LastIndex(host, ".")+1:] + " " + m.Role
		if !m.Alive {
			text += " dead"
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// priorities are those of the members in the order of their addresses.
func (b box) priorities() string {
	all := slices.Clone(b.Members)
	slices.SortFunc(all, func(a, b boxMember) int { return strings.Compare(a.Addr, b.Addr) })
	var text []string
	for _, m := range all {
		text = append(text, fmt.Sprint(m.Priority))
	}
	return strings.Join(text, " ")
}

func (s *suite) box(t testing.TB, n *lab.Node) (b box) {
	t.Helper()
	text, err := s.Ask(t.Context(), n, "cluster", "json")
	if err == nil {
		err = json.Unmarshal([]byte(text), &b)
	}
	if err != nil {
		return box{} // it may not be up yet
	}
	return b
}

// seen waits until nodes see these members.
func (s *suite) seen(t testing.TB, want string, nodes ...*lab.Node) {
	t.Helper()
	for _, n := range nodes {
		var got box
		if !rig.Eventually(30*time.Second, func() bool {
			got = s.box(t, n)
			return got.String() == want
		}) {
			t.Fatalf("%s sees %q, want %q:\n%s", n.Name, got, want, s.ask(t, n, "cluster"))
		}
	}
}

// retire stops pen on nodes, in good order.
func (s *suite) retire(t testing.TB, nodes ...*lab.Node) {
	t.Helper()
	for _, n := range nodes {
		s.Pen(n).Signal(syscall.SIGTERM)
	}
	for _, n := range nodes {
		if status, ended := s.Pen(n).Wait(rig.Patience); !ended || status != 0 {
			t.Fatalf("%s: ended %t with status %d, want 0", n.Name, ended, status)
		}
	}
}

// wipe takes the data of a node away.
func wipe(t testing.TB, n *lab.Node) {
	t.Helper()
	must(t, os.RemoveAll(filepath.Join(n.Dir, "data")))
}

// alias gives a node one more address.
func alias(t testing.TB, n *lab.Node, last string) {
	t.Helper()
	_, err := n.Run(t.Context(), "ip", "addr", "add", "10.0.0."+last+"/24", "dev", "eth0")
	must(t, err)
}

// TestPeersByReload lets a list grow and shrink, and all its addresses change,
// while clients come and go.
func TestPeersByReload(t *testing.T) {
	s := boxes(t, 4, "11 12 13")
	three, four := s.Nodes[:3], s.Nodes[3]
	must(t, s.Start(three...))
	s.seen(t, "11 voter, 12 voter, 13 voter", three...)
	w, err := s.Watch(clients)
	must(t, err)
	time.Sleep(1500 * time.Millisecond)
	before, from := s.lapses(t), time.Now()
	holder := s.holder(t)

	reload := func(peers string, nodes ...*lab.Node) {
		t.Helper()
		s.list(t, peers, s.Nodes...)
		for _, n := range nodes {
			if text := s.ask(t, n, "reload"); text != "" {
				t.Errorf("%s: reload says %q", n.Name, text)
			}
		}
	}
	// One more; who is listed and not there yet is not waited for.
	reload("11 12 13 14", three...)
	must(t, s.Start(four))
	s.seen(t, "11 voter, 12 voter, 13 voter, 14 voter", s.Nodes...)
	// One less. It is alive, and does not disturb.
	reload("11 12 13", three...)
	s.seen(t, "11 voter, 12 voter, 13 voter", three...)
	s.retire(t, four)
	// Another role, other priorities: nobody moves for that.
	witness := s.others(holder)[0]
	if witness == four {
		witness = s.others(holder)[1]
	}
	last := witness.Addr.As4()[3]
	list := strings.Replace("11 12 13", fmt.Sprint(last), fmt.Sprint(last, ":witness"), 1)
	reload(list, three...)
	s.seen(t, strings.Replace("11 voter, 12 voter, 13 voter", fmt.Sprint(last, " voter"), fmt.Sprint(last, " witness"), 1), three...)
	reload("11:prio=3 12:prio=2 13:prio=1", three...)
	for i, n := range three { // it is told within half a second
		if !rig.Eventually(rig.Patience, func() bool { return s.box(t, n).priorities() == "3 2 1" }) {
			t.Errorf("pen%d sees the priorities %s, want 3 2 1", i+1, s.box(t, n).priorities())
		}
	}
	r := w.Report(from, time.Now())
	t.Log(r)
	must(t, r.Err)
	if got := s.holder(t); got != holder {
		t.Errorf("the address has moved from %s to %s", holder.Name, got.Name)
	}
	fault{smooth: true, stays: true}.judgeConnects(t, r, lab.Report{}, before, s.lapses(t))
	if len(r.Owners) != 1 || r.Doubles > 0 || r.Moved > 0 {
		t.Error("want one node that answers, all the time")
	}

	// All addresses: the list first, then the nodes, the holder last.
	for i, n := range three {
		alias(t, n, fmt.Sprint(21+i))
	}
	s.list(t, "21 22 23", three...)
	for _, n := range three {
		if text := s.ask(t, n, "reload"); !strings.Contains(text, n.Addr.String()+", this node's own address, is not among them") {
			t.Errorf("%s: reload says %q", n.Name, text)
		}
	}
	from = time.Now()
	order := slices.DeleteFunc(slices.Clone(three), func(n *lab.Node) bool { return n == holder })
	for _, n := range append(order, holder) {
		s.retire(t, n)
		must(t, s.Start(n))
		if !rig.Eventually(rig.Patience, func() bool { b := s.box(t, n); return b.Voters == 3 && b.Living == 3 }) {
			t.Fatalf("%s is not back:\n%s", n.Name, s.ask(t, n, "cluster"))
		}
	}
	s.seen(t, "21 voter, 22 voter, 23 voter", three...)
	r = w.Report(from, time.Now())
	t.Log(r)
	if r.Doubles > 0 || r.Moved > 0 || r.Gap > gapLimit {
		t.Error("want one node answering at any time, and every client at its server")
	}
}

// TestAddressesOfAll starts all nodes at other addresses at once, with their data.
func TestAddressesOfAll(t *testing.T) {
	s := boxes(t, 3, "11 12 13")
	must(t, s.Start(s.Nodes...))
	s.seen(t, "11 voter, 12 voter, 13 voter", s.Nodes...)
	known := s.servers(t)
	s.ask(t, s.Nodes[0], "server", "0", "max", "77")
	s.retire(t, s.Nodes...)
	for i, n := range s.Nodes {
		// One of them gets an address that another one had.
		alias(t, n, fmt.Sprint(20+i))
	}
	s.list(t, "20 21 22", s.Nodes...)
	must(t, s.Start(s.Nodes...))
	s.seen(t, "20 voter, 21 voter, 22 voter", s.Nodes...)
	s.holder(t)
	if text := s.ask(t, s.Nodes[2], "servers"); !strings.Contains(text, "max 77") {
		t.Errorf("the settings of before are gone: %s", text)
	}
	for client, server := range s.servers(t) {
		if known[client] != server {
			t.Errorf("client %d: got %s, want %s as before", client, server, known[client])
		}
	}
}

// says waits until a node has logged a line with all these words.
func (s *suite) says(t testing.TB, n *lab.Node, words ...string) {
	t.Helper()
	said := func() bool {
		return slices.ContainsFunc(strings.Split(s.Pen(n).Log(), "\n"), func(line string) bool {
			return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
		})
	}
	if !rig.Eventually(rig.Patience, said) {
		t.Errorf("%s has no line with %q in its log", n.Name, words)
	}
}

// refuses gives a command that must be refused with these words.
func (s *suite) refuses(t testing.TB, n *lab.Node, command string, words ...string) {
	t.Helper()
	text, err := s.Ask(t.Context(), n, strings.Fields(command)...)
	if err == nil {
		t.Errorf("%s on %s is not refused: %q", command, n.Name, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s on %s: no %q in %q", command, n.Name, w, text)
		}
	}
}

func TestRemove(t *testing.T) {
	s := boxes(t, 3, "11 12 13")
	must(t, s.Start(s.Nodes...))
	s.seen(t, "11 voter, 12 voter, 13 voter", s.Nodes...)
	w, err := s.Watch(clients)
	must(t, err)
	time.Sleep(1500 * time.Millisecond)
	holder := s.holder(t)
	out, stays := s.others(holder)[0], s.others(holder)[1]
	from := time.Now()
	s.ask(t, stays, "cluster", "remove", out.Name)
	without := strings.Replace("11 voter, 12 voter, 13 voter", out.Addr.String()[7:]+" voter", out.Addr.String()[7:]+" absent", 1)
	s.seen(t, without, s.Nodes...)
	s.says(t, out, "this node was removed from the cluster", "control")
	time.Sleep(2 * time.Second) // it is alive and listed, and stays out
	s.seen(t, without, s.Nodes...)
	for _, n := range s.Nodes {
		if text := s.ask(t, n, "cluster"); !strings.Contains(text, "removed by control") || !strings.Contains(text, "started again") {
			t.Errorf("%s does not tell that %s was removed:\n%s", n.Name, out.Name, text)
		}
	}
	r := w.Report(from, time.Now())
	t.Log(r)
	if got := s.holder(t); got != holder || len(r.Owners) != 1 || r.Gap > gapLimit {
		t.Errorf("removing %s has disturbed %s", out.Name, holder.Name)
	}
	s.refuses(t, stays, "cluster remove nobody", "no member is called")
	s.retire(t, out)
	must(t, s.Start(out))
	s.seen(t, "11 voter, 12 voter, 13 voter", s.Nodes...)

	// Without a majority of those that would be left only by force.
	s.Pen(out).Signal(syscall.SIGKILL)
	s.Pen(out).Wait(rig.Patience)
	if !rig.Eventually(rig.Patience, func() bool { return s.box(t, holder).Living == 2 }) {
		t.Fatal("the dead node is not missed")
	}
	s.refuses(t, holder, "cluster remove "+stays.Name, "of the 2 voters that would be left 1 are heard", "force")
	// Who holds hands over first.
	s.ask(t, stays, "cluster", "remove", out.Name)
	must(t, s.Start(out))
	s.seen(t, "11 voter, 12 voter, 13 voter", s.Nodes...)
	s.well(t)
	s.ask(t, stays, "cluster", "remove", holder.Name)
	if got := s.holder(t); got == holder {
		t.Errorf("%s was removed and holds the address", holder.Name)
	}
	s.says(t, holder, "this node was removed from the cluster")
}

// TestRecover loses a majority, goes on with the one that is left, and gets the
// others back: one that was wiped, one that was not.
func TestRecover(t *testing.T) {
	s := boxes(t, 3, "11 12 13", "no hash")
	must(t, s.Start(s.Nodes...))
	s.seen(t, "11 voter, 12 voter, 13 voter", s.Nodes...)
	known := s.servers(t)
	keeps := s.Nodes[0]
	s.ask(t, s.Nodes[1], "server", "0", "max", "77")
	s.refuses(t, keeps, "cluster recover shop", "there is a quorum, 3 of 3 alive")
	for _, n := range s.Nodes[1:] {
		s.Pen(n).Signal(syscall.SIGKILL)
		s.Pen(n).Wait(rig.Patience)
	}
	if !rig.Eventually(rig.Patience, func() bool { return !s.box(t, keeps).Quorum }) {
		t.Fatal("there is still a quorum")
	}
	s.refuses(t, keeps, "cluster recover", "10.0.0.12", "10.0.0.13", "cluster recover shop", "Make sure")
	s.refuses(t, keeps, "cluster recover store", "cluster recover shop")
	from := time.Now()
	if text := s.ask(t, keeps, "cluster", "recover", "shop"); !strings.Contains(text, "generation 2") {
		t.Errorf("recover says %q", text)
	}
	if got := s.holder(t); got != keeps {
		t.Fatalf("%s holds the address", got.Name)
	}
	t.Logf("from the command to the first answer: %v", time.Since(from).Round(time.Millisecond))
	for client, server := range s.servers(t) {
		if known[client] != server {
			t.Errorf("client %d: got %s, want %s as before", client, server, known[client])
		}
	}
	if text := s.ask(t, keeps, "servers"); !strings.Contains(text, "max 77") {
		t.Errorf("the settings of before are gone: %s", text)
	}

	// The others, as they were, are a majority of the old cluster.
	old := s.Nodes[1:]
	must(t, s.Start(old...))
	for _, n := range old {
		s.says(t, n, "the cluster was recovered without this node", "stop pen here")
		if !rig.Eventually(rig.Patience, func() bool {
			return strings.Contains(s.ask(t, n, "cluster"), "the cluster was recovered without this node")
		}) {
			t.Errorf("%s does not tell what is to be done:\n%s", n.Name, s.ask(t, n, "cluster"))
		}
		s.says(t, keeps, "it is from before the cluster was recovered", n.Addr.String())
	}
	time.Sleep(time.Second)
	for _, n := range old {
		for _, m := range s.box(t, n).Members {
			if m.Eligible || m.Holding {
				t.Errorf("%s believes that %s can hold the address", n.Name, m.Addr)
			}
		}
	}
	if got := s.holder(t); got != keeps {
		t.Errorf("%s holds the address", got.Name)
	}
	for _, n := range old {
		s.retire(t, n)
		wipe(t, n)
		must(t, s.Start(n))
	}
	s.seen(t, "11 voter, 12 voter, 13 voter", s.Nodes...)
	s.well(t)
	for _, n := range s.Nodes {
		if b := s.box(t, n); b.Generation != 2 {
			t.Errorf("%s is of generation %d, want 2", n.Name, b.Generation)
		}
	}
	// All of it is on the disk.
	s.retire(t, s.Nodes...)
	must(t, s.Start(s.Nodes...))
	s.well(t)
	if text := s.ask(t, s.Nodes[2], "servers"); !strings.Contains(text, "max 77") {
		t.Errorf("the settings of before are gone: %s", text)
	}
}

// TestReplaced puts another machine into the place of one: the same address, an
// empty disk.
func TestReplaced(t *testing.T) {
	s := boxes(t, 3, "11 12 13")
	must(t, s.Start(s.Nodes...))
	s.seen(t, "11 voter, 12 voter, 13 voter", s.Nodes...)
	holder := s.holder(t)
	for _, n := range []*lab.Node{s.others(holder)[0], holder} { // the holder, too
		before := s.box(t, n)
		n.Signal(syscall.SIGKILL)
		s.Pen(n).Wait(rig.Patience)
		wipe(t, n)
		must(t, s.Start(n))
		s.seen(t, "11 voter, 12 voter, 13 voter", s.others(n)...)
		s.holder(t)
		if after := s.box(t, n); slices.ContainsFunc(after.Members, func(m boxMember) bool { return m.ID == "" }) || after.self(n) == before.self(n) {
			t.Errorf("%s is the node that it was", n.Name)
		}
	}
}

// self is the id of a node.
func (b box) self(n *lab.Node) string {
	for _, m := range b.Members {
		if strings.HasPrefix(m.Addr, n.Addr.String()+":") && m.Role == "voter" {
			return m.ID
		}
	}
	return ""
}

// TestCopiedData starts a second machine with the data of one that lives.
func TestCopiedData(t *testing.T) {
	s := boxes(t, 4, "11 12 13 14")
	three, four := s.Nodes[:3], s.Nodes[3]
	must(t, s.Start(three...))
	if !rig.Eventually(30*time.Second, func() bool { return s.box(t, three[0]).Living == 3 }) {
		t.Fatal("three of four have not formed a cluster")
	}
	from := s.others(s.holder(t))[0]
	must(t, os.CopyFS(filepath.Join(four.Dir, "data"), os.DirFS(filepath.Join(from.Dir, "data"))))
	must(t, s.Start(four))
	for _, n := range three {
		s.says(t, n, "duplicate node id", four.Addr.String())
	}
	s.says(t, four, "duplicate node id")
	if b := s.box(t, three[0]); b.Living != 3 || !b.Quorum {
		t.Errorf("the copy has disturbed the others: %+v", b)
	}
	if b := s.box(t, four); b.Quorum {
		t.Errorf("the copy speaks of a quorum: %+v", b)
	}
	s.holder(t)
}

// TestWitness runs the third node as nobody: the same file, with an address, a
// port below 1024 and servers in it, and no privilege at all.
func TestWitness(t *testing.T) {
	s := boxes(t, 3, "11 12 13:witness")
	two, witness := s.Nodes[:2], s.Nodes[2]
	const nobody = 65534
	for _, name := range []string{".", "cluster.key", "pen.cfg"} {
		must(t, os.Chown(filepath.Join(witness.Dir, name), nobody, nobody))
	}
	unprivileged := []string{
		"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs",
		"prlimit", "--nofile=1024:1024",
	}
	pen := filepath.Join(rig.Bin(t), "pen")
	// Neither the network of the address nor many connections are needed for it.
	text, err := os.ReadFile(filepath.Join(witness.Dir, "pen.cfg"))
	must(t, err)
	elsewhere := strings.Replace(string(text), "10.0.0.10/24", "10.99.0.10/24", 1) + "conn_max 100000\n"
	must(t, os.WriteFile(filepath.Join(witness.Dir, "elsewhere.cfg"), []byte(elsewhere), 0o644))
	if out, err := witness.Run(t.Context(), append(unprivileged, pen, "--check", "-F", "elsewhere.cfg", "--data-dir", "data")...); err != nil || strings.Contains(out, "error") || strings.Contains(out, "warning") {
		t.Errorf("--check as nobody: %s, %v", out, err)
	}
	must(t, os.WriteFile(filepath.Join(witness.Dir, "pen.cfg"), []byte(string(text)+"conn_max 1000\n"), 0o644))
	for _, n := range two {
		must(t, os.WriteFile(filepath.Join(n.Dir, "pen.cfg"), []byte(string(text)+"conn_max 1000\n"), 0o644))
	}
	p, err := witness.Start(append(unprivileged, pen, "-f", "-F", "pen.cfg", "-C", s.Control(witness), "--data-dir", "data")...)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the witness said:\n%s", p.Log())
		}
	})
	must(t, s.Start(two...))
	s.seen(t, "11 voter, 12 voter, 13 witness", s.Nodes...)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	must(t, err)
	if !strings.Contains(string(status), "CapPrm:\t0000000000000000") {
		t.Errorf("the witness has privileges:\n%s", status)
	}
	if out, err := witness.Run(t.Context(), "ss", "-Hltn"); err != nil || strings.Count(strings.TrimSpace(out), "\n") != 0 || !strings.Contains(out, ":7950") {
		t.Errorf("the witness listens, want the port of the cluster alone: %s, %v", out, err)
	}
	// It takes commands like any other node.
	s.ask(t, witness, "server", "0", "max", "77")
	s.ask(t, witness, "listen", "81")
	s.ask(t, witness, "listen", "80")
	holder := s.holder(t)
	if text := s.ask(t, holder, "servers"); !strings.Contains(text, "max 77") {
		t.Errorf("a change at the witness: %s", text)
	}
	s.refuses(t, witness, "cluster transfer "+witness.Name, "witness")
	// The survivor of the other two takes the address with the vote of the witness,
	// whoever of them is elected.
	for range 2 {
		holder := s.holder(t)
		holder.Signal(syscall.SIGKILL)
		s.Pen(holder).Wait(rig.Patience)
		if got := s.holder(t); got == witness || got == holder {
			t.Fatalf("%s holds the address", got.Name)
		}
		must(t, s.Start(holder))
		s.seen(t, "11 voter, 12 voter, 13 witness", s.Nodes...)
		if !rig.Eventually(rig.Patience, func() bool { return s.eligible(t, holder) == 2 }) {
			t.Fatalf("%s is not ready again", holder.Name)
		}
	}
	p.Signal(syscall.SIGTERM)
	if status, ended := p.Wait(rig.Patience); !ended || status != 0 {
		t.Errorf("the witness: ended %t with status %d", ended, status)
	}
}

// eligible counts the nodes that could hold the address, as one of them says.
func (s *suite) eligible(t testing.TB, n *lab.Node) (count int) {
	t.Helper()
	for _, m := range s.box(t, n).Members {
		if m.Eligible {
			count++
		}
	}
	return count
}

// TestPreempt gives the address back to the preferred node when that has been
// ready for two seconds, and not before.
func TestPreempt(t *testing.T) {
	s := boxes(t, 3, "11:prio=2 12 13", "preempt 2")
	best := s.Nodes[0]
	must(t, s.Start(s.Nodes...))
	s.seen(t, "11 voter, 12 voter, 13 voter", s.Nodes...)
	if !rig.Eventually(rig.Patience, func() bool { return s.holder(t) == best }) {
		t.Fatal("the preferred node does not hold the address")
	}
	best.Signal(syscall.SIGKILL)
	s.Pen(best).Wait(rig.Patience)
	other := s.holder(t)
	if other == best {
		t.Fatal("a dead node answers")
	}
	// Half way it goes away once more: the time begins anew.
	must(t, s.Start(best))
	if !rig.Eventually(rig.Patience, func() bool { return s.eligible(t, other) == 3 }) {
		t.Fatalf("%s is not ready", best.Name)
	}
	time.Sleep(time.Second)
	best.Signal(syscall.SIGKILL)
	s.Pen(best).Wait(rig.Patience)
	must(t, s.Start(best))
	again := time.Now()
	for s.holder(t) != best {
		if time.Since(again) > rig.Patience {
			t.Fatalf("%s does not get the address back", best.Name)
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(again)
	t.Logf("back %v after its second start", took.Round(time.Millisecond))
	if took < 2*time.Second {
		t.Errorf("%s has the address back after %v, want two seconds of being ready first", best.Name, took)
	}
}
