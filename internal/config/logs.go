package config

import (
	"net"
	"strings"

	"pen/state"
)

// Where the access log can go besides a file, and how its lines may look.
const (
	LogToStderr = "stderr"
	LogToSyslog = "syslog"
	FormatJSON  = "json"
)

var accessFormats = []string{"logfmt", FormatJSON}

// logWords say what is written down of clients. Like what is in such a log they
// belong to one process.
var logWords = []Word{
	{
		Name: "log", Kind: KindLocal, No: true,
		Args: []Arg{{Name: "FILE|HOST:PORT", Type: TypePath}},
		Help: "write down what clients send, to a file or to penlogd (option -l)",
		set:  setLog(func(l *Local) *string { return &l.Log }),
		reply: func(s *Statement, _ *state.View, l *Local) string {
			if s.No {
				return ""
			}
			if NetworkLog(l.Log) { // the original knows the host only
				host, _, _ := net.SplitHostPort(l.Log)
				return line(host)
			}
			return line(l.Log)
		},
	},
	{
		Name: "access_log", Kind: KindLocal, No: true, New: true,
		Args:  []Arg{{Name: "FILE|stderr|syslog", Type: TypePath}},
		Help:  "write a line about each connection and each flow of datagrams when it is over",
		set:   setLog(func(l *Local) *string { return &l.AccessLog }),
		reply: func(_ *Statement, _ *state.View, l *Local) string { return line(l.AccessLog) },
	},
	{
		Name: "access_log_format", Kind: KindLocal, New: true,
		Args: []Arg{{Name: "FORMAT", Type: TypeEnum, Among: accessFormats}},
		Help: "how lines of the access log look; logfmt: key=value",
		set:  func(s *Statement, l *Local) { setIfGiven(s, func(v Value) { l.AccessJSON = v.Text == FormatJSON }) },
		reply: func(_ *Statement, _ *state.View, l *Local) string {
			return line(accessFormat(l))
		},
	},
}

func setLog(field func(*Local) *string) func(*Statement, *Local) {
	return func(s *Statement, l *Local) {
		if s.No {
			*field(l) = ""
		}
		setIfGiven(s, func(v Value) { *field(l) = v.Text })
	}
}

// NetworkLog tells whether a log goes to a host and not to a file: as in the
// original, if there is a colon, and no path in front of it.
func NetworkLog(target string) bool {
	return strings.Contains(target, ":") && !strings.HasPrefix(target, "/")
}

func accessFormat(l *Local) string {
	if l.AccessJSON {
		return FormatJSON
	}
	return accessFormats[0]
}

// logs finds a log that nobody could read.
func (a *analysis) logs() {
	if NetworkLog(a.Local.Log) {
		if _, port, err := net.SplitHostPort(a.Local.Log); err != nil || port == "" {
			a.wrong(place{word: "log"}, "log %s: expected a file name or HOST:PORT (an IPv6 address in brackets)", a.Local.Log)
		}
	}
	if a.Local.AccessLog == LogToStderr && !a.Local.Foreground {
		a.wrong(place{word: "access_log"}, "access_log stderr: in the background there is no standard error; use foreground (-f), syslog or a file")
	}
	if a.Local.Log != "" && a.Local.Log == a.Local.AccessLog {
		a.wrong(place{word: "access_log"}, "access_log and log can not share %s: their lines would be mixed", a.Local.Log)
	}
}
