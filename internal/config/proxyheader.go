package config

import (
	"strconv"

	"pen/state"
)

// proxyWords are about the PROXY protocol: a header before a connection's first
// byte says for whom it comes.
var proxyWords = []Word{
	{
		Name: "proxy_out", Kind: KindReplicated, No: true, PerService: true, New: true,
		Args: []Arg{{Name: "VERSION", Type: TypeEnum, Among: proxyHeaders[1:]}},
		Help: "tell servers each client's address by a PROXY header",
		more: []string{"v2 says of TLS clients also what they asked for and showed"},
		ops: func(s *Statement, _ *environment) ([]state.Op, error) {
			if s.No {
				return []state.Op{set(s, state.OptProxyOut, state.Int(int(state.ProxyOff)))}, nil
			}
			return enumOps(s, state.OptProxyOut, proxyHeaders), nil
		},
		reply: whenAsked(func(s *state.Settings) string { return proxyHeaders[s.ProxyOut] }),
	},
	noted(orNoList(ours(listWord(state.OptProxyIn, state.OptProxyInList, "access list of those who have to begin with a PROXY header"))), "what it says counts as the client's address", "from others it is data like any other"),
}

var proxyHeaders = []string{"off", "v1", "v2"}

// noted adds to what help says of the word alone.
func noted(w Word, more ...string) Word { w.more = more; return w }

// orNone gives a word of a number a `no`, which is the number none, and has it
// answer questions alone.
func orNone(none int, w Word) Word {
	o := optionNamed(w.Name)
	w = withNo(w, o, none)
	w.reply = whenAsked(func(s *state.Settings) string {
		if n := s.Get(o).Int(); n != none {
			return strconv.Itoa(n)
		}
		return "off"
	})
	return w
}

// orNoList does that to proxy_in, a word of an access list.
func orNoList(w Word) Word {
	w = withNo(w, state.OptProxyIn, state.NoList)
	w.reply = whenAsked(func(s *state.Settings) string {
		if s.ProxyIn != state.Numbered(state.NoList) {
			return s.ProxyIn.String()
		}
		return "off"
	})
	return w
}

// withNo gives a word a `no` that sets the option to none.
func withNo(w Word, o state.Option, none int) Word {
	ops := w.ops
	w.No = true
	w.ops = func(s *Statement, e *environment) ([]state.Op, error) {
		if s.No {
			return []state.Op{set(s, o, state.Int(none))}, nil
		}
		return ops(s, e)
	}
	return w
}

func optionNamed(name string) state.Option {
	for _, o := range state.Options() {
		if o.String() == name {
			return o
		}
	}
	panic("config: no option " + name)
}

// whenAsked answers a statement without arguments.
func whenAsked(value func(*state.Settings) string) func(*Statement, *state.View, *Local) string {
	return func(s *Statement, v *state.View, _ *Local) string {
		if s.No || len(s.Args) > 0 {
			return ""
		}
		return line(value(settings(s, v)))
	}
}

// proxyHeader looks at the PROXY protocol: at what it can not be, and at lists that
// let everybody say who he is.
func (a *analysis) proxyHeader(s *state.Service) {
	for _, o := range []state.Option{state.OptProxyOut, state.OptProxyIn} {
		if d := state.Defaults(); s.Protocol == state.UDP && s.Get(o) != d.Get(o) {
			a.wrong(place{s.Name, o.String(), 0}, "%v is for protocol tcp: there is no connection before whose first byte a header could stand", o)
		}
	}
	if s.ProxyIn == state.Numbered(state.NoList) {
		return
	}
	at := place{s.Name, "proxy_in", 0}
	switch list := a.View.List(s.ProxyIn); {
	case list == nil && !a.broken:
		a.wrong(at, "proxy_in %v: there is no access list of that name, and nobody would be believed", s.ProxyIn)
	case list != nil && len(list.Entries) == 0 && s.Listen.Path() == "":
		a.odd(at, "access list %v is empty, so everybody has to say for whom he comes, and is believed", s.ProxyIn)
	}
}

// proxyHeader writes the settings of the PROXY protocol.
func (w writer) proxyHeader(s *state.Settings) {
	w.textOr("proxy_out", s.ProxyOut != state.ProxyOff, proxyHeaders[s.ProxyOut])
	w.textOr("proxy_in", s.ProxyIn != state.Numbered(state.NoList), s.ProxyIn.String())
}

// textOr writes "word text", or "no word" if it is off.
func (w writer) textOr(word string, on bool, text string) {
	if !on {
		text = ""
	}
	w.text(word, text)
}
