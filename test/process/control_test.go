//go:build linux

package process

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

func TestControlSocket(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.control = filepath.Join(d.dir, "control")

	// A socket that nobody listens on is in the way of nobody.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.control, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	d.start("{listen}", "{a}")
	info, err := os.Stat(d.control)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; want 0660", info.Mode(), err)
	}

	// One that somebody listens on is his.
	args := append(rig.AsRoot("-f", "-C", "{control}"), "127.0.0.1:"+strconv.Itoa(rig.NewPort(t)), "{a}")
	contains(t, "complaint", d.fails(1, args...), d.control)
	if got := d.ask("control"); got != d.control+"\n" {
		t.Errorf("the first one answers %q", got)
	}
	d.Signal(syscall.SIGTERM)
	d.ends(0)
	if _, err := os.Stat(d.control); !os.IsNotExist(err) {
		t.Errorf("socket after the end: %v", err)
	}
}

func TestSocketsBelongToConnections(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.start("{listen}", "{a}")
	d.hold(2)
	d.hold(3)
	settled()
	var slot, state, down, up int
	told := d.ask("connection 1")
	if _, err := fmt.Sscanf(told, "Connection %d:\nstate = %d\ndownfd = %d, upfd = %d\n", &slot, &state, &down, &up); err != nil || slot != 1 {
		t.Fatalf("connection 1: %q, %v", told, err)
	}
	for _, fd := range []int{down, up} {
		if got, want := d.ask(fmt.Sprintf("socket %d", fd)), fmt.Sprintf("Socket %d belongs to connection 1\n", fd); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestControlSocketIsNoOtherFile(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.control = rig.WriteFile(t, d.dir, "precious", "data")
	contains(t, "complaint", d.fails(1, append(rig.AsRoot("-f", "-C", "{control}"), "{listen}", "{a}")...), d.control)
	if text, _ := os.ReadFile(d.control); string(text) != "data" {
		t.Errorf("the file is now %q", text)
	}
}

func TestBareControlPortIsOnLoopback(t *testing.T) {
	t.Parallel()
	d := place(t)
	port := strconv.Itoa(rig.NewPort(t))
	d.Process = rig.Start(t, d.dir, rig.Pen(t), append(rig.AsRoot("-f", "-C", port), d.expand([]string{"{listen}", "{a}"})...)...)
	d.control = "127.0.0.1:" + port
	d.answers()
	for _, host := range otherAddresses(t) {
		if c, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), time.Second); err == nil {
			c.Close()
			t.Errorf("the control port answers on %s", host)
		}
	}
}

func otherAddresses(t testing.TB) (hosts []string) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			hosts = append(hosts, n.IP.String())
		}
	}
	return hosts
}

func TestControlPortForOthersNeedsAnAccessList(t *testing.T) {
	t.Parallel()
	d := place(t)
	port := strconv.Itoa(rig.NewPort(t))
	d.control = "0.0.0.0:" + port
	contains(t, "complaint", d.fails(1, append(rig.AsRoot("-f", "-C", "{control}"), "{listen}", "{a}")...), "control_acl")
	d.start("-O", "acl 1 permit 127.0.0.1", "-O", "control_acl 1", "{listen}", "{a}")
}

func TestControlLineHasALimitAndADeadline(t *testing.T) {
	t.Parallel()
	d := serve(t, "{listen}", "{a}")
	reply, err := rig.Send(d.control, "blacklist "+strings.Repeat("x", 100_000)+"\n")
	if err == nil && strings.HasPrefix(reply, "0") {
		t.Errorf("a line of 100,000 bytes is obeyed: %q", reply)
	}
	began := time.Now()
	c, err := rig.Dial("", d.control)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("blackl"))
	if err := c.WaitEOF(); err != nil || time.Since(began) < 3*time.Second {
		t.Errorf("half a line: %v after %v, want the end after 5 s", err, time.Since(began))
	}
	if got := d.ask("blacklist"); got != "30\n" {
		t.Errorf("blacklist %q", got)
	}
}

func TestSilentControlPeers(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.start("{listen}", "{a}")
	for range 64 {
		c, err := rig.Dial("", d.control)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	began := time.Now()
	for range 50 {
		if got := d.fetch(2); got != "a" {
			t.Fatalf("answer %q", got)
		}
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("50 connections take %v beside silent control peers", took)
	}
	if !rig.Eventually(8*time.Second, func() bool {
		reply, err := rig.Ask(d.control, "blacklist")
		return err == nil && reply == "30\n"
	}) {
		t.Error("the control port does not come back")
	}
}
