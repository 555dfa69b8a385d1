//go:build linux

package process

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

// Our own hash: every pen with the same servers sends a client to the same one,
// whatever else it has done, and a server that is away takes only its own
// clients along.
func TestHashIsStable(t *testing.T) {
	t.Parallel()
	d := place(t)
	for i := range 3 {
		d.backend(i)
	}
	d.start("-h", "{listen}", "{a}", "{b}", "{c}")
	first := map[int]string{}
	seen := map[string]int{}
	for n := 2; n < 62; n++ {
		first[n] = d.fetch(n)
		seen[first[n]]++
	}
	for _, name := range []string{"a", "b", "c"} {
		if seen[name] < 8 {
			t.Errorf("server %s has %d of 60 clients", name, seen[name])
		}
	}
	d.Kill()
	d.start("-h", "{listen}", "{a}", "{b}", "{c}")
	for n := 61; n >= 2; n-- {
		if got := d.fetch(n); got != first[n] {
			t.Errorf("client %d gets %s, and %s after a restart", n, first[n], got)
		}
	}
	d.Kill()
	d.start("-h", "{listen}", "{a}", "{b}", "{c}")
	d.ask("server 2 blacklist 60")
	for n := 2; n < 62; n++ {
		if got := d.fetch(n); got != first[n] && first[n] != "c" {
			t.Errorf("client %d of %s gets %s because c is away", n, first[n], got)
		}
	}
}

func TestDeadServersThatAreNotShunned(t *testing.T) {
	t.Parallel()
	d := serve(t, "-b", "0", "{listen}", "{a}", "{b}")
	before := busy(t, d.Pid())
	for range 5 {
		if got := d.fetch(2); !strings.Contains(got, "EOF") && !strings.Contains(got, "reset") {
			t.Errorf("a client without a server gets %q", got)
		}
	}
	time.Sleep(500 * time.Millisecond)
	if spent := busy(t, d.Pid()) - before; spent > 250*time.Millisecond {
		t.Errorf("pen spins: %v of processor time", spent)
	}
	d.backend(1)
	if !rig.Eventually(time.Second, func() bool { return d.fetch(2) == "b" }) {
		t.Error("a server that is back is not used")
	}
}

// Lists of servers that do not exist: 10 permits, others deny.
func TestServerListsBeyondTheTen(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.start("-r", "{listen}", "{a}")
	for list, want := range map[string]string{"10": "a", "11": "", "-1": "", "9": "a"} {
		d.ask("server 0 acl " + list)
		if got := d.fetch(2); got != want && (want != "" || got == "a") {
			t.Errorf("acl %s: %q, want %q", list, got, want)
		}
	}
}

// What a client has sent before a server is found is not lost by looking on.
func TestFailoverKeepsTheClientsData(t *testing.T) {
	t.Parallel()
	d := place(t)
	dead, _ := d.backend(0), d.backend(1)
	dead.Mute()
	d.start("-t", "1", "-r", "-O", "prio", "{listen}", "{a}", "{b}:0:0:0:1")
	line := strings.Repeat("x", 50_000)
	c, err := rig.Dial(client(2), d.block.Listen())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	got, err := c.Say(line)
	if want := "b " + line; err != nil || got != want {
		t.Errorf("%d bytes come back, %v; want %d", len(got), err, len(want))
	}
	if took := time.Since(began); took < 900*time.Millisecond || took > 4*time.Second {
		t.Errorf("the answer takes %v, want the timeout of 1 s and little more", took)
	}
}

// An answer that is made after the client has ended its side arrives.
func TestLateAnswerAfterHalfClose(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.start("{listen}", "{a}")
	for i := range 200 {
		c, err := rig.Dial(client(2), d.block.Listen())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "later\n")
		got, err := c.Rest()
		c.Close()
		if err != nil || got != "a at last\n" {
			t.Fatalf("connection %d: %q, %v", i, got, err)
		}
	}
}

func TestListenMoves(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.start("{listen}", "{a}")
	c := d.hold(2)
	elsewhere := d.block.Addr(2, 8081)
	if got := d.ask("listen " + elsewhere); got != elsewhere+"\n" {
		t.Errorf("listen answers %q", got)
	}
	if name, err := rig.Fetch(client(3), elsewhere); name != "a" {
		t.Errorf("the new address: %q, %v", name, err)
	}
	if _, err := rig.Dial("", d.block.Listen()); err == nil {
		t.Error("the old address still takes connections")
	}
	if got, err := c.Say("still"); err != nil || got != "a still" {
		t.Errorf("the open connection: %q, %v", got, err)
	}
	// One that can not be had changes nothing.
	contains(t, "reply", d.ask("listen 192.0.2.77:80"), "error: ", "192.0.2.77:80")
	if got := d.ask("listen"); got != elsewhere+"\n" {
		t.Errorf("listen answers %q", got)
	}
	if name, err := rig.Fetch(client(3), elsewhere); name != "a" {
		t.Errorf("after a failed change: %q, %v", name, err)
	}
}

// A mark is lifted by hand at once, however young it is.
func TestLiftedServerIsUsed(t *testing.T) {
	t.Parallel()
	d := place(t)
	a := d.backend(0)
	d.backend(1)
	d.start("-r", "-O", "prio", "{listen}", "{a}", "{b}:0:0:0:1")
	for range 5 {
		a.Stop()
		if got := d.fetch(2); got != "b" {
			t.Fatalf("with a dead server: %q", got)
		}
		a.Start()
		d.ask("server 0 blacklist 0")
		if got := d.fetch(2); got != "a" {
			t.Fatalf("after the mark was lifted: %q", got)
		}
	}
}

// The place of a connection that has ended is free when its client knows that
// it has ended.
func TestPlaceIsFreeAtTheEnd(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.backend(1)
	d.start("-r", "-O", "prio", "{listen}", "{a}:1", "{b}:0:0:0:1")
	for i := range 300 {
		if got := d.fetch(2); got != "a" {
			t.Fatalf("connection %d after the one before has ended: %q", i, got)
		}
	}
}

func TestUnixListener(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	socket := filepath.Join(d.dir, "socket")
	for range 2 { // the second finds what a killed one leaves
		d.start(socket, "{a}")
		if name, err := rig.Fetch("", socket); name != "a" {
			t.Errorf("answer %q, %v", name, err)
		}
		d.Kill()
	}
	d.start(socket, "{a}")
	if got := d.ask("recent"); got != "" {
		t.Errorf("recent %q", got)
	}
	rig.Fetch("", socket)
	settled()
	if got := d.ask("recent"); got != " connects 1 sx 5 rx 3\n" {
		t.Errorf("recent %q", got)
	}
	d.Signal(syscall.SIGTERM)
	d.ends(0)
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("socket after the end: %v", err)
	}
}
