//go:build linux

package differential

import (
	"strings"
	"testing"
	"time"

	"pen/test/rig"
)

// What people and scripts ask with penctl.
var asked = []string{
	"mode", "servers", "blacklist", "blacklist 45", "blacklist 30", "timeout", "tracking 60", "tracking",
	"server 0 max 7 hard 9", "server 1 blacklist 60", "server 1 blacklist 0", "servers",
	"listen", "control", "recent", "recent 60", "connection 499", "close 499", "connection 500", "close 9999",
	"acl 1 permit 10.0.0.0 255.0.0.0", "no acl 1", "client_acl", "clients_max", "conn_max",
	"roundrobin", "mode", "no roundrobin", "web_stats {dir}/page", "idle_timeout 5", "socket 99",
	"tcp_fastclose", "exit", "foo", "foo bar",
}

// TestPenctl asks the same with both penctls of both daemons, and each time all
// four print the same.
func TestPenctl(t *testing.T) {
	t.Parallel()
	rig.NeedOriginal(t)
	ctl := map[side]string{original: rig.OriginalPenctl, ours: rig.OriginalPenctl}
	if !*self {
		ctl[ours] = rig.Penctl(t)
	}
	printed := map[side]map[side][]string{}
	for _, daemon := range []side{original, ours} {
		printed[daemon] = map[side][]string{}
		for _, client := range []side{original, ours} {
			x := newSession(t, &script{}, daemon)
			x.step("backends a b")
			if out := x.step("start {listen} {a} {b}"); out != "" {
				t.Fatalf("start %s: %s", daemon, out)
			}
			x.step("fetch 2 3")
			time.Sleep(100 * time.Millisecond) // until both connections are counted
			for _, line := range asked {
				p := rig.Start(t, x.dir, ctl[client], append([]string{x.block.Control()},
					strings.Fields(x.expand(line))...)...)
				if _, ended := p.Wait(rig.Patience); !ended {
					t.Fatalf("%s's penctl %s of %s does not end", client, line, daemon)
				}
				printed[daemon][client] = append(printed[daemon][client], x.normal(p.Stdout()))
			}
		}
	}
	want := printed[original][original]
	for i, line := range asked {
		for _, daemon := range []side{original, ours} {
			for _, client := range []side{original, ours} {
				if got := printed[daemon][client][i]; got != want[i] {
					t.Errorf("penctl %s: penctl is %s, pen is %s\n got %q\nwant %q", line, client, daemon, got, want[i])
				}
			}
		}
	}
}

// TestPenctlUnix is the same over a Unix socket.
func TestPenctlUnix(t *testing.T) {
	t.Parallel()
	rig.NeedOriginal(t)
	bins := map[side][2]string{original: {rig.OriginalPen, rig.OriginalPenctl}}
	bins[ours] = bins[original]
	if !*self {
		bins[ours] = [2]string{rig.Pen(t), rig.Penctl(t)}
	}
	for _, daemon := range []side{original, ours} {
		dir, block := rig.Dir(t), rig.NewBlock(t)
		socket := dir + "/control"
		rig.Start(t, dir, bins[daemon][0], rig.AsRoot("-f", "-C", socket, block.Listen())...)
		if !rig.Eventually(rig.Patience, func() bool { _, err := rig.Ask(socket, "pid"); return err == nil }) {
			t.Fatalf("%s does not answer on %s", daemon, socket)
		}
		for _, client := range []side{original, ours} {
			p := rig.Start(t, dir, bins[client][1], socket, "control")
			if status, _ := p.Wait(rig.Patience); status != 0 || p.Stdout() != socket+"\n" {
				t.Errorf("penctl of %s, pen of %s: status %d, %q; want %q", client, daemon, status, p.Stdout(), socket+"\n")
			}
		}
	}
}
