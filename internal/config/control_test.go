package config

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"pen/internal/control"
	"pen/state"
)

// session answers lines as the control port does, one after the other.
type session struct {
	t     *testing.T
	m     *state.Machine
	local Local
}

func (s *session) ask(line string) string {
	s.t.Helper()
	statement, reply := ParseControl(line)
	if reply != nil {
		return reply.Text
	}
	if statement.Word.NeedsHandler() {
		return "(handler)"
	}
	p := planner()
	p.View, p.Local, p.Running = s.m.View(), s.local, true
	plan, err := p.Plan(s.t.Context(), []Statement{*statement})
	if err != nil {
		if refused, ok := asRefused(err); ok {
			return refused.Reply
		}
		return "! " + err.Error()
	}
	if r := s.m.Apply(state.Command{Time: state.At(noon), Ops: plan.Ops}); r.Err != nil {
		s.t.Fatalf("%s: %v", line, r.Err)
	}
	s.local = plan.Local
	return statement.Reply(s.m.View(), &s.local)
}

func newSession(t *testing.T) *session {
	s := &session{t: t, m: state.New(), local: Local{Control: "/run/pen/ctl"}}
	s.ask("listen 127.0.0.1:9000")
	return s
}

func TestControlAnswersAsTheOriginal(t *testing.T) {
	s := newSession(t)
	for _, c := range []struct{ ask, want string }{
		{"", ""},
		{"   ", ""},
		{"# comment", ""},
		{"#blacklist", ""},
		{"abort_on_error", ""},
		{"no abort_on_error", ""},
		{"acl 1 permit 10.0.0.0 255.0.0.0", ""},
		{"acl 2 deny fd00::/8", ""},
		{"acl 3 permit country SE", ""},
		{"acl 1", ""},
		{"acl", ""},
		{"acl 1 allow 1.2.3.4", ""},
		{"acl 99 permit 1.2.3.4", ""},
		{"no acl 1", ""},
		{"no acl", "error: no acl: expected the number of a list\n"},
		{"ascii", ""},
		{"no ascii", ""},
		{"blacklist", "30\n"},
		{"  blacklist   45  extra words", "45\n"},
		{"blacklist\t46", "do_cmd: ignoring command starting with 'blacklist\t46'\n"},
		{"blacklist 99999999999", "1215752191\n"},
		{"blacklist abc", "0\n"},
		{"blacklist 12x\r\ntimeout 9", "12\n"},
		{"block", "do_cmd: ignoring command starting with 'block'\n"},
		{"delayed_forward", "do_cmd: ignoring command starting with 'delayed_forward'\n"},
		{"no block", ""},
		{"no delayed_forward", ""},
		{"client_acl", "0\n"},
		{"client_acl 3", "3\n"},
		{"client_acl 10", "0\n"},
		{"client_acl -1", "0\n"},
		{"clients_max", "2048\n"},
		{"clients_max 3000", "3000\n"},
		{"clients_max 100", "3000\n"},
		{"clients_max abc", "3000\n"},
		{"clients_max 4000001", "error: clients_max: 4000001 is more than 4000000\n"},
		{"conn_max", "500\n"},
		{"conn_max 600", "600\n"},
		{"conn_max -1", "600\n"},
		{"control", "/run/pen/ctl\n"},
		{"control elsewhere", "/run/pen/ctl\n"},
		{"no control", ""},
		{"control", "/run/pen/ctl\n"},
		{"control_acl 2", "2\n"},
		{"control_acl 42", "0\n"},
		{"debug", "0\n"},
		{"debug 2", "2\n"},
		{"debug -1", "-1\n"},
		{"dummy", ""},
		{"no dummy", ""},
		{"epoll", ""},
		{"poll", ""},
		{"select x", ""},
		{"kqueue", ""},
		{"hash", ""},
		{"no http", ""},
		{"idle_timeout", "Idle timeout: 0 seconds\n"},
		{"idle_timeout 7x", "Idle timeout: 7 seconds\n"},
		{"idle_timeout -3", "Idle timeout: 0 seconds\n"},
		{"idlers", "Idlers: 0/0\n"},
		{"idlers 0", "Idlers: 0/0\n"},
		{"idlers 4", "Idlers: 0/4\n"},
		{"idlers -3", "Idlers: 0/-3\n"},
		{"idlers four", "Idlers: 0/0\n"},
		{"no idlers", ""},
		{"include", ""},
		{"keepalive", ""},
		{"listen", "127.0.0.1:9000\n"},
		{"listen 127.0.0.1:9001", "127.0.0.1:9001\n"},
		{"listen foo", "error: listen: port foo out of range\n"},
		{"listen", "127.0.0.1:9001\n"},
		{"log", ""},
		{"no log", ""},
		{"log /var/log/pen.log", "/var/log/pen.log\n"},
		{"log", "/var/log/pen.log\n"},
		{"log 127.0.0.1:514", "127.0.0.1\n"},
		{"log", "127.0.0.1\n"},
		{"no log", ""},
		{"log", ""},
		{"access_log", ""},
		{"access_log /var/log/visits", "/var/log/visits\n"},
		{"access_log_format", "logfmt\n"},
		{"access_log_format json", "json\n"},
		{"no access_log", ""},
		{"mode", "hash no roundrobin no stubborn no weight no prio\n"},
		{"roundrobin", ""},
		{"stubborn on", ""},
		{"weight", ""},
		{"prio", ""},
		{"no hash", ""},
		{"mode x", "no hash roundrobin stubborn weight prio\n"},
		{"peek", "error: peek: looking into the first data was never finished and is left out\n"},
		{"pending_max 0", ""},
		{"pending_max", ""},
		{"pid", fmt.Sprintf("%d\n", os.Getpid())},
		{"server", ""},
		{"server x max 3", ""},
		{"server -1 max 9", ""},
		{"server 4096", "error: server: 4096 is outside 0..4095\n"},
		{"server 2 address nosuch max 3", ""},
		{"source 127.0.0.9", ""},
		{"source nosuch..host", "unable to set source address to 'nosuch..host'"},
		{"source", "error: source: expected an address\n"},
		{"no source", ""},
		{"tarpit_acl", "tarpit_acl = -1"},
		{"tarpit_acl 3", "tarpit_acl = 3"},
		{"tarpit_acl 10", "tarpit_acl = 0"},
		{"tarpit_acl abc", "tarpit_acl = abc"},
		{"tarpit_acl -5", "tarpit_acl = 0"},
		{"tarpit_acl -1", "tarpit_acl = -1"},
		{"dsr_if", ""},
		{"no dsr_if", ""},
		{"dsr_ip 10.0.0.1", ""},
		{"tcp_fastclose both", ""},
		{"tcp_fastclose", "do_cmd: ignoring tcp_fastclose without argument\n"},
		{"tcp_nodelay", ""},
		{"no tcp_nodelay", ""},
		{"timeout 4", "4\n"},
		{"timeout abc", "0\n"},
		{"tracking -5", "-5\n"},
		{"no transparent", ""},
		{"web_stats", ""},
		{"web_stats /run/pen.html", "/run/pen.html\n"},
		{"web_stats", "/run/pen.html\n"},
		{"no web_stats", ""},
		{"web_stats", ""},
		{"foo", "do_cmd: ignoring command starting with 'foo'\n"},
		{"Blacklist", "do_cmd: ignoring command starting with 'Blacklist'\n"},
		{"no", ""},
		{"no foo", ""},
		{"no timeout", ""},
		{"no servers", ""},
		{"servers", "(handler)"},
		{"recent 3", "(handler)"},
		{"write", "(handler)"},
		{"exit now", "(handler)"},
	} {
		if got := s.ask(c.ask); got != c.want {
			t.Errorf("%q: got %q, want %q", c.ask, got, c.want)
		}
	}
	d := s.m.View().Services[0]
	if d.PendingMax != 1 || d.Fastclose != state.FastcloseBoth || !d.Keepalive || d.NoDelay || d.Source.IsValid() {
		t.Errorf("got settings %+v", d.Settings)
	}
	if len(d.Servers) != 1 || d.Servers[0].Soft != 3 {
		t.Errorf("got servers %+v", d.Servers)
	}
}

func TestControlReadsNewWordsStrictly(t *testing.T) {
	s := newSession(t)
	for _, c := range []struct{ ask, want string }{
		{"accept_max", "100\n"},
		{"accept_max 7", "7\n"},
		{"accept_max x", "error: \"x\" for accept_max, expected a number, 1 or more\n"},
		{"backlog 10", "error: \"10\" for backlog, expected a number, 50 or more\n"},
		{"drain_timeout 5", "5\n"},
		{"drain_timeout 5 6", "error: \"6\" is too much for drain_timeout, expected the end of the line\n"},
		{"protocol", "tcp\n"},
		{"protocol udp", "udp\n"},
		{"protocol tcp", "tcp\n"},
		{"protocol sctp", "error: \"sctp\" for protocol, expected tcp or udp, did you mean \"tcp\"\n"},
		{"emergency", ""},
		{"emergency 10.0.0.9", ""},
		{"emergency", "10.0.0.9:9000\n"},
		{"emergency www1:80:5", ""},
		{"emergency", "www1:80:5\n"},
		{"emergency ::1", "error: emergency: unknown or invalid address \"::1\", expected HOST[:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]]\n"},
		{"emergency nosuch:1", "error: emergency: resolve nosuch: no such host\n"},
		{"no emergency", ""},
		{"no emergency", ""},
		{"emergency", ""},
		{"data_dir", ""},
		{"data_dir /x", "error: data_dir: has an effect only when pen starts\n"},
		{"foreground", "error: foreground: has an effect only when pen starts\n"},
		{"no foreground", "error: foreground: has an effect only when pen starts\n"},
		{"hash compat", ""},
		{"service", "error: service without a value, expected a name of letters, digits, '-', '_' and '.'\n"},
		{"service web timeout 3", "error: there is no service web\n"},
		{"service web", ""},
		{"service web timeout 3", "3\n"},
		{"service web listen 8081", "8081\n"},
		{"service web no stubborn", ""},
		{"service web accept_max 3", "3\n"},
		{"accept_max", "7\n"},
		{"service web foo", "do_cmd: ignoring command starting with 'foo'\n"},
		{"service web mode", "no hash no roundrobin no stubborn no weight no prio\n"},
		{"service w@b mode", "error: service name \"w@b\", expected at most 64 letters, digits, '-', '_' and '.'\n"},
		{"services", "(handler)"},
		{"no service web", ""},
		{"service web mode", "error: there is no service web\n"},
		{"service web timeout", "error: there is no service web\n"},
		{"no service web", "error: there is no service web\n"},
		{"no server 0", "error: there is no server 0\n"},
		{"server 0 address 10.0.0.1 port 80", ""},
		{"no server 0", ""},
		{"no server", "error: no server: expected the number of a server\n"},
		{"help nonsense", "error: help: unknown word \"nonsense\"\n"},
		{"help tiemout", "error: help: unknown word \"tiemout\", did you mean \"timeout\"\n"},
		{"reload", "(handler)"},
	} {
		if got := s.ask(c.ask); got != c.want {
			t.Errorf("%q: got %q, want %q", c.ask, got, c.want)
		}
	}
	if got := s.m.View().Services[0].Hash; got != state.HashCompat {
		t.Errorf("hash compat gave %v", got)
	}
}

// The control port's longest command is read to its last byte.
func TestLongestCommand(t *testing.T) {
	line := "timeout" + strings.Repeat(" ", control.MaxLine-len("timeout7")) + "7"
	s, reply := ParseControl(line)
	if reply != nil || len(s.Args) != 1 || s.Args[0].Int != 7 {
		t.Errorf("got %v, %v", s, reply)
	}
}

func TestServerPairs(t *testing.T) {
	for _, c := range []struct{ ask, want string }{
		{"server 2", "server 2\n"},
		{"server 2 address 10.0.0.1 port 80 max 1 hard 2 weight 3 prio 4 acl 5", "server 2 address 10.0.0.1 port 80 max 1 hard 2 weight 3 prio 4 acl 5\n"},
		{"server 2 port 80 address 10.0.0.1", "server 2 address 10.0.0.1 port 80\n"},
		{"server 2 foo 9 max 7 weight", "server 2 max 7\n"},
		{"server 2x max 12x", "server 2 max 12\n"},
		{"server 2 max -1", "server 2 max -1\n"},
		{"server 2 port 99999", "server 2 port 34463\n"},
		{"server 2 port http", "server 2 port 0\n"},
		{"server 2 address /run/x port 80", "server 2 address /run/x port 1\n"},
		{"server 2 address www6", "server 2 address www6\n"},
		{"server 2 blacklist 0", "server 2 mark 0\n"},
		{"server 2 blacklist 40", fmt.Sprintf("server 2 mark %d\n", state.At(noon)+10_000)},
		{"server 2 blacklist 10", fmt.Sprintf("server 2 mark %d\n", state.At(noon)-20_000)},
	} {
		s, reply := ParseControl(c.ask)
		if reply != nil {
			t.Errorf("%q: refused with %+v", c.ask, reply)
			continue
		}
		got, err := s.Ops(t.Context(), names, state.New().View(), noon)
		if err != nil || ops(got) != c.want {
			t.Errorf("%q: got %q, %v, want %q", c.ask, ops(got), err, c.want)
		}
	}
}

func TestRefusalsSayWhyToTheLog(t *testing.T) {
	for _, c := range []struct{ ask, want string }{
		{"acl 1 allow 1.2.3.4", "acl: expected permit|deny"},
		{"acl 99 permit 1.2.3.4", "add_acl: 99 outside (0,10)"},
		{"acl 1 permit 10.0.0.300", "acl: bogus address '10.0.0.300'"},
		{"acl 1 permit 10.0.0.1 x", "acl: bogus mask 'x'"},
		{"acl 1 permit country", "acl: expected country"},
		{"acl 1 permit ::1/200", "acl: bogus length '200', expected 0 to 128"},
	} {
		_, reply := ParseControl(c.ask)
		if reply == nil || reply.Text != "" || reply.Log != c.want {
			t.Errorf("%q: got %+v, want log %q", c.ask, reply, c.want)
		}
	}
}

func TestEntriesOfAccessLists(t *testing.T) {
	for ask, want := range map[string]string{
		"acl 1 permit 10.0.0.0 255.0.0.0":   "acl 1 permit 10.0.0.0 255.0.0.0",
		"acl 1 permit 10.1.2.3 255.255.0.0": "acl 1 permit 10.1.0.0 255.255.0.0",
		"acl 1 permit 10.0.0.0/8":           "acl 1 permit 10.0.0.0 255.0.0.0",
		"acl 1 deny 127.1":                  "acl 1 deny 127.0.0.1 255.255.255.255",
		"acl 1 deny 1.2.3.4 255.0.255.0":    "acl 1 deny 1.0.3.0 255.0.255.0",
		"acl x deny fe80::1/64":             "acl x deny fe80::/64",
		"acl 2 deny ::ffff:1.2.3.4":         "acl 2 deny 1.2.3.4 255.255.255.255",
		"acl 2 deny ::ffff:1.2.3.4/104":     "acl 2 deny 1.0.0.0 255.0.0.0",
		"acl 3 permit country se":           "acl 3 permit country SE",
	} {
		s, reply := ParseControl(ask)
		if reply != nil {
			t.Errorf("%q: refused with %+v", ask, reply)
			continue
		}
		text := write(t, plan(t, []Statement{*s}).View, Local{})
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%q: want %q in\n%s", ask, want, text)
		}
	}
}
