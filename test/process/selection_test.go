package process

import (
	"strings"
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
