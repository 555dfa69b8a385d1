//go:build linux

package process

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"pen/test/rig"
)

// round waits until the name was asked for again since now, twice, so that what came
// of the first is known.
func round(t *testing.T, n *rig.NameServer) {
	t.Helper()
	for range 2 {
		if before := n.Asked(); !rig.Eventually(rig.Patience, func() bool { return n.Asked() > before+1 }) { // A and AAAA
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
	conn, err := net.ListenPacket("udp", d.block.Addr(9, 53))
	rig.Need(t, err == nil, "a name server's port")
	names := rig.NewNameServer(t, conn)
	a, b := d.block.Host(11), d.block.Host(12)
	rig.NewBackend(t, "a", net.JoinHostPort(a, "9001"))
	rig.NewBackend(t, "b", net.JoinHostPort(b, "9001"))
	names.Say(a)
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
	names.Say(b)
	if !rig.Eventually(rig.Patience, func() bool { return strings.Contains(d.ask("servers"), "0 addr "+b+" port 9001 ") }) {
		t.Fatalf("the server has not moved: %s", d.ask("servers"))
	}
	if got := d.fetch(1); got != "b" {
		t.Errorf("a known client, after the move: got %q, want b", got)
	}
	if got, err := stays.Say("still there"); err != nil || got == "" {
		t.Errorf("the connection that stood: got %q, %v", got, err)
	}
	names.Say(a, b)
	round(t, names)
	contains(t, "both addresses", d.ask("servers"), "0 addr "+b+" port 9001 ")
	names.Say()
	round(t, names)
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
