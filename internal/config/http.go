package config

import "pen/state"

// httpWords say what servers are told about their clients in HTTP.
var httpWords = []Word{
	more(onOff(state.OptHTTP, "tell servers their client's address and protocol in each HTTP request (option -H)"),
		"X-Forwarded-Proto and X-Forwarded-For; what clients send under these names is taken out, see http_forwarded",
		"a request that could be read in two ways ends the connection, see counters"),
	{
		Name: "http_forwarded", Kind: KindReplicated, PerService: true, New: true,
		Args: []Arg{{Name: "HOW", Type: TypeEnum, Among: forwardings}},
		Help: "what becomes of X-Forwarded-For and X-Forwarded-Proto that clients send",
		more: []string{
			"remove: they are taken out, and the truth is put in", "append: the address is put to the list that is there, the protocol stays",
			"keep: they stay, as in the original; only for clients that are trusted",
		},
		ops: func(s *Statement, _ *environment) ([]state.Op, error) {
			return enumOps(s, state.OptForwarded, forwardings), nil
		},
		reply: func(s *Statement, v *state.View, _ *Local) string {
			if len(s.Args) > 0 {
				return ""
			}
			return line(forwardings[settings(s, v).HTTP.Forwarded])
		},
	},
}

var forwardings = []string{"remove", "append", "keep"}

// more gives a word lines that help says of it alone.
func more(w Word, lines ...string) Word { w.more = lines; return w }

// http finds what does not go together with the reading of heads.
func (a *analysis) http(s *state.Service) {
	d := state.Defaults()
	switch {
	case s.HTTP.Heads && s.Protocol == state.UDP:
		a.odd(place{s.Name, "http", 0}, "http has no effect with protocol udp")
	case !s.HTTP.Heads && s.HTTP.Forwarded != d.HTTP.Forwarded:
		a.odd(place{s.Name, "http_forwarded", 0}, "http_forwarded has no effect without http")
	}
}
