//go:build linux

package config

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pen/state"
)

// original is a running pen as Debian ships it.
type original struct {
	t       *testing.T
	control string
	listen  string
}

// startOriginal starts it with a control port, and skips where it is not
// installed.
func startOriginal(t *testing.T, args ...string) *original {
	t.Helper()
	path, err := exec.LookPath("/usr/bin/pen")
	if err != nil {
		t.Skip("the original pen is not installed")
	}
	o := &original{t: t, control: freePort(t), listen: freePort(t)}
	all := []string{"-f", "-C", o.control}
	if os.Geteuid() == 0 {
		all = append(all, "-u", "root")
	}
	for _, a := range args {
		all = append(all, strings.ReplaceAll(a, "LISTEN", o.listen))
	}
	cmd := exec.CommandContext(t.Context(), path, all...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 100 {
		if c, err := net.Dial("tcp", o.control); err == nil {
			c.Write([]byte("\n")) // it waits for every peer to speak
			c.Close()
			return o
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the original does not open its control port with %q", all)
	return nil
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (o *original) ask(line string) string {
	o.t.Helper()
	c, err := net.Dial("tcp", o.control)
	if err != nil {
		o.t.Fatalf("%q: %v", line, err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "%s\n", line)
	answer, err := io.ReadAll(c)
	if err != nil {
		o.t.Fatalf("%q: %v", line, err)
	}
	return string(answer)
}

// serversText is the reply of `servers` without traffic.
func serversText(v *state.View) string {
	var b strings.Builder
	for i, s := range v.Services[0].Servers {
		addr := s.Host
		if !s.Path() {
			addr = s.IP.String()
		}
		fmt.Fprintf(&b, "%d addr %s port %d conn 0 max %d hard %d weight %d prio %d sx 0 rx 0\n", i, addr, s.Port, s.Soft, s.Hard, s.Weight, s.Prio)
	}
	return b.String()
}

func TestServersOfTheCommandLineAreThoseOfTheOriginal(t *testing.T) {
	specs := []string{
		"127.0.0.1:9:1:2:3:4", "[::1]:80", "/run/x", "127.0.0.1:99999", "127.0.0.1::5", "127.0.0.1:-1", "127.0.0.1:8x:9", "127.0.0.1:80:x:5",
		"127.0.0.1:80:-3:5:6:7:8", "127.0.0.1:80:5x:7", "127.0.0.1:80: 5:6", "127.0.0.1: 81:3", "127.0.0.1:80:+5:6", "127.0.0.1:http:6",
		"127.1:99", "127.0.0.1:x:4", "127.0.0.1:80::7", "127.0.0.1:", "127.0.0.1", "/run/x:1:7", "127.0.0.1:80:1::3", "127.0.0.1:80:99999999999",
	}
	o := startOriginal(t, append([]string{"LISTEN"}, specs...)...)
	line, err := ParseArgs(append([]string{o.listen}, specs...))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "servers", serversText(plan(t, line.With(nil)).View), o.ask("servers"))
}

// settle makes both the same where their defaults differ.
var settle = []string{"no tcp_nodelay"}

func TestSessionWithTheOriginal(t *testing.T) {
	o := startOriginal(t, "LISTEN", "127.0.0.1:9", "127.0.0.1:10")
	s := newSession(t)
	s.local = Local{Control: o.control}
	s.ask("listen " + o.listen)
	s.ask("server 0 address 127.0.0.1 port 9")
	s.ask("server 1 address 127.0.0.1 port 10")
	for _, line := range append(settle, strings.Split(`blacklist
blacklist 45
blacklist abc
blacklist 12x 13
blacklist 99999999999
blacklist	7
#blacklist 8
# comment
no
no foo
no timeout
foo bar
Blacklist
client_acl
client_acl 3
client_acl 10
client_acl -1
clients_max
clients_max 3000
clients_max 100
clients_max abc
conn_max
conn_max 600
conn_max 100
control
control foo
control_acl 2
control_acl 42
debug
debug 2x
debug 0
block
no block
delayed_forward
no delayed_forward
abort_on_error
no abort_on_error
ascii
no ascii x
idle_timeout
idle_timeout 7x
idle_timeout -3
idlers
keepalive
no keepalive
listen
log
no log
no http
no dummy
no transparent
no peek
mode
hash
roundrobin x
stubborn
weight 3
prio
mode
no hash
no roundrobin
no stubborn
no prio
mode x
pending_max 5
pending_max 0
source 127.0.0.9
source nosuch..host
server
server x max 3
server -1 max 9
server 1 foo 9 max 7 weight
server 1 port 99999
server 1 port http
server 1 port -1
server 1 max 12x hard 0x10 prio -4 weight +5
server 1 acl 3
server 0 address 127.1
tarpit_acl
tcp_fastclose
tcp_fastclose both
tcp_fastclose sideways
timeout
timeout 4
timeout abc
tracking 60
tracking -5
web_stats
web_stats /run/pen.html
web_stats
no web_stats
web_stats
epoll
select x
acl 1 permit 10.0.0.0 255.0.0.0
acl 1
acl 1 allow 1.2.3.4
acl 99 permit 1.2.3.4
no acl 1`, "\n")...) {
		if got, want := s.ask(line), o.ask(line); got != want {
			t.Errorf("%q: got %q, the original answers %q", line, got, want)
		}
		if got, want := serversText(s.m.View()), o.ask("servers"); got != want {
			t.Fatalf("%q: got servers\n%s, the original has\n%s", line, got, want)
		}
	}
}

func TestWhatTheOriginalWritesIsWrittenAlike(t *testing.T) {
	file := filepath.Join(t.TempDir(), "original.conf")
	options := []string{"-c", "3000", "-e", "127.0.0.1:99", "-B", "127.0.0.1:98:1", "-x", "600", "-w", "/run/pen.html"}
	servers := []string{"127.0.0.1:9:1:2:3:4", "[::1]:80", "/run/x", "127.0.0.1"}
	o := startOriginal(t, append(append(options, "LISTEN"), servers...)...)
	line, err := ParseArgs(append(append(append(options, "-f", "-C", o.control, "-u", "root"), o.listen), servers...))
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(t)
	p := planner()
	p.Local = line.Local
	start, err := p.Plan(t.Context(), line.With(nil))
	if err != nil {
		t.Fatal(err)
	}
	s.m.Apply(state.Command{Time: state.At(noon), Ops: start.Ops})
	s.local = start.Local
	// With both modes on the original writes weights and priorities too.
	for _, line := range append(settle, "weight", "prio", "hash", "ascii", "debug 2", "stubborn", "tcp_fastclose up", "timeout 7", "tracking 8", "blacklist 9",
		"client_acl 3", "control_acl 4", "acl 1 permit 10.0.0.0 255.0.0.0", "acl 1 permit 127.1", "acl 2 deny fd00::/8", "acl 2 deny ::1",
		"acl 3 permit country SE", "acl 8 permit 1.0.3.0 255.0.255.0", "server 2 acl 9 max -1") {
		if got, want := s.ask(line), o.ask(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
	o.ask("write " + file)
	theirs, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s.local.File = file
	ours := write(t, s.m.View(), s.local)
	ours, beyond, found := strings.Cut(ours, "\nlisten ")
	if !found || beyond == "" {
		t.Errorf("nothing is written beyond what the original writes")
	}
	_, ours, _ = strings.Cut(ours, "\n")
	_, want, _ := strings.Cut(strings.TrimSuffix(string(theirs), "\n"), "\n")
	equal(t, "file", ours, want)

	statements, err := ParseReader(file, strings.NewReader(string(theirs)))
	if err != nil {
		t.Fatal(err)
	}
	p.View = s.m.View()
	again, err := p.Plan(t.Context(), statements)
	if err != nil {
		t.Fatal(err)
	}
	if d := state.Diff(p.View, again.View); len(d) != 0 {
		t.Errorf("reading the original's file changes %v", d)
	}
}
