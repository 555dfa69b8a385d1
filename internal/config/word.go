package config

import (
	"fmt"
	"slices"
	"strings"

	"pen/state"
)

// Kind tells who carries a word out.
type Kind uint8

// The kinds.
const (
	KindRead        Kind = iota // answered or done by a handler of the daemon, or by Statement.Reply alone
	KindLocal                   // a setting of this process: Statement.Set
	KindReplicated              // a change of the replicated state: Statement.Ops
	KindUnavailable             // a part that this version does not have; only turning it off is accepted
	KindIgnored                 // accepted for the sake of old files, without effect
)

// String names the kind as the manual does.
func (k Kind) String() string {
	return [...]string{"read", "local", "replicated", "unavailable", "ignored"}[k]
}

// Place is a set of texts in which a word may stand.
type Place uint8

// The places.
const (
	InFile    Place = 1 << iota // lines of a configuration file
	InControl                   // the control port
	InArgs                      // long options and -O
	Anywhere  = InFile | InControl | InArgs
)

// Arg describes one argument of a word.
type Arg struct {
	Name     string // as usage shows it: "SECONDS"
	Type     Type
	Min, Max int      // of TypeInt
	Among    []string // of TypeEnum
	Optional bool
}

// Type is what an argument may be.
type Type uint8

// The types.
const (
	TypeText    Type = iota // anything without blanks
	TypeInt                 // a decimal number from Min to Max
	TypeList                // an access list: a number from Min to 9, or a name
	TypeEnum                // one of Among
	TypePath                // a file name
	TypeListen              // [HOST:]PORT or the path of a Unix socket
	TypePort                // [HOST:]PORT
	TypeServer              // HOST[:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]]
	TypeHost                // a name or a literal address
	TypeService             // the name of a service
	TypeWord                // a word of this language
	TypePairs               // KEY VALUE ... of `server`
	TypeEntry               // permit|deny WHO of `acl`
	TypeCluster             // the name of a cluster
	TypePeers               // ADDR[:PORT][:witness][:prio=N], one or more
	TypePeer                // ADDR[:PORT]
	TypeVIP                 // ADDR/LEN [dev LINK]
	TypePreempt             // never or seconds
)

// Word is one row of the table. It is shared: do not change it.
type Word struct {
	Name       string
	Args       []Arg
	Kind       Kind
	No         bool  // has a form `no NAME`
	NoArgs     []Arg // arguments of that form
	Bare       bool  // means something without its arguments also where it is read strictly
	PerService bool  // is about one service
	Places     Place
	Start      bool   // has an effect only when the process starts
	New        bool   // not a word of the original: read strictly everywhere
	Several    bool   // each statement adds one more, instead of taking the place of the last
	Help       string // one line, lower case, no period

	ops    func(s *Statement, e *environment) ([]state.Op, error)
	set    func(s *Statement, l *Local)
	reply  func(s *Statement, v *state.View, l *Local) string
	check  func(s *Statement) *Error // strict reading, after the arguments are well-formed
	refuse func(s *Statement) *Reply // lenient reading; nil: carried out
	reason string                    // unavailable: what is missing
	note   func(*Statement) string   // what is so instead of what the statement asks for; empty: nothing
	more   []string                  // what help says beside Help of this word alone
}

// Words are all words, by name.
func Words() []*Word { return slices.Clone(table) }

// Lookup returns the word of that name, or nil. Where a name means one thing on
// the control port and another one elsewhere, it is that of the control port.
func Lookup(name string) *Word { return lookup(name, InControl) }

// lookup returns the word of that name that may stand at a place. If there is
// none, it is one that may stand elsewhere, or nil.
func lookup(name string, place Place) *Word {
	rows := byName[name]
	if i := slices.IndexFunc(rows, func(w *Word) bool { return w.Places&place != 0 }); i >= 0 {
		return rows[i]
	}
	if len(rows) == 0 {
		return nil
	}
	return rows[0]
}

// Unhandled lists the words that need a handler of the daemon and for which has
// says that there is none.
func Unhandled(has func(name string) bool) []string {
	var missing []string
	for _, w := range table {
		if w.NeedsHandler() && !has(w.Name) {
			missing = append(missing, w.Name)
		}
	}
	return missing
}

// NeedsHandler tells whether somebody else has to answer the word: neither Ops,
// Set nor Reply does it.
func (w *Word) NeedsHandler() bool { return w.Kind == KindRead && w.reply == nil }

// Usage is the word with its arguments: "hash [compat]".
func (w *Word) Usage() string { return w.Name + usageOf(w.Args) }

// NoUsage is the usage of the word's `no` form, or nothing.
func (w *Word) NoUsage() string {
	if !w.No {
		return ""
	}
	return "no " + w.Name + usageOf(w.NoArgs)
}

func usageOf(args []Arg) string {
	text := ""
	for _, a := range args {
		if a.Optional {
			text += " [" + a.usage() + "]"
		} else {
			text += " " + a.usage()
		}
	}
	return text
}

func (a Arg) usage() string {
	switch a.Type {
	case TypeEnum:
		return strings.Join(a.Among, "|")
	case TypePairs:
		return "KEY VALUE ..."
	case TypeEntry:
		return "permit|deny ADDRESS[/LENGTH]|ADDRESS MASK|country XX"
	case TypePeers:
		return peerForm + " ..."
	case TypeVIP:
		return vipForm
	}
	return a.Name
}

// want says what the argument may be, for messages.
func (a Arg) want() string {
	switch a.Type {
	case TypeInt:
		switch {
		case a.Min == minInt && a.Max == maxInt:
			return "a number"
		case a.Max == maxInt:
			return fmt.Sprintf("a number, %d or more", a.Min)
		}
		return fmt.Sprintf("a number from %d to %d", a.Min, a.Max)
	case TypeList:
		return fmt.Sprintf("a number from %d to %d, or a name of letters, digits, '-', '_' and '.' that begins with a letter", a.Min, state.ACLs-1)
	case TypeEnum:
		return oneOf(a.Among)
	case TypePath:
		return "a file name"
	case TypeListen:
		return "[HOST:]PORT or a path"
	case TypePort:
		return "[HOST:]PORT"
	case TypeServer:
		return "HOST[:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]]"
	case TypeHost:
		return "a name or an address"
	case TypeService:
		return "a name of letters, digits, '-', '_' and '.'"
	case TypeWord:
		return "a word of the language"
	case TypePairs:
		return "KEY VALUE ... with " + oneOf(serverKeys)
	case TypeEntry:
		return "permit or deny"
	case TypeCluster:
		return fmt.Sprintf("1 to %d letters, digits, '-', '_' and '.'", maxClusterName)
	case TypePeers:
		return peerForm
	case TypeVIP:
		return vipForm
	case TypePreempt:
		return "never or seconds, 1 or more"
	}
	return a.Name
}
