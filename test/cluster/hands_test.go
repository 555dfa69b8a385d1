//go:build linux

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// meddling is what others do to the address of the holder, and what must be seen
// of it: by clients, by who reads the log, the table and the counters.
type meddling struct {
	name string
	do   func(t testing.TB, s *suite, holder *lab.Node)

	gap     time.Duration // without an answer; 0: 300 ms
	without time.Duration // without the address in any kernel; 0: 0
	moves   bool          // it may go to another node
	calm    bool          // hardly more than one announcement a second
	counts  string        // a number of `cluster json` that must grow
	shown   string        // a part of a line under the table
	logged  []string      // words of one line
}

var meddlings = []meddling{
	{
		name: "address deleted", do: func(t testing.TB, s *suite, holder *lab.Node) {
			for range 3 {
				s.on(t, holder, "ip addr del "+lab.VIP.String()+"/32 dev eth0")
				time.Sleep(200 * time.Millisecond)
			}
		},
		without: 50 * time.Millisecond, counts: "readded", shown: "removed by others and added again",
		logged: []string{"removed by others and added again", "vip=" + lab.VIP.String(), "iface=eth0"},
	},
	{
		name: "address deleted every 20 ms", do: func(t testing.TB, s *suite, holder *lab.Node) {
			before, from := s.cpu(t, holder), time.Now()
			s.on(t, holder, "for i in $(seq 80); do ip addr del "+lab.VIP.String()+"/32 dev eth0 2>/dev/null; sleep 0.02; done")
			if used, took := s.cpu(t, holder)-before, time.Since(from); used > took/2 {
				t.Errorf("%v of CPU time in %v", used, took)
			}
		},
		without: 100 * time.Millisecond, gap: time.Second, counts: "readded",
		logged: []string{"removed by others and added again", "times="},
	},
	{
		name: "claimed by a stranger", do: func(t testing.TB, s *suite, _ *lab.Node) {
			for range 100 {
				must(t, s.Claim())
				time.Sleep(20 * time.Millisecond)
			}
		},
		// Clients believe the stranger for as long as it claims.
		gap: 5 * time.Second, calm: true, counts: "conflicts", shown: "was claimed by " + lab.StrangerMAC.String(),
		logged: []string{"another machine claims an address of ours", "mac=" + lab.StrangerMAC.String()},
	},
	{
		name: "rules flushed", do: func(t testing.TB, s *suite, holder *lab.Node) {
			for _, how := range []string{"flush ruleset", "delete table inet pen_shop", "delete table arp pen_shop", "flush chain arp pen_shop answers"} {
				s.on(t, holder, "nft "+how)
				from := time.Now()
				whole := func() bool {
					text, err := holder.Run(t.Context(), "nft", "list ruleset")
					return err == nil && strings.Count(text, "drop") == 3
				}
				if !rig.Eventually(rig.Patience, whole) {
					t.Fatalf("after %s: the rules do not come back", how)
				}
				t.Logf("after %s: whole again within %v", how, time.Since(from).Round(time.Millisecond))
			}
		},
		counts: "repaired", shown: "nftables rules changed by others and made again",
		logged: []string{"nftables table was changed by others, made again", "table=pen_shop"},
	},
	{
		name: "guard killed again and again", do: func(t testing.TB, s *suite, holder *lab.Node) {
			for range 4 {
				guard := 0
				if !rig.Eventually(rig.Patience, func() bool { guard = s.Pen(holder).Guard(); return guard != 0 }) {
					t.Fatal("no guard comes after the one that was killed")
				}
				must(t, syscall.Kill(guard, syscall.SIGKILL))
			}
		},
		counts: "guard_ends", shown: "guard ended and replaced",
		logged: []string{"guard of the virtual addresses has ended", "again="},
	},
	{
		name: "interface renamed", do: func(t testing.TB, s *suite, holder *lab.Node) {
			must(t, holder.Rename("eth0", "lan0"))
			s.well(t)
			must(t, holder.Rename("lan0", "eth0"))
		},
		gap: gapLimit, without: gapLimit, moves: true,
		logged: []string{"the address has another interface now", "iface=lan0", "was=eth0"},
	},
	{
		// A driver that is unloaded and loaded again: the same name, and nothing else.
		name: "interface made again", do: func(t testing.TB, s *suite, holder *lab.Node) {
			must(t, holder.Unmake())
			if !rig.Eventually(rig.Patience, func() bool {
				_, n, err := s.Fetch(0)
				return err == nil && n != holder
			}) {
				t.Error("nobody else takes the address")
			}
			var why string
			if !rig.Eventually(rig.Patience, func() bool {
				why = s.why(t, holder)
				return strings.Contains(why, "no interface eth0 for "+lab.VIP.String())
			}) {
				t.Errorf("the node without its interface says %q", why)
			}
			must(t, holder.Remake())
		},
		gap: gapLimit, without: gapLimit, moves: true,
	},
	{
		name: "carrier flapping", do: func(t testing.TB, s *suite, holder *lab.Node) {
			for range pick(4, 30) {
				must(t, holder.LinkDown())
				time.Sleep(100 * time.Millisecond)
				must(t, holder.LinkUp())
				time.Sleep(100 * time.Millisecond)
			}
			var why string
			if !rig.Eventually(rig.Patience, func() bool {
				why = s.why(t, holder)
				return strings.Contains(why, "a minute: it must stand for")
			}) {
				t.Errorf("the node whose carrier flaps is not eligible because of %q", why)
			}
		},
		gap: gapLimit, without: gapLimit, moves: true, counts: "carrier_losses", shown: "carrier lost",
		logged: []string{"no carrier", "times="},
	},
	{
		// A switch that is ill: without a rule the address would be somewhere else each
		// time. Now it rests until a carrier has stood for two seconds.
		name: "all carriers flapping in turn", do: func(t testing.TB, s *suite, _ *lab.Node) {
			for i := range pick(12, 60) {
				n := s.Nodes[i%len(s.Nodes)]
				must(t, n.LinkDown())
				time.Sleep(100 * time.Millisecond)
				must(t, n.LinkUp())
			}
		},
		gap: pick(6*time.Second, 12*time.Second), without: pick(6*time.Second, 12*time.Second), moves: true, counts: "carrier_losses", shown: "carrier lost",
	},
	{
		name: "all nodes frozen", do: func(_ testing.TB, s *suite, _ *lab.Node) {
			for _, n := range s.Nodes {
				n.Signal(syscall.SIGSTOP)
			}
			time.Sleep(pick(3*time.Second, 10*time.Second))
			for _, n := range s.Nodes {
				n.Signal(syscall.SIGCONT)
			}
		},
		gap: pick(6*time.Second, 13*time.Second), without: 13 * time.Second, moves: true,
	},
}

// on runs a line of a shell on a node.
func (s *suite) on(t testing.TB, n *lab.Node, line string) {
	t.Helper()
	_, err := n.Run(t.Context(), "sh", "-c", line)
	must(t, err)
}

// All befall one cluster, one after the other, and who holds the address stays.
func TestMeddling(t *testing.T) {
	s := begin(t)
	w, err := s.Watch(clients)
	must(t, err)
	time.Sleep(1500 * time.Millisecond) // every client comes, and is remembered
	for _, m := range meddlings {
		if !t.Run(m.name, func(t *testing.T) { m.befall(t, s, w) }) {
			t.Fatalf("not going on after %q", m.name)
		}
	}
}

func (m meddling) befall(t *testing.T, s *suite, w *lab.Watch) {
	holder := s.holder(t)
	before, lapses := s.counts(t, holder), s.lapses(t)
	from := time.Now()
	m.do(t, s, holder)
	to := time.Now()
	time.Sleep(300 * time.Millisecond)
	s.well(t)
	length := time.Since(from)
	r := w.Report(from, from.Add(length))
	shown := r
	shown.Addresses = r.Addresses[:min(len(r.Addresses), 12)]
	t.Logf("in %v, and then:\n%swithout the address for %v\n", to.Sub(from).Round(time.Millisecond), shown, r.Without)
	must(t, r.Err)
	busy := held(r, lapses, s.lapses(t))
	m.judge(t, r, length, holder, busy)
	if busy && !slices.Equal(r.Owners, []string{holder.Name}) && !m.moves {
		t.Logf("the machine did not run everybody, and the address moved: what %s tells is not all", holder.Name)
	} else {
		m.told(t, s, holder, before)
	}
	if t.Failed() {
		t.Logf("all that was seen, in ms:\n%s", w.Trace(from, time.Now()))
	}
}

func (m meddling) judge(t testing.TB, r lab.Report, length time.Duration, holder *lab.Node, held bool) {
	t.Helper()
	gap, bare := m.gap, m.without
	if gap == 0 {
		gap = 300 * time.Millisecond
	}
	if held { // the machine demonstrably did not run everybody
		gap, bare = gap+gapLimit, bare+gapLimit
	}
	if r.Doubles > 0 || len(r.Strays) > 0 || r.Moved > 0 {
		t.Error("want one node answering at any time, and every client at its server")
	}
	if r.Gap-r.Stall > gap {
		t.Errorf("nobody was answered for %v, want at most %v", r.Gap, gap)
	}
	if r.Without-r.Late > bare {
		t.Errorf("no kernel had the address for %v, want at most %v", r.Without, bare)
	}
	switch {
	case !m.moves && !held && !slices.Equal(r.Owners, []string{holder.Name}):
		t.Errorf("%v answered for the address, want %s all the time", r.Owners, holder.Name)
	case m.moves && len(r.Owners) > 2:
		t.Errorf("the address went from node to node: %v", r.Owners)
	}
	if n, most := len(r.Announcements), 5+int(length.Seconds()); m.calm && !held && (n == 0 || n > most) {
		t.Errorf("%d announcements, want some and at most %d", n, most)
	}
}

// told checks what an operator can read about it.
func (m meddling) told(t testing.TB, s *suite, holder *lab.Node, before map[string]uint64) {
	t.Helper()
	if after := s.counts(t, holder); m.counts != "" && after[m.counts] <= before[m.counts] {
		t.Errorf("%s was %d and is %d, want more", m.counts, before[m.counts], after[m.counts])
	}
	if text := s.ask(t, holder, "cluster"); !strings.Contains(text, m.shown) {
		t.Errorf("the table does not say %q:\n%s", m.shown, text)
	}
	if len(m.logged) > 0 {
		s.logs(t, holder, m.logged...)
	}
}

// counts are the numbers of a node about its address; a list is its sum.
func (s *suite) counts(t testing.TB, n *lab.Node) map[string]uint64 {
	t.Helper()
	var seen struct{ Address map[string]any }
	must(t, json.Unmarshal([]byte(s.ask(t, n, "cluster", "json")), &seen))
	all := map[string]uint64{}
	for name, value := range maps.All(seen.Address) {
		switch v := value.(type) {
		case float64:
			all[name] = uint64(v)
		case []any:
			for _, one := range v {
				if c, ok := one.(map[string]any); ok {
					count, _ := c["Count"].(float64)
					all[name] += uint64(count)
				}
			}
		}
	}
	return all
}

// why is the reason that a node gives for not being eligible.
func (s *suite) why(t testing.TB, n *lab.Node) string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	st, err := s.status(ctx, n)
	if err != nil {
		return err.Error()
	}
	for _, m := range st.Members {
		if strings.HasPrefix(m.Addr, n.Addr.String()+":") {
			return m.Why
		}
	}
	return fmt.Sprintf("it does not know itself: %+v", st)
}

// cpu is what pen on a node has used.
func (s *suite) cpu(t testing.TB, n *lab.Node) time.Duration {
	t.Helper()
	used, err := s.Pen(n).CPU()
	must(t, err)
	return used
}

// A node that wakes from a freeze reads what its heir has announced meanwhile. That
// is no claim of a stranger, however often it happens.
func TestAnHeirIsNoStranger(t *testing.T) {
	s := begin(t)
	for range pick(2, 100) {
		holder := s.holder(t)
		holder.Signal(syscall.SIGSTOP)
		rig.Eventually(rig.Patience, func() bool {
			_, n, err := s.Fetch(0)
			return err == nil && n != holder
		})
		holder.Signal(syscall.SIGCONT)
		s.well(t)
	}
	for _, n := range s.Nodes {
		if count := s.counts(t, n)["conflicts"]; count > 0 || strings.Contains(s.Pen(n).Log(), "claims an address of ours") {
			t.Errorf("%s speaks of %d claims by strangers:\n%s", n.Name, count, s.ask(t, n, "cluster"))
		}
	}
}
