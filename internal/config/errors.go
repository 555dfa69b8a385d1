package config

import (
	"fmt"
	"strings"
)

// Pos is a place in a text. Line and Column count from 1, Column in bytes.
// Statements of the command line have no line: File is the option.
type Pos struct {
	File         string
	Line, Column int
}

// String is "file:line:column", as far as it is known.
func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is one mistake in a text.
type Error struct {
	Pos
	What string // what is wrong
	Want string // what was expected; may be empty
	Hint string // what was probably meant; may be empty
	Err  error  // what the system said; may be nil
}

// Unwrap returns what the system said.
func (e *Error) Unwrap() error { return e.Err }

// Error is one line: "file:line:column: what, expected want, did you mean hint".
func (e *Error) Error() string {
	var b strings.Builder
	if p := e.Pos.String(); p != "" {
		b.WriteString(p + ": ")
	}
	b.WriteString(e.What)
	if e.Want != "" {
		b.WriteString(", expected " + e.Want)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, ", did you mean %q", e.Hint)
	}
	return b.String()
}

// Errors are all mistakes that one reading found, in the order of the text.
type Errors []*Error

// Error is one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the single mistakes.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// orNil avoids an error interface that holds no error.
func (e Errors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}
