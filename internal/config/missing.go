package config

// missingWords are parts of the original that this version does not have. Their
// "off" form is accepted, so that a file that the original wrote loads; turning
// one on is an error. After them come words that never had or no longer have an
// effect.
var missingWords = []Word{
	missing("peek", true, "looking into the first data was never finished and is left out"),

	{
		Name: "ssl_client_renegotiation_interval", Kind: KindIgnored, Args: []Arg{{Name: "SECONDS", Type: TypeInt, Min: minInt, Max: maxInt}},
		Help: "clients can never renegotiate; accepted without effect",
		note: func(*Statement) string { return "clients can not renegotiate at all" },
	},
	ignored("epoll", "ways to wait for events are no choice any more"),
	ignored("kqueue", "as epoll"),
	ignored("poll", "as epoll"),
	ignored("select", "as epoll"),
	unknownToControl(noAlso(ignored("block", "sockets do not block"))),
	unknownToControl(noAlso(ignored("delayed_forward", "there is no delay"))),
}

func text(name string) Arg { return Arg{Name: name, Type: TypeText} }

// missing is a word of the original that can only be turned off.
func missing(name string, no bool, reason string, args ...Arg) Word {
	return Word{
		Name: name, Kind: KindUnavailable, No: no, Bare: len(args) == 0, Args: args,
		Help: reason, reason: reason,
		check: func(s *Statement) *Error {
			if s.No {
				return nil
			}
			return &Error{Pos: s.Pos, What: s.Word.Name + ": " + reason}
		},
		refuse: func(s *Statement) *Reply {
			if s.No {
				return nil
			}
			r := refused("%s: %s", s.Word.Name, reason)
			r.missing = true
			return r
		},
	}
}

func ignored(name, help string) Word {
	return Word{Name: name, Kind: KindIgnored, Bare: true, Help: help + "; accepted without effect"}
}

func noAlso(w Word) Word { w.No = true; return w }

// unknownToControl answers as the original, whose manual says otherwise.
func unknownToControl(w Word) Word {
	w.refuse = func(s *Statement) *Reply {
		if s.No {
			return nil
		}
		return unknown(s.Word.Name)
	}
	return w
}
