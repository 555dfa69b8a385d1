//go:build linux

package process

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

func TestTermAndInt(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			d := place(t)
			d.backend(0)
			d.control = filepath.Join(d.dir, "control")
			d.start("-p", "{dir}/pid", "{listen}", "{a}")
			c := d.hold(2)
			d.Signal(s)
			if err := c.WaitEOF(); err != nil {
				t.Errorf("the client waits: %v", err)
			}
			d.ends(0)
			left, _ := os.ReadDir(d.dir)
			for _, f := range left {
				t.Errorf("%s is left behind", f.Name())
			}
		})
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.start("-O", "drain_timeout 30", "{listen}", "{a}")
	c := d.hold(2)
	d.Signal(syscall.SIGTERM)
	refused := rig.Eventually(rig.Patience, func() bool {
		_, err := rig.Dial("", d.block.Listen())
		return err != nil
	})
	if !refused {
		t.Error("new connections are still taken")
	}
	if got, err := c.Say("still"); err != nil || got != "a still" {
		t.Errorf("the open connection: %q, %v", got, err)
	}
	if d.Exited() {
		t.Error("ended before its connection")
	}
	c.Close()
	d.ends(0)
}

func TestDrainHasAnEnd(t *testing.T) {
	t.Parallel()
	for name, hurry := range map[string]bool{"by time": false, "by a second signal": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := place(t)
			d.backend(0)
			patience := "drain_timeout 1"
			if hurry {
				patience = "drain_timeout 600"
			}
			d.start("-O", patience, "{listen}", "{a}")
			c := d.hold(2)
			d.Signal(syscall.SIGTERM)
			if !rig.Eventually(rig.Patience, func() bool {
				_, err := rig.Dial("", d.block.Listen())
				return err != nil
			}) {
				t.Error("new connections are still taken")
			}
			if hurry {
				d.Signal(syscall.SIGTERM)
			}
			if err := c.WaitEOF(); err != nil {
				t.Errorf("the client waits: %v", err)
			}
			d.ends(0)
		})
	}
}

func TestHangupReadsTheFile(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	conf := rig.WriteFile(t, d.dir, "conf", "blacklist 17\ntimeout 4\n")
	d.start("-F", conf, "{listen}", "{a}")
	c := d.hold(2)

	// A file with a mistake changes nothing, not even what comes before it.
	rig.WriteFile(t, d.dir, "conf", "blacklist 18\ntimout 5\ntracking 6\n")
	d.Signal(syscall.SIGHUP)
	if !rig.Eventually(rig.Patience, func() bool { return strings.Contains(d.Stderr(), "conf:2:1") }) {
		t.Errorf("no word about the mistake:\n%s", d.Stderr())
	}
	contains(t, "log", d.Stderr(), "timout", "did you mean")
	for ask, want := range map[string]string{"blacklist": "17\n", "timeout": "4\n", "tracking": "0\n"} {
		if got := d.ask(ask); got != want {
			t.Errorf("%s after a broken file: %q, want %q", ask, got, want)
		}
	}
	if reply := d.ask("reload"); !strings.Contains(reply, "conf:2:1") {
		t.Errorf("reload answers %q", reply)
	}

	rig.WriteFile(t, d.dir, "conf", "blacklist 19\ntimeout 5\n")
	d.Signal(syscall.SIGHUP)
	if !rig.Eventually(rig.Patience, func() bool { return d.ask("blacklist") == "19\n" }) {
		t.Errorf("blacklist %q, want 19\n%s", d.ask("blacklist"), d.Stderr())
	}
	if got, err := c.Say("still"); err != nil || got != "a still" {
		t.Errorf("the open connection: %q, %v", got, err)
	}
}

func TestUSR1Reports(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.start("{listen}", "{a}")
	d.hold(2)
	settled()
	d.Signal(syscall.SIGUSR1)
	if !rig.Eventually(rig.Patience, func() bool { return strings.Contains(d.Stderr(), "Connection 0 status") }) {
		t.Error("no report")
	}
	contains(t, "report", d.Stderr(), "1 servers, 0 current", "Server 0 status: address "+d.block.Host(11),
		"Client 0 status: address 127.0.0.2", "3 received", "Max number of connections: 500")

	page := filepath.Join(d.dir, "page")
	d.ask("web_stats " + page)
	d.Signal(syscall.SIGUSR1)
	var text []byte
	if !rig.Eventually(rig.Patience, func() bool { text, _ = os.ReadFile(page); return len(text) > 0 }) {
		t.Error("no page")
	}
	contains(t, "page", string(text), "Pen status page", "</html>")
}

// A busy signal handler must not lose the process.
func TestSignalsInARow(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	rig.WriteFile(t, d.dir, "conf", "blacklist 17\n")
	d.start("-F", "{dir}/conf", "-w", "{dir}/page", "{listen}", "{a}")
	for range 50 {
		d.Signal(syscall.SIGHUP)
		d.Signal(syscall.SIGUSR1)
		time.Sleep(time.Millisecond)
	}
	if got := d.fetch(2); got != "a" {
		t.Errorf("answer %q", got)
	}
}
