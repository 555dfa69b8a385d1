package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"pen/internal/control"
)

// The original's programs, looked up before testscript puts ours before them.
var (
	originalPen, noPen       = exec.LookPath("pen")
	originalPenctl, noPenctl = exec.LookPath("penctl")
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"penctl": main})
}

// answers are what the server of the scripts knows, the original's replies.
var answers = map[string]string{
	"mode":         "no hash roundrobin no stubborn weight no prio\n",
	"blacklist 45": "45\n",
	"tarpit_acl":   "tarpit_acl = -1",
	"exit":         "Exit is not enabled; restart with -X flag\n",
	"close 9999":   "Connection 9999 out of range\n",
	"listen 80":    "error: listen on 80: permission denied\n",
	"servers":      "0 addr 127.0.0.1 port 9101 conn 0 max 0 hard 0 weight 0 prio 0 sx 0 rx 0\n1 addr ::1 port 9102 conn 1 max 10 hard 20 weight 7 prio 3 sx 6 rx 3\n",
	"roundrobin":   "",
}

func answer(_ context.Context, _ control.Peer, line string, w io.Writer) {
	reply, ok := answers[line]
	if !ok {
		reply = fmt.Sprintf("do_cmd: ignoring command starting with '%s'\n", strings.Fields(line)[0])
	}
	io.WriteString(w, reply)
}

// serve answers until the test ends.
func serve(t testing.TB, addr string) string {
	t.Helper()
	s, err := control.Listen(t.Context(), addr, control.Options{Handler: answer})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s.Addr()
}

func TestScripts(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	tcp := serve(t, "0")
	_, port, _ := net.SplitHostPort(tcp)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TCP", tcp)
			env.Setenv("PORT", port)
			env.Setenv("UNIX", serve(t, filepath.Join(t.TempDir(), "ctl")))
			env.Setenv("SILENT", silent.Addr().String())
			return nil
		},
	})
}

func TestStructure(t *testing.T) {
	for _, tt := range []struct{ words, reply, want string }{
		{"blacklist", "30\n", `{"blacklist":30}`},
		{"pid", "20248\n", `{"pid":20248}`},
		{"protocol", "tcp\n", `{"protocol":"tcp"}`},
		{"listen", "8080\n", `{"listen":"8080"}`},
		{"log", "/var/log/my pen\n", `{"log":"/var/log/my pen"}`},
		{"log", "", `{"reply":""}`},
		{"tarpit_acl", "tarpit_acl = 3", `{"tarpit_acl":3}`},
		{"idle_timeout 7", "Idle timeout: 7 seconds\n", `{"idle_timeout":7}`},
		{"idlers", "Idlers: 0/4\n", `{"idlers":0,"wanted":4}`},
		{"socket 6", "Socket 6 belongs to connection -1\n", `{"connection":-1,"socket":6}`},
		{"close 3", "Forcibly closing connection 3\n", `{"closed":3}`},
		{"mode", "no hash roundrobin no stubborn weight no prio\n", `{"hash":false,"prio":false,"roundrobin":true,"stubborn":false,"weight":true}`},
		{"servers", "", `{"servers":[]}`},
		{
			"servers", "0 addr (unknown address family 0 port 0 conn 0 max 0\n",
			`{"servers":[{"addr":null,"conn":0,"max":0,"port":0,"server":0}]}`,
		},
		{
			"service web servers", "0 addr /run/a port 1 b port 1 conn 2\n",
			`{"servers":[{"addr":"/run/a port 1 b","conn":2,"port":1,"server":0}]}`,
		},
		{"recent 60", "127.0.0.1 connects 3 sx 18446744073709551615 rx 6\n", `{"clients":[{"client":"127.0.0.1","connects":3,"rx":6,"sx":18446744073709551615}]}`},
		{"recent", " connects 3 sx 3 rx 6\n", `{"clients":[{"client":null,"connects":3,"rx":6,"sx":3}]}`},
		{
			"services", "default listen 127.0.0.1:80 servers 2 clients 3 conn 1\nweb listen - servers 0 clients 0 conn 0\n",
			`{"services":[{"clients":3,"conn":1,"listen":"127.0.0.1:80","servers":2,"service":"default"},{"clients":0,"conn":0,"listen":null,"servers":0,"service":"web"}]}`,
		},
		{"counters", "accepted 12\nclients_recent_ms 1\nstate_disk_ok true\n", `{"accepted":12,"clients_recent_ms":1,"state_disk_ok":true}`},
		{
			"connection 0", "Connection 0:\nstate = 2\ndownfd = 6, upfd = 7\nclient = 0, server = 1\npend = 0\n",
			`{"client":0,"connection":0,"downfd":6,"pend":0,"server":1,"state":2,"upfd":7}`,
		},
		{"cluster json", "{\"leader\": \"n1\"}\n", `{"leader":"n1"}`},
		{"servers", "what is this\n", `{"reply":"what is this\n"}`},
		{"help", "one\ntwo\n", `{"reply":"one\ntwo\n"}`},
	} {
		got, err := json.Marshal(structure(strings.Fields(tt.words), tt.reply))
		if string(got) != tt.want || err != nil {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", tt.words, got, err, tt.want)
		}
	}
}

func TestStructureOfTheOriginalsPage(t *testing.T) {
	page, err := os.ReadFile("testdata/status.html")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/status.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(structure([]string{"status"}, string(page)), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if string(got)+"\n" != string(want) {
		t.Errorf("got %s", got)
	}
}

func FuzzStructure(f *testing.F) {
	page, err := os.ReadFile("testdata/status.html")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("status", string(page))
	for word, reply := range answers {
		f.Add(word, reply)
	}
	f.Fuzz(func(t *testing.T, words, reply string) {
		if _, err := json.Marshal(structure([]string{words}, reply)); err != nil {
			t.Errorf("%q, %q: %v", words, reply, err)
		}
	})
}

// Debian's pen is asked by ours, and gives the same as to its own penctl.
func TestTheOriginalIsAsked(t *testing.T) {
	if err := errors.Join(noPen, noPenctl); err != nil {
		t.Skipf("the original is not here: %v", err)
	}
	addr, listen := freePort(t), freePort(t)
	pen := exec.Command(originalPen, "-f", "-C", addr, "-u", "nobody", listen, "127.0.0.1:1", "127.0.0.1:2:3:4:5:6")
	if err := pen.Start(); err != nil {
		t.Fatal(err)
	}
	defer pen.Wait()
	defer pen.Process.Kill()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := control.Ask(t.Context(), addr, "pid"); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	for command, status := range map[string]int{
		"servers": done, "mode": done, "pid": done, "server 0 max 3": done, "connection 0": done,
		"foo": refused, "exit": refused, "close 9999": refused, "status": refused,
	} {
		var out, errs strings.Builder
		got := run(t.Context(), append([]string{addr}, strings.Fields(command)...), "", &out, &errs)
		want, err := exec.Command(originalPenctl, append([]string{addr}, strings.Fields(command)...)...).Output()
		if err != nil {
			t.Errorf("%s: the original's penctl: %v", command, err)
		}
		if out.String() != string(want) || got != status {
			t.Errorf("%s: got %q, status %d, %s, want %q, status %d", command, out.String(), got, errs.String(), want, status)
		}
	}
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
