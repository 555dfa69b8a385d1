//go:build linux

package process

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pen/test/rig"
)

func TestBackgroundServesWhenTheStarterEnds(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	pid := d.background("-p", "{dir}/pid", "{listen}", "{a}")
	// No polling: the starter ends when the service is there.
	if got := d.fetch(2); got != "a" {
		t.Errorf("first answer: %q, want a", got)
	}
	if sid, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/0"); err != nil || sid != "/dev/null" {
		t.Errorf("standard input is %q, %v", sid, err)
	}
	if pgid, err := syscall.Getpgid(pid); err != nil || pgid != pid {
		t.Errorf("process group %d, %v; want a session of its own, %d", pgid, err, pid)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	if !rig.Eventually(rig.Patience, func() bool { return gone(pid) }) {
		t.Error("TERM does not end it")
	}
	if _, err := os.Stat(filepath.Join(d.dir, "pid")); !os.IsNotExist(err) {
		t.Errorf("pid file after the end: %v", err)
	}
}

func TestStartErrorsAreReportedBeforeTheStarterEnds(t *testing.T) {
	t.Parallel()
	taken := place(t)
	l, err := net.Listen("tcp", taken.block.Listen())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rig.WriteFile(t, taken.dir, "broken", "blacklist 5\nblaklist 7\n")
	tests := []struct {
		name string
		args []string
		root bool
		want []string
	}{
		{"port in use", []string{"{listen}", "{a}"}, false, []string{"address already in use"}},
		{"foreign address", []string{"192.0.2.77:8080", "{a}"}, false, []string{"192.0.2.77:8080"}},
		{"user", []string{"-u", "no-such-user-here", "127.0.0.1:0", "{a}"}, false, []string{"no-such-user-here"}},
		{"jail", []string{"-j", "/no/such/jail", "{control}", "{a}"}, true, []string{"/no/such/jail"}},
		{"file", []string{"-F", "{dir}/broken", "{control}", "{a}"}, false, []string{"broken:2:1", "blacklist"}},
		{"server", []string{"{control}", "no.such.host.invalid:80"}, false, []string{"no.such.host.invalid"}},
		{"pid file", []string{"-p", "{dir}/no/pid", "{control}", "{a}"}, false, []string{"no/pid"}},
		{"too many connections", []string{"-x", "1000000", "{control}", "{a}"}, false, []string{"1000000", "conn_max 1000000 needs 2000"}},
	}
	for _, test := range tests {
		for _, where := range []string{"background", "foreground"} {
			t.Run(test.name+" "+where, func(t *testing.T) {
				if test.root {
					rig.NeedRoot(t)
				}
				d := *taken
				d.t = t
				args := test.args
				if where == "foreground" {
					args = append([]string{"-f"}, args...)
				}
				if test.name == "user" {
					args[len(args)-2] = "{control}"
				}
				complaint := d.fails(1, args...)
				contains(t, "complaint", complaint, test.want...)
				if n := strings.Count(complaint, "\n"); n != 1 {
					t.Errorf("it is said in %d lines:\n%s", n, complaint)
				}
			})
		}
	}
}

func TestSecondPenOnThePort(t *testing.T) {
	t.Parallel()
	d := serve(t, "{listen}", "{a}")
	contains(t, "complaint", d.fails(1, "-f", "{listen}", "{a}"), d.block.Listen(), "address already in use")
	if got := d.ask("blacklist"); got != "30\n" {
		t.Errorf("the first one answers %q", got)
	}
}

func TestPidFile(t *testing.T) {
	t.Parallel()
	d := place(t)
	rig.WriteFile(t, d.dir, "pid", "123456\n")
	d.start("-p", "{dir}/pid", "{listen}", "{a}")
	file := filepath.Join(d.dir, "pid")
	if text, _ := os.ReadFile(file); string(text) != strconv.Itoa(d.Pid()) {
		t.Errorf("pid file %q, want %d and no line end", text, d.Pid())
	}
	d.Signal(syscall.SIGTERM)
	d.ends(0)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("pid file after the end: %v", err)
	}
}

// In the background, paths mean what they meant where pen was started.
func TestBackgroundWithRelativePaths(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	conf := rig.WriteFile(t, d.dir, "conf", "blacklist 7\n")
	args := rig.AsRoot("-F", "conf", "-p", "pid", "-C", "{control}", "{listen}", "{a}")
	pid := d.background(args...)
	if got := d.ask("blacklist"); got != "7\n" {
		t.Errorf("blacklist %q", got)
	}
	os.WriteFile(conf, []byte("blacklist 8\n"), 0o644)
	syscall.Kill(pid, syscall.SIGHUP)
	if !rig.Eventually(rig.Patience, func() bool { return d.ask("blacklist") == "8\n" }) {
		t.Errorf("blacklist %q after HUP, want 8", d.ask("blacklist"))
	}
	syscall.Kill(pid, syscall.SIGTERM)
	if !rig.Eventually(rig.Patience, func() bool { return gone(pid) }) {
		t.Error("TERM does not end it")
	}
	if _, err := os.Stat(filepath.Join(d.dir, "pid")); !os.IsNotExist(err) {
		t.Errorf("pid file after the end: %v", err)
	}
}
