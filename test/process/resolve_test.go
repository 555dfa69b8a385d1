//go:build linux

package process

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"pen/test/rig"
)

// nameServer answers every question for A with the addresses that it has now; with
// none there is no such name.
type nameServer struct {
	mu    sync.Mutex
	addrs []netip.Addr
	asked int
}

func newNameServer(t *testing.T, at string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", at)
	rig.Need(t, err == nil, "a name server's port")
	n := &nameServer{}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 512)
		for {
			size, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			n.answer(&m)
			if reply, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return n
}

func (n *nameServer) answer(m *dnsmessage.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if len(n.addrs) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range n.addrs {
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: a.As4()},
			})
		}
	}
}

// say changes the name's addresses.
func (n *nameServer) say(hosts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = nil
	for _, h := range hosts {
		n.addrs = append(n.addrs, netip.MustParseAddr(h))
	}
}

// round waits until the name was asked for again since now, twice, so that what came
// of the first is known.
func (n *nameServer) round(t *testing.T) {
	t.Helper()
	count := func() int { n.mu.Lock(); defer n.mu.Unlock(); return n.asked }
	for range 2 {
		if before := count(); !rig.Eventually(rig.Patience, func() bool { return count() > before+1 }) { // A and AAAA
			t.Fatal("the name is not asked for again")
		}
	}
}

// TestNamesOfServersAreLookedUpAgain: with a name server of its own, a process moves a
// server to the address that its name has, lets the connections that stand go on, and
// keeps what it has when there is no answer.
func TestNamesOfServersAreLookedUpAgain(t *testing.T) {
	t.Parallel()
	rig.NeedRoot(t)
	d := place(t)
	names := newNameServer(t, d.block.Addr(9, 53))
	a, b := d.block.Host(11), d.block.Host(12)
	rig.NewBackend(t, "a", net.JoinHostPort(a, "9001"))
	rig.NewBackend(t, "b", net.JoinHostPort(b, "9001"))
	names.say(a)
	conf := rig.WriteFile(t, d.dir, "conf", "blacklist 0\nserver 0 address www.example.test port 9001\nresolve 1\n")
	resolver := rig.WriteFile(t, d.dir, "resolv.conf", "nameserver "+d.block.Host(9)+"\noptions timeout:1 attempts:1\n")
	// The process sees another /etc/resolv.conf than everybody else.
	args := append([]string{"-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolver, rig.Pen(t)},
		d.expand(rig.AsRoot("-f", "-C", d.control, "-F", conf, "{listen}"))...)
	d.Process = rig.StartCmd(t, d.dir, exec.Command("unshare", args...))
	d.answers()

	stays := d.hold(1)
	if got := d.fetch(1); got != "a" {
		t.Errorf("at first: got %q, want a", got)
	}
	names.say(b)
	if !rig.Eventually(rig.Patience, func() bool { return strings.Contains(d.ask("servers"), "0 addr "+b+" port 9001 ") }) {
		t.Fatalf("the server has not moved: %s", d.ask("servers"))
	}
	if got := d.fetch(1); got != "b" {
		t.Errorf("a known client, after the move: got %q, want b", got)
	}
	if got, err := stays.Say("still there"); err != nil || got == "" {
		t.Errorf("the connection that stood: got %q, %v", got, err)
	}
	names.say(a, b)
	names.round(t)
	contains(t, "both addresses", d.ask("servers"), "0 addr "+b+" port 9001 ")
	names.say()
	names.round(t)
	contains(t, "no such name", d.ask("servers"), "0 addr "+b+" port 9001 ")
	if got := d.fetch(1); got != "b" {
		t.Errorf("without the name: got %q, want b", got)
	}
	counters := d.ask("counters")
	contains(t, "counters", counters, "names_moved 1\n")
	if strings.Contains(counters, "names_failed 0\n") {
		t.Errorf("no look-up has failed:\n%s", counters)
	}
	if log := d.Stderr(); strings.Count(log, "does not resolve; its address stays") != 1 || !strings.Contains(log, "server has another address") {
		t.Errorf("log:\n%s", log)
	}
	d.tells("no resolve", "")
	d.tells("resolve", "off\n")
}
