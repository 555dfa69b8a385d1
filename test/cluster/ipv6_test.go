//go:build linux

package cluster

import (
	"context"
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

// noise is what two families may differ by: the observers and two cores are shared.
const noise = 60 * time.Millisecond

// change is one way of the addresses to another node.
type change struct {
	name string
	do   func(t testing.TB, s *suite, holder *lab.Node)
	gap  time.Duration
}

var changes = []change{
	{"killed", func(_ testing.TB, s *suite, holder *lab.Node) { s.Pen(holder).Signal(syscall.SIGKILL) }, gapLimit},
	{"transferred", func(t testing.TB, s *suite, holder *lab.Node) { s.ask(t, holder, "cluster", "transfer") }, gapLimit},
	{"guard and holder killed", func(_ testing.TB, _ *suite, holder *lab.Node) { holder.Signal(syscall.SIGKILL) }, gapLimit},
	{"stopped", func(t testing.TB, s *suite, holder *lab.Node) {
		s.Pen(holder).Signal(syscall.SIGTERM)
		if _, ended := s.Pen(holder).Wait(rig.Patience); !ended {
			t.Error("pen does not end")
		}
	}, gapLimit},
}

// Two addresses of two families move together, and one is as quick as the other.
func TestTwoFamilies(t *testing.T) {
	s := prepare(t, "no hash", fmt.Sprintf("vip %s/64", lab.VIP6))
	must(t, s.Dual())
	must(t, s.Start(s.Nodes...))
	s.well(t)
	ctx, cancel := context.WithCancel(t.Context())
	four, six := s.Feel(ctx, lab.VIP), s.Feel(ctx, lab.VIP6)
	defer func() { cancel(); four.Wait(); six.Wait() }()
	time.Sleep(time.Second)
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			from, seen := s.undergo(t, c)
			to := time.Now()
			gap4, n4 := four.Gap(from, to)
			gap6, n6 := six.Gap(from, to)
			t.Logf("IPv4: gap %v, %d answers; IPv6: gap %v, %d answers; %d advertisements", gap4.Round(100*time.Microsecond), n4, gap6.Round(100*time.Microsecond), n6, len(seen.Advertisements))
			if gap4 > c.gap || gap6 > c.gap || (gap6-gap4).Abs() > noise {
				t.Errorf("gaps of %v with IPv4 and %v with IPv6, want at most %v, and the same but for %v", gap4, gap6, c.gap, noise)
			}
			s.announced(t, seen, s.holder(t))
		})
	}
}

// A cluster that knows no IPv4 but that of the servers: peers, address and clients.
func TestIPv6Alone(t *testing.T) {
	s := prepare(t)
	must(t, s.Dual())
	text := s.Config
	for _, n := range s.Nodes {
		text = strings.Replace(text, n.Addr.String(), n.Addr6().String(), 1)
	}
	text = strings.Replace(text, "vip "+lab.VIP.String()+"/24", "vip "+lab.VIP6.String()+"/64", 1)
	for _, n := range s.Nodes {
		must(t, os.WriteFile(filepath.Join(n.Dir, "pen.cfg"), []byte(text), 0o644))
		s.on(t, n, "ip addr flush dev eth0 scope global; ip -6 addr add "+n.Addr6().String()+"/64 dev eth0 nodad")
	}
	must(t, s.Start(s.Nodes...))
	s.holder6(t)
	ctx, cancel := context.WithCancel(t.Context())
	six := s.Feel(ctx, lab.VIP6)
	defer func() { cancel(); six.Wait() }()
	time.Sleep(500 * time.Millisecond)
	for _, c := range changes[:2] {
		from, seen := s.undergo(t, c)
		gap, n := six.Gap(from, time.Now())
		t.Logf("%s: gap %v, %d answers", c.name, gap.Round(100*time.Microsecond), n)
		if gap > c.gap {
			t.Errorf("%s: nobody was answered for %v", c.name, gap)
		}
		s.announced(t, seen, s.holder6(t))
	}
	text = s.ask(t, s.Nodes[0], "cluster")
	if !strings.Contains(text, "["+s.Nodes[1].Addr6().String()+"]:7950") {
		t.Errorf("the table does not show the peers' addresses:\n%s", text)
	}
}

// undergo lets the change happen, and all nodes come back.
func (s *suite) undergo(t testing.TB, c change) (from time.Time, seen lab.Discovery) {
	t.Helper()
	holder := s.holder6(t)
	stop := make(chan struct{})
	result, err := s.Discover(stop)
	must(t, err)
	time.Sleep(200 * time.Millisecond)
	from = time.Now()
	c.do(t, s, holder)
	moved := func() bool {
		st, err := s.status(t.Context(), s.others(holder)[0])
		return err == nil && slices.ContainsFunc(st.Members, func(m member) bool {
			return m.Holding && m.Alive && !strings.Contains(m.Addr, holder.Addr.String()+":") && !strings.Contains(m.Addr, holder.Addr6().String()+"]")
		})
	}
	if !rig.Eventually(rig.Patience, moved) {
		t.Errorf("after %s: nobody else takes the address", c.name)
	}
	time.Sleep(300 * time.Millisecond)
	s.restart(t)
	s.holder6(t)
	close(stop)
	seen = <-result
	must(t, seen.Err)
	if n := seen.Doubles(); n > 0 {
		t.Errorf("after %s: two nodes answered %d neighbour solicitations", c.name, n)
	}
	return from, seen
}

// announced checks what a new holder must have told its neighbours, and that they
// have believed it.
func (s *suite) announced(t testing.TB, seen lab.Discovery, holder *lab.Node) {
	t.Helper()
	some := false
	for _, a := range seen.Advertisements {
		if !a.Override {
			t.Errorf("an advertisement without Override: %+v", a)
		}
		some = some || a.Node == holder.Name
	}
	if !some {
		t.Errorf("%s has not advertised the address: %+v", holder.Name, seen.Advertisements)
	}
	text, err := s.RunClient(t.Context(), "ip", "-6", "neigh", "show", lab.VIP6.String(), "dev", "eth0")
	must(t, err)
	if mac := fmt.Sprintf("02:00:0a:00:00:%02x", holder.Addr.As4()[3]); !strings.Contains(text, mac) {
		t.Errorf("the clients' router believes %q, and %s has the address with %s", strings.TrimSpace(text), holder.Name, mac)
	}
	text, err = holder.Run(t.Context(), "ip", "-6", "addr", "show", "dev", "eth0", "to", lab.VIP6.String())
	must(t, err)
	if !strings.Contains(text, lab.VIP6.String()+"/128") || strings.Contains(text, "tentative") || !strings.Contains(text, "nodad") {
		t.Errorf("%s has the address as %q, want a /128 with nodad", holder.Name, text)
	}
}

// holder6 waits until all nodes are well, and gives the holder by what they say.
func (s *suite) holder6(t testing.TB) (holder *lab.Node) {
	t.Helper()
	addr, why := "", ""
	if !rig.Eventually(30*time.Second, func() bool {
		addr, why = s.agreed(t.Context())
		return why == ""
	}) {
		t.Fatalf("the cluster is not well: %s", why)
	}
	for _, n := range s.Nodes {
		if strings.HasPrefix(addr, n.Addr.String()+":") || strings.HasPrefix(addr, "["+n.Addr6().String()+"]:") {
			return n
		}
	}
	t.Fatalf("%s holds the address, which is no node", addr)
	return nil
}
