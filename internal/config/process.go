package config

import (
	"os"
	"slices"
	"strings"

	"pen/state"
)

// processWords are settings of this process alone.
var processWords = []Word{
	switchWord("ascii", func(l *Local) *bool { return &l.ASCII }, "dump traffic, which debug 3 does, as text instead of hexadecimal numbers (option -a)"),
	switchWord("abort_on_error", func(l *Local) *bool { return &l.AbortOnError }, "end with the stacks of all goroutines and a core file when pen itself fails"),
	{
		Name: "debug", Kind: KindLocal,
		Args:  []Arg{{Name: "LEVEL", Type: TypeInt, Min: minInt, Max: maxInt}},
		Help:  "how much to log (option -d)",
		set:   func(s *Statement, l *Local) { setIfGiven(s, func(v Value) { l.Debug = v.Int }) },
		reply: func(_ *Statement, _ *state.View, l *Local) string { return lineInt(l.Debug) },
	},
	{
		Name: "web_stats", Kind: KindLocal, No: true,
		Args: []Arg{{Name: "FILE", Type: TypePath}},
		Help: "file for status reports in HTML (option -w)",
		set: func(s *Statement, l *Local) {
			if s.No {
				l.WebStats = ""
			}
			setIfGiven(s, func(v Value) { l.WebStats = v.Text })
		},
		reply: func(s *Statement, _ *state.View, l *Local) string {
			if s.No {
				return ""
			}
			return line(l.WebStats)
		},
	},
	startText("control", "[HOST:]PORT|PATH", TypeListen, func(l *Local) *string { return &l.Control },
		"where commands are waited for; a bare port is on loopback (option -C)"),
	metricsWord,
	startText("user", "USER", TypeText, func(l *Local) *string { return &l.User },
		"run as this user (option -u)"),
	startText("chroot", "DIR", TypePath, func(l *Local) *string { return &l.Chroot },
		"run in this directory as the root (option -j)"),
	startText("pid_file", "FILE", TypePath, func(l *Local) *string { return &l.PidFile },
		"write the number of the process to a file (option -p)"),
	startText("data_dir", "DIR", TypePath, func(l *Local) *string { return &l.DataDir },
		"keep the state on disk, so that it survives a restart"),
	atStart(switchWord("foreground", func(l *Local) *bool { return &l.Foreground }, "stay in the foreground (option -f)")),
	atStart(switchWord("allow_exit", func(l *Local) *bool { return &l.AllowExit }, "let the control port end pen with exit (option -X)")),
}

var metricsWord = detailed(
	startText("metrics", "[HOST:]PORT", TypePort, func(l *Local) *string { return &l.Metrics },
		"where Prometheus gets the figures of this node; a bare port is on loopback"),
	"HTTP, at /metrics", "another address needs control_acl, and obeys it",
)

func setIfGiven(s *Statement, set func(Value)) {
	if !s.No && len(s.Args) > 0 {
		set(s.Args[0])
	}
}

// switchWord is a setting of the process that is on or off.
func switchWord(name string, field func(*Local) *bool, help string) Word {
	return Word{
		Name: name, Kind: KindLocal, No: true, Bare: true, Help: help,
		set: func(s *Statement, l *Local) { *field(l) = !s.No },
	}
}

// startText is a text that matters only when the process starts; later it can
// be asked for.
func startText(name, arg string, t Type, field func(*Local) *string, help string) Word {
	return atStart(Word{
		Name: name, Kind: KindLocal, No: true, New: name != "control",
		Args: []Arg{{Name: arg, Type: t}}, Help: help,
		set: func(s *Statement, l *Local) {
			if s.No {
				*field(l) = ""
			}
			setIfGiven(s, func(v Value) { *field(l) = v.Text })
		},
		reply: func(_ *Statement, _ *state.View, l *Local) string { return line(*field(l)) },
	})
}

// detailed says more in the help of this word alone.
func detailed(w Word, more ...string) Word {
	w.more = more
	return w
}

func atStart(w Word) Word {
	w.Start = true
	w.New = w.Name != "control"
	return w
}

// askingWords change no setting. Most are answered by the daemon.
var askingWords = []Word{
	clusterWord,
	asking("close", "end a connection at once", optionalInt("N")),
	asking("connection", "tell about one connection", optionalInt("N")),
	ours(asking("counters", "tell what this node has counted: refusals by reason, failovers, bounds met")),
	asking("exit", "end pen, if allow_exit is on"),
	{
		Name: "pid", Kind: KindRead, Places: InControl | InArgs, Help: "tell the number of the process",
		reply: func(*Statement, *state.View, *Local) string { return lineInt(os.Getpid()) },
	},
	asking("recent", "tell the clients of the last seconds, 300 if not said", optionalInt("SECONDS")),
	ours(asking("reload", "read the configuration file again, as on SIGHUP")),
	asking("servers", "tell the servers, one each line"),
	asking("socket", "tell which connection a socket belongs to", optionalInt("FD")),
	asking("status", "write the HTML status file and send it"),
	asking("write", "save the settings, to the configuration file if none is named", Arg{Name: "FILE", Type: TypePath, Optional: true}),
	{
		Name: "include", Kind: KindRead, Args: []Arg{{Name: "FILE", Type: TypePath}},
		Help: "read words from another file",
		refuse: func(s *Statement) *Reply {
			if len(s.Args) == 0 {
				return &Reply{Log: "include: expected a file"}
			}
			return nil
		},
	},
	{
		Name: "mode", Kind: KindRead, PerService: true, Places: InControl | InArgs,
		Help: "tell how servers are chosen", reply: modeReply,
	},
	ours(asking("services", "tell the services, one each line")),
	{
		Name: "help", Kind: KindRead, New: true, Places: InControl,
		Args: []Arg{{Name: "WORD", Type: TypeWord, Optional: true}},
		Help: "tell about the language, or about one word",
		reply: func(s *Statement, _ *state.View, _ *Local) string {
			if len(s.Args) == 0 {
				return Help("")
			}
			return Help(s.Args[0].Text)
		},
	},
}

func optionalInt(name string) Arg {
	return Arg{Name: name, Type: TypeInt, Min: minInt, Max: maxInt, Optional: true}
}

// asking is a word of the control port that a handler of the daemon answers.
func asking(name, help string, args ...Arg) Word {
	perService := slices.Contains([]string{"close", "connection", "counters", "recent", "servers", "socket", "status"}, name)
	return Word{Name: name, Kind: KindRead, PerService: perService, Places: InControl, Args: args, Help: help}
}

func modeReply(s *Statement, v *state.View, _ *Local) string {
	if v.Service(s.Service) == nil {
		return errorMark + "there is no service " + s.Service + "\n"
	}
	set := settings(s, v)
	modes := []string{
		mode("hash", set.Hash != state.HashOff), mode("roundrobin", set.RoundRobin), mode("stubborn", set.Stubborn),
		mode("weight", set.Weight), mode("prio", set.Prio),
	}
	return strings.Join(modes, " ") + "\n"
}

// mode is a flag as the language writes it.
func mode(word string, on bool) string {
	if on {
		return word
	}
	return "no " + word
}
