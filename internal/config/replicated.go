package config

import (
	"fmt"
	"slices"
	"strconv"

	"pen/state"
)

var (
	fastcloses = []string{"off", "up", "down", "both"}
	protocols  = []string{"tcp", "udp"}
)

// settings are those of the statement's service; defaults if there is none.
func settings(s *Statement, v *state.View) *state.Settings {
	if service := v.Service(s.Service); service != nil {
		return &service.Settings
	}
	d := state.Defaults()
	return &d
}

func valueOf(s *Statement, v *state.View, o state.Option) int {
	if o.Global() {
		return v.Global.Get(o).Int()
	}
	return settings(s, v).Get(o).Int()
}

func textOf(s *Statement, v *state.View, o state.Option) string {
	if o.Global() {
		return v.Global.Get(o).Text()
	}
	return settings(s, v).Get(o).Text()
}

// line ends a text; no text stays none.
func line(text string) string {
	if text == "" {
		return ""
	}
	return text + "\n"
}

func lineInt(n int) string { return strconv.Itoa(n) + "\n" }

func hashOps(s *Statement, _ *environment) ([]state.Op, error) {
	hash := state.HashOn
	switch {
	case s.No:
		hash = state.HashOff
	case len(s.Args) > 0 && s.Args[0].Text == "compat":
		hash = state.HashCompat
	}
	return []state.Op{set(s, state.OptHash, state.Int(int(hash)))}, nil
}

func listenOps(s *Statement, e *environment) ([]state.Op, error) {
	if len(s.Args) == 0 {
		return nil, nil
	}
	l, err := e.listen(s.Args[0].Text)
	if err != nil {
		return nil, answered("listen: ", err)
	}
	return []state.Op{set(s, state.OptListen, state.Bind(l))}, nil
}

// answered is a refusal that the peer is told about.
func answered(prefix string, err error) *Refused {
	err = fmt.Errorf("%s%w", prefix, err)
	return &Refused{Reply: errorMark + err.Error() + "\n", Err: err}
}

func protocolOps(s *Statement, _ *environment) ([]state.Op, error) {
	if len(s.Args) == 0 {
		return nil, nil
	}
	return []state.Op{set(s, state.OptProtocol, state.Int(slices.Index(protocols, s.Args[0].Text)))}, nil
}

func idleWord(w Word) Word {
	w.reply = func(s *Statement, v *state.View, _ *Local) string {
		return fmt.Sprintf("Idle timeout: %d seconds\n", settings(s, v).Idle)
	}
	return w
}

// idlersWord tells what is wanted alone. On the control port the daemon answers,
// who knows how many there are.
func idlersWord(w Word) Word {
	w.reply = func(s *Statement, v *state.View, _ *Local) string {
		return fmt.Sprintf("Idlers: 0/%d\n", settings(s, v).Idlers)
	}
	return w
}

func fastcloseOps(s *Statement, _ *environment) ([]state.Op, error) {
	side := state.FastcloseOff
	for i, word := range fastcloses {
		if s.Args[0].Text == word {
			side = state.Fastclose(i)
		}
	}
	return []state.Op{set(s, state.OptFastclose, state.Int(int(side)))}, nil
}

func fastcloseRefuse(s *Statement) *Reply {
	if len(s.Args) == 0 {
		return &Reply{Text: "do_cmd: ignoring tcp_fastclose without argument\n"}
	}
	return nil
}

func sourceOps(s *Statement, e *environment) ([]state.Op, error) {
	text := ""
	if !s.No {
		a, err := e.lookup(s.Args[0].Text)
		if err != nil {
			return nil, &Refused{Reply: fmt.Sprintf("unable to set source address to '%s'", s.Args[0].Text), Err: err}
		}
		text = a.String()
	}
	return []state.Op{set(s, state.OptSource, state.Text(text))}, nil
}

func sourceRefuse(s *Statement) *Reply {
	if !s.No && len(s.Args) == 0 {
		return refused("source: expected an address")
	}
	return nil
}

func serviceOps(s *Statement, e *environment) ([]state.Op, error) {
	name := s.Args[0].Text
	if !s.No {
		return []state.Op{state.AddService{Service: name}}, nil
	}
	if e.servers(name) < 0 {
		return s.missing(fmt.Errorf("no service %s", name))
	}
	return []state.Op{state.RemoveService{Service: name}}, nil
}

// missing is what becomes of a statement that removes what is not there: a file
// may be read again, so there it does nothing; a person is told.
func (s *Statement) missing(err error) ([]state.Op, error) {
	if s.place == InControl {
		return nil, absent(err)
	}
	return nil, nil
}

func absent(err error) *Refused { return answered("there is ", err) }

func specWord(name string, index int, help string) Word {
	return Word{
		Name: name, Kind: KindReplicated, No: true, PerService: true, New: true,
		Args: []Arg{{Name: "SERVER", Type: TypeServer}}, Help: help,
		ops: func(s *Statement, e *environment) ([]state.Op, error) {
			if s.No {
				// A server that comes into being and goes again: no error if there was none.
				return []state.Op{
					state.SetServer{Service: s.Service, Index: index},
					state.RemoveServer{Service: s.Service, Index: index},
				}, nil
			}
			if s.spec == nil {
				return nil, nil
			}
			op, err := s.spec.op(e, s.Service, index)
			if err != nil {
				return nil, answered(name+": ", err)
			}
			return []state.Op{op}, nil
		},
		reply: func(s *Statement, v *state.View, _ *Local) string {
			service := v.Service(s.Service)
			if service == nil || s.No || len(s.Args) > 0 || service.Server(index) == nil {
				return ""
			}
			return line(specOf(service.Server(index)).String())
		},
	}
}
