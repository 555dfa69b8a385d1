package config

import (
	"fmt"
	"strings"
)

// option is one letter of the command line.
type option struct {
	letter byte
	arg    string // what usage calls its argument; empty: it has none
	help   string
	do     func(a *arguments, value string)
}

// letters are the options of the original.
var letters = []option{
	{'A', "DIR", "certificates of authorities, in a directory", textOption("ssl_ca_path")},
	{'B', "SERVER", "server for clients that client_acl denies", specOption("abuse")},
	{'C', "[HOST:]PORT|PATH", "control port", textOption("control")},
	{'D', "", "", notice("Pen 0.26.0 removed the delayed forward feature,\nmaking the -D option obsolete")},
	{'E', "FILE", "certificate: talk TLS to clients", textOption("ssl_certificate")},
	{'F', "FILE", "configuration file", func(a *arguments, v string) { a.Local.File = v }},
	{'G', "FILE", "certificates of authorities", textOption("ssl_ca_file")},
	{'H', "", "tell servers about their clients in the heads of HTTP requests", flagOption("http")},
	{'K', "FILE", "private key, if it is not in the file of -E", textOption("ssl_key")},
	{'L', "PROTOCOL", "ssl23, ssl2, ssl3 or tls1: no effect any more", tlsProtocol},
	{'N', "", "", lacking("never did what its name promised; use -h -r")},
	{'O', "COMMAND", "run a command of the control port", (*arguments).command},
	{'P', "", "no effect any more", nothing},
	{'Q', "", "", notice("Since Pen 0.26.0, kqueue is already the default on supported systems,\nmaking the -Q option obsolete")},
	{'R', "", "require a certificate of clients", func(a *arguments, _ string) { a.add("ssl_client_certificate", Value{Text: "require"}) }},
	{'S', "N", "", notice("As of 0.28.1 the server table is expanded dynamically,\nmaking the -S option obsolete")},
	{'T', "SECONDS", "how long a client is remembered [0: for ever]", intOption("tracking")},
	{'U', "", "balance UDP", func(a *arguments, _ string) { a.add("protocol", Value{Text: "udp"}) }},
	{'W', "", "first choice by weight", flagOption("weight")},
	{'X', "", "let the control port end pen with exit", flagOption("allow_exit")},
	{'Z', "", "no effect any more", notice("TLS 1.2 and 1.3 are spoken by the book; -Z does nothing")},
	{'a', "", "dump traffic (see -d) as text", flagOption("ascii")},
	{'b', "SECONDS", "how long a failed server is left alone [30]", intOption("blacklist")},
	{'c', "N", "clients to remember [2048]", intOption("clients_max")},
	{'d', "", "log more; given three times, all traffic", func(a *arguments, _ string) {
		a.debug++
		a.add("debug", number64(a.debug))
	}},
	{'e', "SERVER", "server of last resort", specOption("emergency")},
	{'f', "", "stay in the foreground", flagOption("foreground")},
	{'h', "", "first choice by a hash of the client's address", flagOption("hash")},
	{'i', "NAME", "", lacking("Windows only")},
	{'j', "DIR", "run in this directory as the root", textOption("chroot")},
	{'l', "FILE|HOST:PORT", "write down what clients send", textOption("log")},
	{'m', "N", "clients accepted in one go [100]", atLeastOption("accept_max", 1, "multi_accept")},
	{'n', "", "", notice("Pen 0.26.0 and up uses only nonblocking sockets,\nmaking the -n option obsolete")},
	{'o', "COMMAND", "same as -O", (*arguments).command},
	{'p', "FILE", "write the number of the process to a file", textOption("pid_file")},
	{'q', "N", "clients that wait to be accepted [500]", atLeastOption("backlog", 50, "listen_queue")},
	{'r', "", "choose a server for each connection, without memory", flagOption("roundrobin")},
	{'s', "", "stubborn: no other server when the first choice fails", flagOption("stubborn")},
	{'t', "SECONDS", "how long a server may take to accept [3]", timeoutOption},
	{'u', "USER", "run as this user", textOption("user")},
	{'w', "FILE", "status file in HTML", textOption("web_stats")},
	{'x', "N", "connections at once [500]", connectionsOption},
}

func letter(c byte) *option {
	for i := range letters {
		if letters[i].letter == c {
			return &letters[i]
		}
	}
	return nil
}

// bundle reads "dd", "fr" or "b30" after its dash.
func (a *arguments) bundle(text string) {
	for i := range len(text) {
		o := letter(text[i])
		switch {
		case o == nil:
			a.misused("", fmt.Sprintf("invalid option -- '%c'", text[i]))
			continue
		case o.arg == "":
			a.run(o, "")
			continue
		}
		value := text[i+1:]
		if value == "" {
			if len(a.rest) == 0 {
				a.misused("", fmt.Sprintf("option requires an argument -- '%c'", text[i]))
				return
			}
			value, a.rest = a.rest[0], a.rest[1:]
		}
		a.run(o, value)
		return
	}
}

// run carries an option out. What it finds wrong begins with its letter.
func (a *arguments) run(o *option, value string) {
	good := len(a.errs)
	o.do(a, value)
	for _, e := range a.errs[good:] {
		if e.Pos.File == "" {
			e.What = fmt.Sprintf("-%c: %s", o.letter, e.What)
		}
	}
}

func number64(n int) Value { return Value{Text: fmt.Sprint(n), Int: n} }

func nothing(*arguments, string) {}

func notice(text string) func(*arguments, string) {
	lines := strings.Split(text, "\n")
	return func(a *arguments, _ string) { a.Notices = append(a.Notices, lines...) }
}

func flagOption(word string) func(*arguments, string) {
	return func(a *arguments, _ string) { a.add(word) }
}

func intOption(word string) func(*arguments, string) {
	return func(a *arguments, v string) { a.add(word, number64(atoi(v))) }
}

// textOption takes what a line of a file could hold, so that it can be saved.
func textOption(word string) func(*arguments, string) {
	return func(a *arguments, v string) {
		if v == "" || !printable(v) {
			a.fail("", fmt.Sprintf("%q is empty or has blanks or control characters", v), "")
			return
		}
		if err := checkText(word, v); err != nil {
			a.fail("", err.Error(), "")
			return
		}
		a.add(word, Value{Text: v})
	}
}

func specOption(word string) func(*arguments, string) {
	return func(a *arguments, v string) {
		spec, err := ParseServer(v)
		a.add(word, Value{Text: v})
		last := &a.Statements[len(a.Statements)-1]
		last.spec, last.bad = &spec, err
	}
}

// lacking is an option of a part that this version does not have.
func lacking(reason string) func(*arguments, string) {
	return func(a *arguments, _ string) { a.fail("", reason, "") }
}

func tlsProtocol(a *arguments, v string) {
	protocols := []string{"ssl23", "ssl2", "ssl3", "tls1"}
	if !among(v, protocols) {
		a.misuse = true
		a.fail("", fmt.Sprintf("%q", v), oneOf(protocols))
		return
	}
	a.Notices = append(a.Notices, "TLS 1.2 and 1.3 are spoken whatever -L says; see ssl_option")
}

func atLeastOption(word string, least int, called string) func(*arguments, string) {
	return func(a *arguments, v string) {
		n := atoi(v)
		if n < least {
			n = least
			a.Notices = append(a.Notices, fmt.Sprintf("%s bumped to %d", called, least))
		}
		a.add(word, number64(n))
	}
}

func timeoutOption(a *arguments, v string) {
	if atoi(v) < 1 {
		a.misuse = true
		a.fail("", fmt.Sprintf("%q", v), "a number, 1 or more")
		return
	}
	a.add("timeout", number64(atoi(v)))
}

func connectionsOption(a *arguments, v string) {
	switch n := atoi(v); {
	case n < 0:
		a.misuse = true
		a.fail("", fmt.Sprintf("%q", v), "a number, 1 or more")
	case n > 0:
		a.add("conn_max", number64(n))
	}
}
