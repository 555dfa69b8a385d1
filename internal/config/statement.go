package config

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"pen/state"
)

// Statement is one command that has been read: the word is known and its
// arguments have been checked as far as that goes without asking anybody.
type Statement struct {
	Pos     Pos
	Service string // the service it is about; never empty
	Word    *Word
	No      bool // the form `no WORD`
	Args    []Value
	Text    string // as it was written

	place Place       // what kind of text it is from
	dir   string      // in which its relative paths begin; empty: the working directory
	quiet bool        // an option or a positional word: nobody waits for an answer
	spec  *ServerSpec // a server of the command line, or of emergency and abuse
	bad   error       // why the address of the command line can not be used
}

// Value is one argument.
type Value struct {
	Text   string
	Int    int // of TypeInt
	Column int
}

// Reply is an answer that is known without asking anybody. Text goes to the
// peer as it is and may be empty, Log says why nothing was done.
type Reply struct {
	Text, Log string

	missing bool // asks for a part that this version does not have
}

// Refused is why a statement that is well-formed can not be carried out. It
// changes nothing.
type Refused struct {
	Reply string // what the control port answers, as it is; may be empty
	Err   error  // for the log
}

// Error is the reason.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns the reason.
func (r *Refused) Unwrap() error { return r.Err }

// Resolver finds the address of a host name. It is not asked about literal
// addresses.
type Resolver func(ctx context.Context, host string) (netip.Addr, error)

// environment is what turning a statement into operations needs.
type environment struct {
	ctx     context.Context
	resolve Resolver
	now     time.Time

	blacklist func(service string) int    // the blacklist time
	port      func(service string) uint16 // of the listener; 0: none
	servers   func(service string) int    // how many there are; -1: no such service

	// setting is the value of a number as it is; nil while pen starts, when
	// what was there before does not count.
	setting func(service string, o state.Option) int
}

// Ops are the changes that the statement asks for; none for a question. Names
// are resolved by r (nil: the system's) within ctx. v is the state as it is,
// now the time of the command. An error is a *Refused.
func (s *Statement) Ops(ctx context.Context, r Resolver, v *state.View, now time.Time) ([]state.Op, error) {
	if r == nil {
		r = SystemResolver
	}
	e := &environment{
		ctx: ctx, resolve: r, now: now,
		blacklist: func(name string) int { return serviceOr(v, name).Blacklist },
		port:      func(name string) uint16 { return serviceOr(v, name).Listen.Addr.Port() },
		servers: func(name string) int {
			if v.Service(name) == nil {
				return -1
			}
			return len(v.Service(name).Servers)
		},
		setting: settingsOf(v),
	}
	if s.Word.PerService && s.Word.Kind == KindReplicated && v.Service(s.Service) == nil {
		return nil, absent(fmt.Errorf("no service %s", s.Service))
	}
	return s.operations(e)
}

func (s *Statement) operations(e *environment) ([]state.Op, error) {
	switch {
	case s.bad != nil:
		return nil, &Refused{Err: s.bad}
	case s.Word.ops == nil:
		return nil, nil
	}
	return s.Word.ops(s, e)
}

func settingsOf(v *state.View) func(string, state.Option) int {
	return func(name string, o state.Option) int { return serviceOr(v, name).Get(o).Int() }
}

// serviceOr is the service, or one with default settings.
func serviceOr(v *state.View, name string) *state.Service {
	if s := v.Service(name); s != nil {
		return s
	}
	return &state.Service{Name: name, Settings: state.Defaults()}
}

// Set carries out a statement of KindLocal; others do nothing.
func (s *Statement) Set(l *Local) {
	if s.Word.set != nil {
		s.Word.set(s, l)
	}
}

// Reply is what the control port answers, read from the state and the settings
// after the change. It is not for words that need a handler.
func (s *Statement) Reply(v *state.View, l *Local) string {
	if s.Word.reply == nil {
		return ""
	}
	return s.Word.reply(s, v, l)
}

// at is the place of an argument, or of the statement if there is none.
func (s *Statement) at(i int) Pos {
	pos := s.Pos
	if i < len(s.Args) && s.Args[i].Column > 0 {
		pos.Column = s.Args[i].Column
	}
	return pos
}

// texts are the arguments from the i-th on.
func (s *Statement) texts(i int) []string {
	var all []string
	for ; i < len(s.Args); i++ {
		all = append(all, s.Args[i].Text)
	}
	return all
}
