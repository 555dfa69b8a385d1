package config

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"pen/state"
)

// CommandLine is what the arguments of the program ask for.
type CommandLine struct {
	Statements []Statement  // of the options, in their order
	Listen     string       // the first positional word, unless an option gives the listener
	Servers    []ServerSpec // the other positional words
	Local      Local        // has only File, from -F; the rest comes by the statements
	Notices    []string     // lines for standard error
	Check      bool
	JSON       bool
	Help       bool
	Version    bool
	Genkey     bool          // print a new cluster key
	Release    bool          // take away what a killed process has left
	Completion string        // a shell
	Install    *Installation // of a service of Windows; nil: none is asked for

	positional []Statement
}

// arguments works the command line off from left to right.
type arguments struct {
	*CommandLine
	rest    []string
	words   []string // positional
	service string
	debug   int
	errs    Errors
	misuse  bool // one of errs is about the options themselves

	windows bool
	before  string   // the letters in front of the option that is carried out, in its word
	taken   bool     // the word that is read asked for an installation
	stored  []string // the words that did not
}

// UsageError is a command line that is no command line of pen. Mistakes in words
// alone are Errors.
type UsageError struct{ Errors }

// ParseArgs reads the arguments of the program, without its name. Options may
// stand before and after the positional words. The error has every mistake: a
// *UsageError, or Errors when only the words of long options are wrong. Addresses
// that are wrong are found later, by Planner.Plan.
func ParseArgs(args []string) (*CommandLine, error) {
	return parseArgs(args, runtime.GOOS == "windows")
}

func parseArgs(args []string, windows bool) (*CommandLine, error) {
	a := arguments{CommandLine: &CommandLine{}, rest: args, service: state.DefaultService, windows: windows}
	for len(a.rest) > 0 {
		left := a.rest
		a.next()
		a.store(left[:len(left)-len(a.rest)])
	}
	a.positionals()
	a.installation()
	if a.JSON && !a.Check {
		a.misused("--json", "is only for --check")
	}
	if a.Genkey && len(a.words) > 0 { // who gives a file here must not see the key on his screen
		a.misused("--genkey", fmt.Sprintf("takes no word; it prints the key: pen --genkey > %s", a.words[0]))
	}
	if a.misuse {
		return nil, &UsageError{a.errs}
	}
	return a.CommandLine, a.errs.orNil()
}

// next reads a word, and the value that belongs to it.
func (a *arguments) next() {
	arg := a.rest[0]
	a.rest = a.rest[1:]
	switch {
	case arg == "--":
		a.words = append(a.words, a.rest...)
		a.rest = nil
	case strings.HasPrefix(arg, "--"):
		a.long(arg[2:])
	case len(arg) > 1 && arg[0] == '-':
		a.bundle(arg[1:])
	default:
		a.words = append(a.words, arg)
	}
}

// misused is a mistake after which the usage text helps.
func (a *arguments) misused(option, what string) {
	a.misuse = true
	a.fail(option, what, "")
}

func (a *arguments) fail(option, what, want string) {
	a.errs = append(a.errs, &Error{What: strings.TrimPrefix(option+": "+what, ": "), Want: want})
}

// positionals are the listen address and the servers of the default service. An
// option that gives the listener leaves all of them for servers.
func (a *arguments) positionals() {
	words := a.words
	if len(words) > 0 && !a.listens() {
		a.Listen = words[0]
		a.positional = append(a.positional, a.made("listen", false, Value{Text: words[0]}))
		words = words[1:]
	}
	for i, w := range words {
		spec, err := ParseServer(w)
		a.Servers = append(a.Servers, spec)
		s := a.made("server", false, Value{Text: fmt.Sprint(i), Int: i})
		s.Text, s.spec, s.bad = w, &spec, err
		a.positional = append(a.positional, s)
	}
}

// listens tells whether an option gives the listener of the default service.
func (a *arguments) listens() bool {
	for _, s := range a.Statements {
		if s.Word.Name == "listen" && s.Service == state.DefaultService && len(s.Args) > 0 {
			return true
		}
	}
	return false
}

// made is a statement that no text has.
func (a *arguments) made(word string, no bool, args ...Value) Statement {
	s := Statement{
		Pos: Pos{File: "command line"}, Service: state.DefaultService, Word: lookup(word, InArgs), No: no, Args: args, place: InArgs, quiet: true,
	}
	s.Text = s.what()
	for _, v := range args {
		s.Text += " " + v.Text
	}
	return s
}

// add is what most short options do. It is about the service that the options
// before it have named.
func (a *arguments) add(word string, args ...Value) {
	s := a.made(word, false, args...)
	s.Service = a.service
	a.Statements = append(a.Statements, s)
}

// long reads --foo-bar, --foo-bar=V and --foo-bar V, which are the words
// foo_bar and foo_bar V.
func (a *arguments) long(arg string) {
	name, value, given := strings.Cut(arg, "=")
	if a.own(name, value, given) {
		return
	}
	word, no := strings.ReplaceAll(name, "-", "_"), false
	if w, cut := strings.CutPrefix(word, "no_"); cut && lookup(w, InArgs) != nil {
		word, no = w, true
	}
	w := lookup(word, InArgs)
	if w == nil || w.Places&InArgs == 0 || (no && !w.No) {
		a.misused("", fmt.Sprintf("unknown option --%s", name))
		if hint := nearest(word, newReader(InArgs).names(no)); hint != "" {
			a.errs[len(a.errs)-1].Hint = "--" + strings.ReplaceAll(hint, "_", "-")
		}
		return
	}
	args := w.Args
	if no {
		args = w.NoArgs
	}
	if !given && len(args) > 0 && !args[0].Optional {
		if len(a.rest) == 0 {
			a.misuse = true
			a.fail("--"+name, "a value is missing", args[0].want())
			return
		}
		value, a.rest = a.rest[0], a.rest[1:]
	}
	a.strict("--"+name, word, no, value)
}

// own are the long options that are no words.
func (a *arguments) own(name, value string, given bool) bool {
	switch name {
	case "check":
		a.Check = true
	case "json":
		a.JSON = true
	case "help":
		a.Help = true
	case "version":
		a.Version = true
	case "genkey":
		a.Genkey = true
	case "release":
		a.Release = true
	case "completion":
		if !given && len(a.rest) > 0 {
			value, a.rest = a.rest[0], a.rest[1:]
		}
		if _, err := Complete(value); err != nil {
			a.fail("--completion", fmt.Sprintf("%q", value), oneOf(shells))
		}
		a.Completion = value
		return true
	default:
		return false
	}
	if given {
		a.misused("--"+name, "takes no value")
	}
	return true
}

// strict reads a word as in a file.
func (a *arguments) strict(option, word string, no bool, value string) {
	text := strings.TrimSpace(word + " " + value)
	if no {
		text = "no " + text
	}
	r := fileReader{reader: newReader(InArgs)}
	r.service, r.pos = a.service, Pos{File: option}
	if !printableLine(value) {
		r.fail(0, fmt.Sprintf("%q has control characters", value), "", "")
	} else {
		r.one(text, "")
	}
	a.service = r.service
	a.errs = append(a.errs, r.errs...)
	a.keep(r.statements...)
}

func printableLine(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// keep adds statements, and follows what later options build upon.
func (a *arguments) keep(statements ...Statement) {
	for _, s := range statements {
		if s.Word.Name == "debug" && len(s.Args) > 0 {
			a.debug = s.Args[0].Int
		}
		a.Statements = append(a.Statements, s)
	}
}

// command is -O: a line as on the control port. A mistake is told and does not
// stop the program from starting, but what this version can not do does.
func (a *arguments) command(text string) {
	s, reply := readLoosely(text, InArgs, a.service)
	switch {
	case reply != nil && reply.missing:
		a.fail("", reply.Log, "")
	case reply != nil && reply.Text != "":
		a.Statements = append(a.Statements, refusal(text, reply.Text))
	case reply != nil && reply.Log != "":
		a.Notices = append(a.Notices, reply.Log)
	case reply != nil:
	case s.Word.Name == "include":
		statements, err := ParseFile(s.Args[0].Text)
		if errs, ok := errors.AsType[Errors](err); ok {
			a.errs = append(a.errs, errs...)
		}
		a.keep(statements...)
	case s.Word.NeedsHandler():
		a.Notices = append(a.Notices, s.Word.Name+" is only for the control port")
	default:
		if s.Word.Name == "service" && !s.No {
			a.service = s.Args[0].Text
		}
		s.Pos = Pos{File: "-O"}
		a.keep(*s)
	}
}

// refusal stands for a command of -O that does nothing but answer.
func refusal(text, answer string) Statement {
	return Statement{
		Pos: Pos{File: "-O"}, Service: state.DefaultService, Text: text, place: InArgs,
		Word: &Word{Kind: KindIgnored, reply: func(*Statement, *state.View, *Local) string { return answer }},
	}
}

// With puts the statements of the command line and those of the file into the
// order in which they are carried out at start. As in the original a file comes
// after the options, and the positional words, -e and -B after the file. What
// matters only at start is the exception: there the command line wins.
func (c *CommandLine) With(file []Statement) []Statement {
	var first, last []Statement
	for _, s := range c.Statements {
		if s.Word.Start || s.Word.Name == "emergency" || s.Word.Name == "abuse" {
			last = append(last, s)
		} else {
			first = append(first, s)
		}
	}
	all := append(first, file...)
	all = append(all, last...)
	return append(all, c.positional...)
}
