package config

import (
	"fmt"
	"strconv"
	"strings"

	"pen/state"
)

// reader reads statements strictly and collects what is wrong with them.
type reader struct {
	place      Place
	dir        string // in which relative paths of the text begin; empty: the working directory
	service    string // that bare words are about
	pos        Pos    // of the line
	statements []Statement
	errs       Errors
}

func newReader(place Place) *reader {
	return &reader{place: place, service: state.DefaultService}
}

func (r *reader) fail(column int, what, want, hint string) {
	pos := r.pos
	if pos.Line > 0 {
		pos.Column = column
	}
	r.mistake(&Error{Pos: pos, What: what, Want: want, Hint: hint})
}

// mistake collects as many as anybody reads.
func (r *reader) mistake(e *Error) {
	if len(r.errs) >= maxMistake {
		return
	}
	r.errs = append(r.errs, e)
	if len(r.errs) == maxMistake {
		r.errs = append(r.errs, &Error{Pos: e.Pos, What: fmt.Sprintf("%d mistakes, the rest is not shown", maxMistake)})
	}
}

// line reads one line: nothing, a comment, or one statement.
func (r *reader) line(text string) {
	words := withoutComment(fields(text, " \t"))
	if len(words) == 0 {
		return
	}
	bad := len(r.errs)
	if s := r.statement(text, words); s != nil && len(r.errs) == bad {
		r.statements = append(r.statements, *s)
	}
}

func withoutComment(words []field) []field {
	for i, w := range words {
		if w.text[0] == '#' {
			return words[:i]
		}
	}
	return words
}

// statement reads words as one statement. It is only good if no mistake was
// added.
func (r *reader) statement(text string, words []field) *Statement {
	service, prefixed := r.service, false
	if words[0].text == "service" && len(words) > 2 {
		r.name(words[1])
		service, prefixed = words[1].text, true
		words = words[2:]
	}
	s := &Statement{Service: service, Text: strings.TrimSpace(text), Pos: r.pos, dir: r.dir, place: r.place, quiet: r.place == InArgs}
	if r.pos.Line > 0 {
		s.Pos.Column = words[0].column
	}
	if s.No = words[0].text == "no"; s.No {
		if len(words) == 1 {
			r.fail(words[0].column, "no without a word", "a word of the language", "")
			return nil
		}
		words = words[1:]
	}
	if s.Word = r.word(words[0], s.No); s.Word == nil {
		return nil
	}
	if prefixed && !s.Word.PerService {
		r.fail(words[0].column, s.Word.Name+" is not about one service", "", "")
	}
	bad := len(r.errs)
	r.args(s, words[0], words[1:])
	if len(r.errs) > bad {
		return nil
	}
	if s.Word.check != nil {
		if err := s.Word.check(s); err != nil {
			r.fail(err.Column, err.What, err.Want, err.Hint)
		}
	}
	if s.Word.Name == "service" && !s.No {
		r.service, s.Service = s.Args[0].Text, s.Args[0].Text
	}
	return s
}

// word finds a word that may stand here, or says what was probably meant.
func (r *reader) word(w field, no bool) *Word {
	word := lookup(w.text, r.place)
	switch {
	case word == nil:
		r.fail(w.column, fmt.Sprintf("unknown word %q", w.text), "", nearest(w.text, r.names(no)))
	case word.Places&r.place == 0:
		r.fail(w.column, word.Name+" is only for the control port", "", "")
		return nil
	case no && !word.No:
		r.fail(w.column, fmt.Sprintf("there is no %q", "no "+word.Name), "", "")
		return nil
	}
	return word
}

// names are the words that may stand here.
func (r *reader) names(no bool) []string {
	var all []string
	for _, w := range table {
		if w.Places&r.place != 0 && (w.No || !no) {
			all = append(all, w.Name)
		}
	}
	return all
}

// args reads the arguments of a statement.
func (r *reader) args(s *Statement, word field, words []field) {
	args := s.Word.Args
	if s.No {
		args = s.Word.NoArgs
	}
	what := s.what()
	for _, a := range args {
		switch {
		case a.Type == TypePairs:
			s.Args = append(s.Args, r.strictPairs(words)...)
			words = nil
		case len(words) == 0:
			if !a.Optional && !r.question(s) {
				r.fail(word.column, what+" without a value", a.want(), "")
			}
			return
		case a.Type == TypeEntry:
			s.Args = append(s.Args, entryArgs(words)...)
			words = words[min(len(words), entryLength(words)):]
		case a.Type == TypePeers:
			s.Args = append(s.Args, r.peers(words)...)
			words = nil
		case a.Type == TypeVIP:
			s.Args = append(s.Args, r.vip(words)...)
			words = words[min(len(words), vipLength(words)):]
		default:
			s.Args = append(s.Args, r.arg(s, what, a, words[0]))
			words = words[1:]
		}
	}
	if len(words) > 0 {
		r.fail(words[0].column, fmt.Sprintf("%q is too much for %s", words[0].text, what), "the end of the line", "")
	}
}

// question tells whether a word without its arguments asks for the value.
func (r *reader) question(s *Statement) bool {
	return s.Word.Bare || (r.place == InControl && !s.No && s.Word.reply != nil && len(s.Args) == 0)
}

// what is the word as messages name it.
func (s *Statement) what() string {
	if s.No {
		return "no " + s.Word.Name
	}
	return s.Word.Name
}

// entryLength is how many words an entry of an access list has.
func entryLength(words []field) int {
	if len(words) > 2 && strings.ContainsAny(words[1].text, ":/") {
		return 2
	}
	return 3
}

func entryArgs(words []field) []Value {
	var all []Value
	for _, w := range words[:min(len(words), entryLength(words))] {
		all = append(all, Value{Text: w.text, Column: w.column})
	}
	return all
}

// arg checks one argument.
func (r *reader) arg(s *Statement, what string, a Arg, w field) Value {
	v := Value{Text: w.text, Column: w.column}
	var err error
	switch a.Type {
	case TypeInt:
		n, ok := strictInt(w.text)
		if v.Int = n; !ok || n < a.Min || n > a.Max {
			r.fail(w.column, fmt.Sprintf("%q for %s", w.text, what), a.want(), "")
		}
	case TypeList:
		var ok bool
		if v.Int, ok = strictList(w.text, a.Min); !ok {
			r.fail(w.column, fmt.Sprintf("%q for %s", w.text, what), a.want(), "")
		}
	case TypeEnum:
		if !among(w.text, a.Among) {
			r.fail(w.column, fmt.Sprintf("%q for %s", w.text, what), a.want(), nearest(w.text, a.Among))
		}
	case TypeListen:
		_, err = parseListen(w.text)
	case TypePort:
		err = checkPort(w.text)
	case TypeServer:
		var spec ServerSpec
		spec, err = parseServerStrictly(w.text)
		s.spec = &spec
	case TypeHost:
		err = checkHost(w.text)
	case TypeService:
		r.name(w)
	case TypeCluster:
		if !plainName(w.text, maxClusterName) || w.text == "" {
			err = fmt.Errorf("%q", w.text)
		}
	case TypePeer:
		err = checkSelf(w.text)
	case TypePreempt:
		v.Int, err = parsePreempt(w.text)
	}
	if err == nil && !printable(w.text) {
		err = fmt.Errorf("%q has control characters", w.text)
	}
	if err != nil {
		r.fail(w.column, what+": "+err.Error(), a.want(), "")
	}
	return v
}

// name checks the name of a service.
func (r *reader) name(w field) {
	if !plainName(w.text, 64) {
		r.fail(w.column, fmt.Sprintf("service name %q", w.text), "at most 64 letters, digits, '-', '_' and '.'", "")
	}
}

// plainName tells whether a name has so many letters, digits, '-', '_' and '.' at
// most, and nothing else.
func plainName(text string, longest int) bool {
	for _, c := range []byte(text) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && !isDigit(c) && strings.IndexByte("-_.", c) < 0 {
			return false
		}
	}
	return len(text) <= longest
}

func among(word string, words []string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

func strictInt(text string) (int, bool) {
	n, err := strconv.ParseInt(text, 10, 32)
	return int(n), err == nil && text[0] != '+'
}
