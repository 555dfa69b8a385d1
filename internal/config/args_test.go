package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pen/state"
)

// started is what a command line comes to, in words.
func started(t *testing.T, args ...string) (string, *CommandLine, Local) {
	t.Helper()
	line, err := ParseArgs(args)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	p, err := Planner{Resolve: names, Now: noon, Local: line.Local}.Plan(t.Context(), line.With(nil))
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return ops(p.Ops), line, p.Local
}

func TestOptionsOfTheOriginal(t *testing.T) {
	for _, c := range []struct{ args, ops string }{
		{"-B 10.0.0.9:9", "server abuse address 10.0.0.9 port 9 max 0 hard 0 weight 0 prio 0"},
		{"-e [::1]:9:1:2:3:4", "server emergency address ::1 port 9 max 1 hard 2 weight 3 prio 4"},
		{"-O hash", "hash on"},
		{"-o prio", "prio on"},
		{"-T 60", "tracking 60"},
		{"-U", "protocol udp"},
		{"-W", "weight on"},
		{"-b 45", "blacklist 45"},
		{"-b45", "blacklist 45"},
		{"-b abc", "blacklist 0"},
		{"-b 12x", "blacklist 12"},
		{"-c 3000", "clients_max 3000"},
		{"-c -1", ""},
		{"-h", "hash on"},
		{"-hr", "hash on\nroundrobin on"},
		{"-m 7", "accept_max 7"},
		{"-q 100", "backlog 100"},
		{"-r -s", "roundrobin on\nstubborn on"},
		{"-rsb 5", "roundrobin on\nstubborn on\nblacklist 5"},
		{"-t 4", "timeout 4"},
		{"-x 600", "conn_max 600"},
		{"-x 0", ""},
		{"-P -Z -L tls1", ""},
		{"-E /c -K /k -G /a -A /d -R", "ssl_certificate /c\nssl_key /k\nssl_ca_file /a\nssl_ca_path /d\nssl_client_certificate require"},
		{"-H --http-forwarded append", "http on\nhttp_forwarded append"},
		{"--blacklist 45 --no-hash --hash --hash=compat", "blacklist 45\nhash off\nhash on\nhash compat"},
		{"--idle-timeout=7", "idle_timeout 7"},
		{"--tcp-fastclose both", "tcp_fastclose both"},
		{"--emergency www1:80", "server emergency address www1 port 80 max 0 hard 0 weight 0 prio 0"},
		{"--service web --listen 81 -b 5", "service web\nservice web listen 81\nservice web blacklist 5"},
	} {
		got, _, _ := started(t, append(strings.Fields(c.args), "8080")...)
		want := strings.TrimPrefix(c.ops+"\nlisten 8080\n", "\n")
		// -e and -B come after the file, the listener after them.
		if got != want {
			t.Errorf("%s: got %q, want %q", c.args, got, want)
		}
	}
}

func TestOptionsOfTheProcess(t *testing.T) {
	_, line, l := started(t, "-a", "-dd", "-C", "8888", "-f", "-X", "-j", "/jail", "-p", "/run/pid", "-u", "nobody", "-w", "/run/pen.html", "--data-dir", "/var/lib/pen", "-F", "/etc/pen.conf", "80")
	equal(t, "local", l, Local{
		ASCII: true, Debug: 2, Control: "8888", Foreground: true, AllowExit: true, Chroot: "/jail", PidFile: "/run/pid",
		User: "nobody", WebStats: "/run/pen.html", DataDir: "/var/lib/pen", File: "/etc/pen.conf",
	})
	if line.Listen != "80" {
		t.Errorf("got listen %q", line.Listen)
	}
	_, _, l = started(t, "-d", "-O", "debug 5", "-d", "80")
	if l.Debug != 6 {
		t.Errorf("debug: got %d, want 6", l.Debug)
	}
}

func TestPositionalWordsMayStandAnywhere(t *testing.T) {
	want := "stubborn on\nblacklist 5\nlisten 8080\n" +
		"server 0 address 127.0.0.1 port 8080 max 0 hard 0 weight 0 prio 0\n" +
		"server 1 address www1 port 80 max 10 hard 0 weight 0 prio 0\n"
	for _, args := range []string{
		"-s -b 5 8080 127.0.0.1 www1:80:10",
		"8080 127.0.0.1 www1:80:10 -s -b 5",
		"8080 -s 127.0.0.1 -b 5 www1:80:10",
		"-s -b 5 -- 8080 127.0.0.1 www1:80:10",
	} {
		if got, _, _ := started(t, strings.Fields(args)...); got != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
	}
	got, line, _ := started(t, "--listen", "8080", "127.0.0.1", "www1:80:10", "-s", "-b", "5")
	if line.Listen != "" || len(line.Servers) != 2 || !strings.Contains(got, "server 1 address www1") {
		t.Errorf("with --listen all words are servers: got %q", got)
	}
}

func TestServerWithoutPortTakesThatOfTheListener(t *testing.T) {
	for _, args := range []string{"8081 10.0.0.1", "-C 9999 8081 10.0.0.1", "-O listen=8081 10.0.0.1", "-e 10.0.0.1 8081"} {
		words := strings.Fields(args)
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "=", " ")
		}
		if got, _, _ := started(t, words...); !strings.Contains(got, "address 10.0.0.1 port 8081 ") {
			t.Errorf("%s: got %q", args, got)
		}
	}
	line, _ := ParseArgs([]string{"/run/pen.sock", "10.0.0.1"})
	_, err := planner().Plan(t.Context(), line.With(nil))
	if err == nil || err.Error() != "command line: server 10.0.0.1 has no port, and there is no listen port to take" {
		t.Errorf("got %v", err)
	}
}

func TestNoticesOfObsoleteOptions(t *testing.T) {
	for args, want := range map[string]string{
		"-D":    "Pen 0.26.0 removed the delayed forward feature,\nmaking the -D option obsolete",
		"-Q":    "Since Pen 0.26.0, kqueue is already the default on supported systems,\nmaking the -Q option obsolete",
		"-S 5":  "As of 0.28.1 the server table is expanded dynamically,\nmaking the -S option obsolete",
		"-n":    "Pen 0.26.0 and up uses only nonblocking sockets,\nmaking the -n option obsolete",
		"-m 0":  "multi_accept bumped to 1",
		"-q 10": "listen_queue bumped to 50",
	} {
		_, line, _ := started(t, append(strings.Fields(args), "80")...)
		if got := strings.Join(line.Notices, "\n"); got != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
	}
}

func TestRepliesOfCommandsGoToStandardOutput(t *testing.T) {
	line, err := ParseArgs([]string{"-O", "blacklist 77", "-O", "mode", "-O", "foo bar", "-O", "block", "-O", "servers", "-O", "weight 3", "-b", "5", "--timeout", "4", "80"})
	if err != nil {
		t.Fatal(err)
	}
	p := plan(t, line.With(read(t, "tracking 60\n")))
	equal(t, "replies", p.Replies, "5\nno hash no roundrobin no stubborn weight no prio\n"+
		"do_cmd: ignoring command starting with 'foo'\ndo_cmd: ignoring command starting with 'block'\n60\n")
	equal(t, "notices", line.Notices, []string{"servers is only for the control port"})
}

func TestWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"-y":                 "invalid option -- 'y'",
		"-fy -z":             "invalid option -- 'y'\ninvalid option -- 'z'",
		"-b":                 "option requires an argument -- 'b'",
		"-t 0":               `-t: "0", expected a number, 1 or more`,
		"-t abc":             `-t: "abc", expected a number, 1 or more`,
		"-x -5":              `-x: "-5", expected a number, 1 or more`,
		"-L tls9":            `-L: "tls9", expected ssl23, ssl2, ssl3 or tls1`,
		"--tiemout 3":        `unknown option --tiemout, did you mean "--timeout"`,
		"--timeout":          "--timeout: a value is missing, expected a number",
		"--no-timeout":       "unknown option --no-timeout",
		"--servers":          "unknown option --servers, did you mean \"--server\"",
		"--json":             "--json: is only for --check",
		"--check=yes --json": "--check: takes no value",
	} {
		_, err := ParseArgs(strings.Fields(args))
		if usage, ok := errors.AsType[*UsageError](err); !ok || !strings.HasPrefix(usage.Error(), want) {
			t.Errorf("%s: got %T %v, want %q", args, err, err, want)
		}
	}
}

func TestWrongWords(t *testing.T) {
	for args, want := range map[string]string{
		"--timeout abc":       `--timeout: "abc" for timeout, expected a number`,
		"--tcp-fastclose=bth": `--tcp-fastclose: "bth" for tcp_fastclose, expected off, up, down or both, did you mean "both"`,
		"--stubborn=yes":      `--stubborn: "yes" is too much for stubborn, expected the end of the line`,
		"-E ":                 "option requires an argument -- 'E'",
		"-N":                  "-N: never did what its name promised; use -h -r",
		"-i pen":              "-i: Windows only",
		"-p  ":                "option requires an argument -- 'p'",
		"--completion tcsh":   `--completion: "tcsh", expected bash, zsh or fish`,
		"--include /nonesuch": "--include: read /nonesuch: no such file or directory",
	} {
		_, err := ParseArgs(strings.Fields(args))
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
	if _, err := ParseArgs([]string{"-p", "a b"}); err == nil {
		t.Error("a file name with a blank can not be saved, and was taken")
	}
}

func TestBadAddressesAreFoundWithTheRest(t *testing.T) {
	line, err := ParseArgs([]string{"-e", "nosuch:80", "foo", "::1", "10.0.0.1:80", "nosuch:80"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = planner().Plan(t.Context(), line.With(nil))
	want := "command line: resolve nosuch: no such host\ncommand line: listen: port foo out of range\n" +
		"command line: unknown or invalid address \"::1\"\ncommand line: resolve nosuch: no such host"
	want = strings.Replace(want, "resolve", "emergency: resolve", 1)
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestTheFileComesAfterTheOptionsAndBeforeTheServers(t *testing.T) {
	line, err := ParseArgs([]string{"-b", "45", "-t", "9", "-C", "1111", "8080", "10.0.0.1:80"})
	if err != nil {
		t.Fatal(err)
	}
	p := plan(t, line.With(read(t, "blacklist 7\ncontrol 2222\nlisten 9090\nserver 0 address 10.9.9.9 port 99 acl 3\nserver 1 address 10.0.0.2 port 80\n")))
	s := p.View.Services[0]
	got := fmt.Sprint(s.Blacklist, s.Timeout, p.Local.Control, s.Listen.Text, s.Servers[0].Host, s.Servers[0].ACL, s.Servers[1].Host)
	equal(t, "settings", got, fmt.Sprint(7, 9, "1111", "8080", "10.0.0.1", 3, "10.0.0.2"))
	equal(t, "filed", p.Local.Filed, map[string]string{"control": "control 2222"})
}

func TestEveryOptionOfTheOriginalIsThere(t *testing.T) {
	const original = "ABCDEFGHKLNOPQRSTUWXZabcdefhijlmnopqrstuwx"
	for i := range len(original) {
		if letter(original[i]) == nil {
			t.Errorf("-%c is not there", original[i])
		}
	}
	if state.ACLs != 10 {
		t.Error("the help says 0 to 9")
	}
}
