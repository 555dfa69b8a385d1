//go:build linux

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// A witness comes to a pair that runs: from then on the one that is left has a
// quorum, and does not go by evidence.
func TestPairGetsAWitness(t *testing.T) {
	s := boxes(t, 3, "11 12", "no hash", "gateway 10.0.0.100")
	two, witness := s.Nodes[:2], s.Nodes[2]
	must(t, s.Start(two...))
	s.seen(t, "11 voter, 12 voter", two...)
	holder := s.holder(t)
	s.tells(t, holder, rig.Patience, "quorum, 2 of 2 alive", "HOLDER(quorum)")
	w, err := s.Watch(clients)
	must(t, err)
	time.Sleep(1500 * time.Millisecond)
	from, before := time.Now(), s.lapses(t)
	s.list(t, "11 12 13:witness", s.Nodes...)
	for _, n := range two {
		s.ask(t, n, "reload")
	}
	must(t, s.Start(witness))
	s.seen(t, "11 voter, 12 voter, 13 witness", s.Nodes...)
	s.tells(t, holder, rig.Patience, "quorum, 3 of 3 alive", "HOLDER(quorum)")
	r := w.Report(from, time.Now())
	t.Log(r)
	must(t, r.Err)
	if r.Doubles > 0 || r.Moved > 0 || len(r.Owners) != 1 && !held(r, before, s.lapses(t)) {
		t.Error("want one node answering all the time, and every client at its server")
	}

	holder = s.holder(t)
	heir := two[0]
	if heir == holder {
		heir = two[1]
	}
	holder.Signal(syscall.SIGKILL)
	s.tells(t, heir, 3*rig.Patience, "quorum, 2 of 3 alive", "HOLDER(quorum)")
	t.Log(w.Report(from, time.Now()))
	s.restart(t)
	s.seen(t, "11 voter, 12 voter, 13 witness", s.Nodes...)
	if got := s.holder(t); got == witness {
		t.Error("the witness holds the address")
	}
}

// Both of two nodes that are cut apart are changed by force. When they find each
// other all of it happens to both, each change once. Of two that say different
// things the one counts that is the last in the record of changes, on both.
func TestPairForcesApart(t *testing.T) {
	s := pair(t)
	holder := s.holder(t)
	other := s.others(holder)[0]
	must(t, s.Partition(one(holder), one(other)))
	s.tells(t, other, fallbackLimit, "HOLDER(fallback)")
	s.tells(t, holder, fallbackLimit, "HOLDER(fallback)")
	s.ask(t, holder, "cluster", "force", "server", "0", "max", "77")
	s.ask(t, holder, "cluster", "force", "server", "1", "max", "78")
	s.ask(t, other, "cluster", "force", "server", "0", "max", "88")
	s.ask(t, other, "cluster", "force", "server", "2", "max", "89")
	const waits = "forced changes that the cluster has not agreed on yet: 2"
	s.tells(t, holder, rig.Patience, waits)
	s.tells(t, other, rig.Patience, waits)
	must(t, s.Heal())
	s.well(t)
	servers := func(n *lab.Node) string { return s.ask(t, n, "servers") }
	for _, n := range s.Nodes {
		if !rig.Eventually(rig.Patience, func() bool {
			text := servers(n)
			return strings.Contains(text, "max 78 ") && strings.Contains(text, "max 89 ") && !strings.Contains(s.ask(t, n, "cluster"), "forced changes")
		}) {
			t.Errorf("%s does not have all changes:\n%s\n%s", n.Name, servers(n), s.ask(t, n, "cluster"))
		}
	}
	log := s.ask(t, holder, "cluster", "log")
	t.Logf("the record of changes:\n%s\nand what is in force:\n%s", log, servers(holder))
	for _, max := range []string{"max 77", "max 78", "max 88", "max 89"} {
		if strings.Count(log, max) != 1 {
			t.Errorf("%q is not in the record once:\n%s", max, log)
		}
	}
	last := "max 77 "
	if strings.LastIndex(log, "max 88") > strings.LastIndex(log, "max 77") {
		last = "max 88 "
	}
	for _, n := range s.Nodes {
		if !strings.Contains(servers(n), last) {
			t.Errorf("%s does not go by the last change, %s:\n%s", n.Name, last, servers(n))
		}
	}
	s.logs(t, holder, "a forced change was agreed on", "max 77")
	s.logs(t, other, "a forced change was agreed on", "max 88")
}

// Fallback where there is no IPv4: the gateway is the router of the default route,
// which has a link-local address only, and is asked by neighbour solicitations.
func TestPairIPv6(t *testing.T) {
	s := prepareOf(t, lab.Config{Nodes: 2}, "no hash")
	must(t, s.Dual())
	text := s.Config
	for _, n := range s.Nodes {
		text = strings.Replace(text, n.Addr.String(), n.Addr6().String(), 1)
	}
	text = strings.Replace(text, "vip "+lab.VIP.String()+"/24", fmt.Sprintf("vip %s/64", lab.VIP6), 1)
	for _, n := range s.Nodes {
		must(t, os.WriteFile(filepath.Join(n.Dir, "pen.cfg"), []byte(text), 0o644))
		s.on(t, n, "ip addr flush dev eth0 scope global; ip -6 addr add "+n.Addr6().String()+"/64 dev eth0 nodad; ip -6 route add default via fe80::1 dev eth0")
	}
	must(t, s.Start(s.Nodes...))
	holder := s.holder6(t)
	other := s.others(holder)[0]
	stop := make(chan struct{})
	result, err := s.Discover(stop)
	must(t, err)

	// The other one is gone: the holder keeps it.
	other.Signal(syscall.SIGKILL)
	s.Pen(other).Wait(rig.Patience)
	s.tells(t, holder, rig.Patience, "HOLDER(fallback)", "1 of 2 alive")
	s.restart(t)
	if got := s.holder6(t); got != holder {
		t.Errorf("%s holds the address, want %s as before", got.Name, holder.Name)
	}
	// The holder is gone: the other one takes it, after it has asked.
	from := time.Now()
	holder.Signal(syscall.SIGKILL)
	s.Pen(holder).Wait(rig.Patience)
	s.tells(t, other, 2*fallbackLimit, "HOLDER(fallback)")
	t.Logf("taken after %v", time.Since(from).Round(time.Millisecond))
	s.restart(t)
	s.holder6(t)
	// Without an answer of the gateway a node that is alone holds nothing.
	holder = s.holder6(t)
	other = s.others(holder)[0]
	must(t, s.Partition(lab.Side{Nodes: []*lab.Node{holder}}, lab.Side{Nodes: []*lab.Node{other}, Clients: true}))
	s.tells(t, holder, 2*fallbackLimit, "no answer of the gateway")
	s.tells(t, other, 2*fallbackLimit, "HOLDER(fallback)")
	must(t, s.Heal())
	s.holder6(t)
	close(stop)
	seen := <-result
	must(t, seen.Err)
	if n := seen.Doubles(); n > 0 {
		t.Errorf("two nodes answered %d neighbour solicitations", n)
	}
}
