package config

import (
	"context"
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
	Text    string // as it was written, without the end of the line

	lenient bool        // read as the original does
	spec    *ServerSpec // a server of the command line, or of emergency and abuse
}

// Value is one argument.
type Value struct {
	Text   string
	Int    int // of TypeInt
	Column int
}

// Reply is an answer that is known without asking anybody. Text goes to the
// peer as it is and may be empty, Log says why nothing was done.
type Reply struct{ Text, Log string }

// Refused is why a statement that was well-formed can not be carried out:
// nothing is changed.
type Refused struct {
	Reply string // what the control port answers, as it is; may be empty
	Err   error  // for the log
}

// Error is the reason.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns the reason.
func (r *Refused) Unwrap() error { return r.Err }

// Resolver finds the address of a host name. Literal addresses are not asked for.
type Resolver func(ctx context.Context, host string) (netip.Addr, error)

// environment is what turning a statement into operations needs.
type environment struct {
	ctx     context.Context
	resolve Resolver
	now     time.Time
	// blacklist is the service's blacklist time, and port that of its listener.
	blacklist func(service string) int
	port      func(service string) uint16
}

// Ops are the changes that the statement asks for; none for a question. Names
// are resolved by r, within ctx. v is the state as it is, now the time of the
// command. An error is a *Refused.
func (s *Statement) Ops(ctx context.Context, r Resolver, v *state.View, now time.Time) ([]state.Op, error) {
	return nil, nil
}

// Set carries out a statement of KindLocal; others do nothing.
func (s *Statement) Set(l *Local) {
	if s.Word.set != nil {
		s.Word.set(s, l)
	}
}

// Reply is what the control port answers, read from the state and the settings
// after the change.
func (s *Statement) Reply(v *state.View, l *Local) string {
	if s.Word.reply == nil {
		return ""
	}
	return s.Word.reply(s, v, l)
}
