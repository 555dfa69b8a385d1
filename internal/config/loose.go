package config

import (
	"fmt"
	"strings"

	"pen/state"
)

// ParseControl reads one line of the control port as the original does. With a
// Reply that is the answer and there is nothing to carry out; without, the
// Statement is there. Words that the original does not have are read strictly,
// and the answer says what is wrong.
func ParseControl(line string) (*Statement, *Reply) {
	return readLoosely(line, InControl, state.DefaultService)
}

func readLoosely(line string, place Place, service string) (*Statement, *Reply) {
	if i := strings.IndexAny(line, "\r\n\x00"); i >= 0 {
		line = line[:i]
	}
	words := fields(line[:min(len(line), maxCommand)], " ")
	if len(words) == 0 || words[0].text[0] == '#' {
		return nil, &Reply{}
	}
	if words[0].text == "service" {
		if len(words) < 3 {
			return readNew(line, words, place, service)
		}
		r := newReader(place)
		if r.name(words[1]); len(r.errs) > 0 {
			return nil, refused("%v", r.errs[0])
		}
		service, words = words[1].text, words[2:]
	}
	s := &Statement{Service: service, Text: strings.TrimSpace(line), No: words[0].text == "no", place: place}
	rest := words[1:]
	if s.No {
		if len(rest) == 0 {
			return nil, &Reply{Log: "no: expected a word"}
		}
		rest = rest[1:]
	}
	name := words[len(words)-len(rest)-1].text
	s.Word = lookup(name, place)
	if reply := s.refusal(name, place); reply != nil {
		return nil, reply
	}
	if s.Word.New {
		return readNew(line, words, place, service)
	}
	s.looseArgs(rest)
	if s.Word.Start && place == InControl {
		if s.No {
			return nil, &Reply{Log: fmt.Sprintf("do_cmd: ignoring no %s", name)}
		}
		s.Args = nil // only to be asked for
	}
	if s.Word.refuse != nil {
		if reply := s.Word.refuse(s); reply != nil {
			return nil, reply
		}
	}
	if err := s.checkTexts(); err != nil {
		return nil, refused("%s: %v", name, err)
	}
	return s, nil
}

// checkTexts refuses what the original takes and can not read back once it is
// saved.
func (s *Statement) checkTexts() error {
	for i := range min(len(s.Args), len(s.Word.Args)) {
		if t := s.Word.Args[i].Type; t != TypePath && t != TypeText {
			continue
		}
		if err := checkText(s.Word.Name, s.Args[i].Text); err != nil {
			return err
		}
	}
	return nil
}

// refusal is the answer to words that do not exist, or not here.
func (s *Statement) refusal(name string, place Place) *Reply {
	switch {
	case s.Word == nil && s.No:
		return &Reply{Log: fmt.Sprintf("do_cmd: ignoring no %s", name)}
	case s.Word == nil:
		return unknown(name)
	case s.No && !s.Word.No:
		return &Reply{Log: fmt.Sprintf("do_cmd: ignoring no %s", name)}
	case s.Word.Places&place == 0:
		return &Reply{Log: name + " is only for the control port"}
	}
	return nil
}

// errorMark begins the replies of which the original knows nothing, so that a
// program can tell them from an answer.
const errorMark = "error: "

// refused is an answer that says why nothing was done.
func refused(format string, args ...any) *Reply {
	text := fmt.Sprintf(format, args...)
	return &Reply{Text: errorMark + text + "\n", Log: text}
}

func unknown(word string) *Reply {
	text := fmt.Sprintf("do_cmd: ignoring command starting with '%s'", word)
	return &Reply{Text: text + "\n", Log: text}
}

// readNew reads a word that the original does not have.
func readNew(line string, words []field, place Place, service string) (*Statement, *Reply) {
	r := newReader(place)
	r.service = service
	s := r.statement(line, words)
	switch {
	case len(r.errs) > 0:
		reply := refused("%v", r.errs[0])
		reply.missing = s != nil && s.Word.Kind == KindUnavailable
		return nil, reply
	case s.Word.Start && place == InControl && (len(s.Args) > 0 || s.No || s.Word.Bare):
		return nil, refused("%s: has an effect only when pen starts", s.Word.Name)
	}
	s.quiet = false
	return s, nil
}

// looseArgs takes as many arguments as the word knows; the rest is ignored.
func (s *Statement) looseArgs(words []field) {
	args := s.Word.Args
	if s.No {
		args = s.Word.NoArgs
	}
	for _, a := range args {
		switch {
		case len(words) == 0:
			return
		case a.Type == TypePairs:
			s.Args = append(s.Args, loosePairs(words)...)
			return
		case a.Type == TypeEntry:
			s.Args = append(s.Args, entryArgs(words)...)
			return
		}
		v := Value{Text: words[0].text}
		if a.Type == TypeInt || a.Type == TypeList {
			v.Int = atoi(v.Text)
		}
		s.Args = append(s.Args, v)
		words = words[1:]
	}
}
