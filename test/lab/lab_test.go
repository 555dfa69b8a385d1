//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

// newLab builds a lab for a test. A few words of a shell play the proxies.
func newLab(t *testing.T, nodes int) *Lab {
	t.Helper()
	rig.NeedRoot(t)
	t.Parallel()
	l, err := New(Config{Nodes: nodes, Servers: 2})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, n *Node, line string) {
	t.Helper()
	_, err := n.Run(t.Context(), strings.Fields(line)...)
	must(t, err)
}

// claim lets a node have the virtual address and send what comes to it on to a server.
func claim(t testing.TB, n *Node, server int) {
	t.Helper()
	run(t, n, "ip addr add "+VIP.String()+"/32 dev eth0")
	must(t, n.cell.do(func() error {
		return feed(`table ip lab {
	chain in { type nat hook prerouting priority 0; ip daddr `+VIP.String()+` tcp dport 80 dnat to `+n.lab.Servers[server].Addr.String()+`; }
	chain out { type nat hook postrouting priority 0; oifname eth1 masquerade; }
}`, "nft", "-f", "-")
	}))
	run(t, n, "sysctl -qw net.ipv4.ip_forward=1")
}

func release(t testing.TB, n *Node) {
	t.Helper()
	run(t, n, "ip addr del "+VIP.String()+"/32 dev eth0")
}

// announce sends a gratuitous ARP, as a node that takes the address does.
func announce(t testing.TB, n *Node) {
	t.Helper()
	must(t, n.cell.do(func() error { return gratuitous(n) }))
}

// settled waits until the clients are answered.
func settled(t testing.TB, l *Lab) {
	t.Helper()
	ok := rig.Eventually(rig.Patience, func() bool {
		_, err := l.RunClient(t.Context(), "curl", "-sf", "-m", "1", "http://"+VIP.String()+"/")
		return err == nil
	})
	if !ok {
		t.Fatal("nobody answers the clients")
	}
}

func watch(t testing.TB, l *Lab, clients int) *Watch {
	t.Helper()
	w, err := l.Watch(clients)
	must(t, err)
	return w
}

// observe waits and reports what was seen since.
func observe(t testing.TB, w *Watch, from time.Time, d time.Duration) Report {
	t.Helper()
	r := w.Report(from, from.Add(d))
	t.Log(r)
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r
}

func TestQuietNetwork(t *testing.T) {
	l := newLab(t, 2)
	claim(t, l.Nodes[0], 0)
	settled(t, l)
	w := watch(t, l, 50)
	time.Sleep(400 * time.Millisecond)
	r := observe(t, w, time.Now(), 500*time.Millisecond)
	if r.Answered < 60 || r.Answered != r.Requests {
		t.Errorf("got %d of %d requests answered, want all of about 100", r.Answered, r.Requests)
	}
	if r.Gap > 100*time.Millisecond+r.Late || r.Overlap != 0 || r.Moved != 0 || len(r.Strays) != 0 {
		t.Error("want no gap, no overlap, nobody moved and no stray")
	}
	if r.Clients != 50 || !slices.Equal(r.AnsweredBy, []string{"pen1"}) || !slices.Equal(r.Owners, []string{"pen1"}) {
		t.Errorf("got %d clients answered by %v, want 50 answered by pen1", r.Clients, r.AnsweredBy)
	}
	if want := []string{"pen1 has it"}; !slices.Equal(r.Addresses, want) {
		t.Errorf("addresses: got %q, want %q", r.Addresses, want)
	}
}

// Without this nobody would know that the observers can see what must never be.
func TestTwoNodesAnswering(t *testing.T) {
	l := newLab(t, 2)
	claim(t, l.Nodes[0], 0)
	settled(t, l)
	w := watch(t, l, 50)
	time.Sleep(200 * time.Millisecond)
	from := time.Now()
	claim(t, l.Nodes[1], 1)
	announce(t, l.Nodes[1])
	time.Sleep(200 * time.Millisecond)
	release(t, l.Nodes[0])
	r := observe(t, w, from, 500*time.Millisecond)
	if r.Overlap < 200*time.Millisecond || r.Doubles < 50 {
		t.Errorf("two nodes answered for more than 200 ms: got %v, %d times", r.Overlap, r.Doubles)
	}
	gratuitous := slices.DeleteFunc(slices.Clone(r.Announcements), func(a Announcement) bool { return a.Question })
	if len(gratuitous) != 1 || gratuitous[0].Node != "pen2" {
		t.Errorf("gratuitous ARP: got %v, want one of pen2", gratuitous)
	}
	if r.Moved == 0 || r.Moved > r.Clients || !slices.Equal(r.AnsweredBy, []string{"pen1", "pen2"}) {
		t.Errorf("got %d of %d clients moved, answered by %v; want many, by pen1 and then pen2", r.Moved, r.Clients, r.AnsweredBy)
	}
	if len(r.Addresses) != 3 {
		t.Errorf("addresses: got %q, want three entries", r.Addresses)
	}
}

func TestOverlapOfOneQuestionIsSeen(t *testing.T) {
	l := newLab(t, 2)
	claim(t, l.Nodes[0], 0)
	w := watch(t, l, 1)
	time.Sleep(100 * time.Millisecond)
	from := time.Now()
	// As short as commands can make it.
	run(t, l.Nodes[1], "ip addr add 10.0.0.10/32 dev eth0")
	release(t, l.Nodes[0])
	if r := observe(t, w, from, 100*time.Millisecond); r.Doubles == 0 || r.Overlap > 60*time.Millisecond+r.Late {
		t.Errorf("got %d questions answered twice in %v, want a few", r.Doubles, r.Overlap)
	}
}

func TestStray(t *testing.T) {
	l := newLab(t, 2)
	claim(t, l.Nodes[0], 0)
	w := watch(t, l, 1)
	time.Sleep(100 * time.Millisecond)
	from := time.Now()
	announce(t, l.Nodes[0])
	time.Sleep(50 * time.Millisecond)
	announce(t, l.Nodes[1])
	if r := observe(t, w, from, 100*time.Millisecond); len(r.Strays) != 1 || r.Strays[0].Node != "pen2" {
		t.Errorf("got %v, want that of pen2", r.Strays)
	}
}

func TestGap(t *testing.T) {
	l := newLab(t, 1)
	claim(t, l.Nodes[0], 0)
	settled(t, l)
	w := watch(t, l, 20)
	for name, fault := range map[string]struct{ begin, end func() error }{
		"link":  {l.Nodes[0].LinkDown, l.Nodes[0].LinkUp},
		"to":    {func() error { return l.CutFrom(Side{Clients: true}, Side{Nodes: l.Nodes}) }, l.Heal},
		"from":  {func() error { return l.CutFrom(Side{Nodes: l.Nodes}, Side{Clients: true}) }, l.Heal},
		"apart": {func() error { return l.Partition(Side{Nodes: l.Nodes}, Side{Clients: true}) }, l.Heal},
	} {
		time.Sleep(200 * time.Millisecond)
		from := time.Now()
		must(t, fault.begin())
		time.Sleep(300 * time.Millisecond)
		must(t, fault.end())
		most := 800 * time.Millisecond
		if name == "link" { // with the link its neighbours are forgotten, and who then asks in vain asks again after a second
			most = 1200 * time.Millisecond
		}
		r := observe(t, w, from, time.Second)
		if r.Gap < 290*time.Millisecond || r.Gap > most || r.Lost+r.Mute < 20 {
			t.Errorf("%s: got a gap of %v and %d requests lost, want 300 ms and many", name, r.Gap, r.Lost+r.Mute)
		}
	}
}

// reaches tells whether one node can connect to another.
func reaches(t testing.TB, from, to *Node) bool {
	t.Helper()
	var ln net.Listener
	must(t, to.cell.do(func() (err error) {
		ln, err = net.Listen("tcp4", to.Addr.String()+":0")
		return err
	}))
	defer ln.Close()
	return from.cell.do(func() error {
		c, err := net.DialTimeout("tcp4", ln.Addr().String(), 500*time.Millisecond)
		if err == nil {
			c.Close()
		}
		return err
	}) == nil
}

func TestPartitionLeavesTheOthersAlone(t *testing.T) {
	l := newLab(t, 3)
	a, b, c := l.Nodes[0], l.Nodes[1], l.Nodes[2]
	must(t, l.Partition(Side{Nodes: []*Node{a}}, Side{Nodes: []*Node{b}}))
	if reaches(t, a, b) || !reaches(t, a, c) || !reaches(t, b, c) {
		t.Error("want a and b apart, and c with both")
	}
	must(t, l.Heal())
	// A neighbour that did not answer is asked again once in a second.
	if !rig.Eventually(rig.Patience, func() bool { return reaches(t, a, b) }) {
		t.Error("want a and b together again")
	}
}

func TestRefusedAndReset(t *testing.T) {
	l := newLab(t, 1)
	claim(t, l.Nodes[0], 0)
	settled(t, l)
	w := watch(t, l, 20)
	l.Servers[0].Stop()
	from := time.Now()
	if r := observe(t, w, from, 200*time.Millisecond); r.Refused < 20 || r.First >= 0 {
		t.Errorf("got %d refused, first answer %v; want many and none", r.Refused, r.First)
	}
	must(t, l.Servers[0].Start())
	time.Sleep(50 * time.Millisecond)
	from = time.Now()
	if r := observe(t, w, from, 200*time.Millisecond); r.Answered < 20 || r.First < 0 {
		t.Errorf("got %d answered, first after %v; want many", r.Answered, r.First)
	}
}

func TestPowerOff(t *testing.T) {
	l := newLab(t, 2)
	n := l.Nodes[0]
	claim(t, n, 0)
	settled(t, l)
	p, err := n.Start("sleep", "1000")
	must(t, err)
	w := watch(t, l, 20)
	time.Sleep(100 * time.Millisecond)
	from := time.Now()
	must(t, n.PowerOff())
	if _, ended := p.Wait(rig.Patience); !ended || len(n.Pids()) != 0 {
		t.Errorf("processes go on: %v", n.Pids())
	}
	r := observe(t, w, from, 300*time.Millisecond)
	if r.Answered > 2 || len(r.Owners) > 1 || r.Refused+r.Reset != 0 {
		t.Error("want nothing to get out")
	}
	must(t, n.PowerOn())
	if out, err := n.Run(t.Context(), "ip", "-o", "addr", "show", "eth0"); err != nil || strings.Contains(out, VIP.String()+"/") {
		t.Errorf("a machine that was off has forgotten the address; got %s (%v)", out, err)
	}
	if !reaches(t, n, l.Nodes[1]) {
		t.Error("not back in the network")
	}
}

func TestSignalsMeetTheProgramItself(t *testing.T) {
	l := newLab(t, 1)
	run(t, l.Nodes[0], "ln -s /bin/sleep "+guardName)
	p, err := l.Nodes[0].Start("sh", "-c", "PATH=. "+guardName+" 1001 & exec sleep 1000")
	must(t, err)
	if !rig.Eventually(rig.Patience, func() bool { return p.Guard() != 0 && len(l.Nodes[0].Pids()) == 2 }) {
		t.Fatal("the guard was not found")
	}
	guard := p.Guard()
	p.Signal(syscall.SIGKILL)
	if status, ended := p.Wait(rig.Patience); !ended || status != -1 {
		t.Errorf("got status %d, ended %t; want killed", status, ended)
	}
	if got := l.Nodes[0].Pids(); !slices.Equal(got, []int{guard}) {
		t.Errorf("left: got %v, want the guard %d", got, guard)
	}
}

// labEnv makes this test binary somebody who builds a lab and does not remove it.
const labEnv = "PEN_LAB_TEST_LEAVE"

func TestMain(m *testing.M) {
	if os.Getenv(labEnv) != "" {
		l, err := New(Config{Nodes: 1, Servers: 1})
		if err == nil {
			_, err = l.Nodes[0].Start("sh", "-c", "sleep 1000 & sleep 1000")
		}
		if err != nil {
			panic(err)
		}
		// The shell dies with us, its children do not.
		for len(l.Nodes[0].Pids()) < 3 {
			time.Sleep(time.Millisecond)
		}
		os.Stdout.WriteString(l.prefix + " " + l.Dir)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	os.Exit(rig.Main(m))
}

func TestLeftoversAreSwept(t *testing.T) {
	rig.NeedRoot(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), labEnv+"=1")
	out, err := cmd.Output()
	if _, killed := errors.AsType[*exec.ExitError](err); !killed {
		t.Fatalf("got %v, want killed", err)
	}
	prefix, dir, _ := strings.Cut(string(out), " ")
	id, err := identify(netnsDir + "/" + prefix + "pen1")
	must(t, err)
	pids := inhabitants(id)
	if len(pids) == 0 {
		t.Fatal("nothing was left behind to be swept")
	}
	l := newLab(t, 1)
	if left, _ := filepath.Glob(netnsDir + "/" + prefix + "*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory left behind: %v", err)
	}
	for _, pid := range pids {
		// A process that has ended has no namespace, even if nobody waits for it.
		if !rig.Eventually(rig.Patience, func() bool {
			got, err := identify(fmt.Sprintf("/proc/%d/ns/net", pid))
			return err != nil || got != id
		}) {
			t.Errorf("process left behind: %d", pid)
		}
	}
	if _, err := os.Stat(netnsDir + "/" + l.prefix + "pen1"); err != nil {
		t.Errorf("the living one was swept: %v", err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	rig.NeedRoot(t)
	l, err := New(Config{Nodes: 2})
	must(t, err)
	_, err = l.Nodes[0].Start("sleep", "1000")
	must(t, err)
	watch(t, l, 5)
	must(t, l.Close())
	if left, _ := filepath.Glob(netnsDir + "/" + l.prefix + "*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(l.Dir); !os.IsNotExist(err) {
		t.Errorf("directory: got %v, want none", err)
	}
}

func TestImpossibleLabs(t *testing.T) {
	for _, c := range []Config{{Nodes: -1}, {Nodes: 9}, {Servers: 9}} {
		if l, err := New(c); err == nil {
			l.Close()
			t.Errorf("%+v: got no error", c)
		}
	}
	l := newLab(t, 1)
	for _, clients := range []int{0, MaxClients + 1} {
		if _, err := l.Watch(clients); err == nil {
			t.Errorf("%d clients: got no error", clients)
		}
	}
	if _, err := l.Nodes[0].Run(context.Background(), "no-such-program"); err == nil {
		t.Error("got no error for a program that is not there")
	}
}

func TestClientsAreInTheirNetwork(t *testing.T) {
	for _, n := range []int{0, MaxClients - 1} {
		if a := ClientAddr(n); !netip.MustParsePrefix("10.0.2.0/24").Contains(a) {
			t.Errorf("client %d: got %v", n, a)
		}
	}
}
