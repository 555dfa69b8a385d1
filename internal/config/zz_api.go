package config

import (
	"context"
	"errors"
	"io"
	"time"

	"pen/state"
)

var (
	table      []*Word
	byName     map[string]*Word
	serverKeys []string
)

const minInt, maxInt = -1 << 31, 1<<31 - 1

func join(a []string, sep string) string { return "" }
func oneOf(a []string) string            { return "" }

// ServerSpec is a server as the command line, -e and -B give it.
type ServerSpec struct {
	Text string
	Host string // without brackets; or a path
	// Port is 0 for none that is usable, and Default for that of the listener.
	Port                     int
	Soft, Hard, Weight, Prio int
}

// DefaultPort as ServerSpec.Port stands for the port of the listener.
const DefaultPort = -1

// ParseFile reads a configuration file strictly, and the files it includes.
// The error is of type Errors and has every mistake.
func ParseFile(path string) ([]Statement, error) { return nil, errors.ErrUnsupported }

// ParseReader is ParseFile for a text that is open already.
func ParseReader(name string, r io.Reader) ([]Statement, error) { return nil, errors.ErrUnsupported }

// ParseControl reads one line of the control port as the original does. With a
// Reply, that is all there is to do.
func ParseControl(line string) (*Statement, *Reply) { return nil, nil }

// CommandLine is what the arguments of the program ask for.
type CommandLine struct {
	Statements []Statement  // of the options, in their order
	Listen     string       // the first positional word
	Servers    []ServerSpec // the others
	Local      Local        // what options without a word of their own set: File
	Notices    []string     // lines for stderr
	Printed    []string     // lines for stdout: what commands of -O answer without doing anything
	Check      bool
	JSON       bool
	Help       bool
	Version    bool
	Completion string // shell
}

// ParseArgs reads the arguments, without the program's name.
func ParseArgs(args []string) (*CommandLine, error) { return nil, errors.ErrUnsupported }

// With puts the statements of the command line and of the file into the order
// in which they are carried out at start.
func (c *CommandLine) With(file []Statement) []Statement { return nil }

// Planner turns statements into one command. Nothing is changed by it.
type Planner struct {
	Resolve Resolver    // nil: the system's
	View    *state.View // the state as it is
	Local   Local       // the settings as they are
	Now     time.Time
	Rebuild bool // empty each access list that the statements add to first
}

// Plan is what statements come to, all of them or none.
type Plan struct {
	Ops   []state.Op
	View  *state.View // the state as it will be
	Local Local
}

// Plan resolves all names at once and checks the whole. The error is of type
// Errors and has every statement that can not be carried out.
func (p Planner) Plan(ctx context.Context, statements []Statement) (*Plan, error) {
	return nil, errors.ErrUnsupported
}

// Write writes v and l as statements that bring them about again.
func Write(w io.Writer, v *state.View, l Local, now time.Time) error { return errors.ErrUnsupported }

// Save writes to a file, atomically.
func Save(path string, v *state.View, l Local, now time.Time) error { return errors.ErrUnsupported }

// Help is the text of `help`, or of `help WORD`.
func Help(word string) string { return "" }

// Usage is the usage text of the program.
func Usage() string { return "" }

// Complete is a completion script for bash, zsh or fish.
func Complete(shell string) (string, error) { return "", errors.ErrUnsupported }

// ManualRoff is the table of words as a section of a manual page.
func ManualRoff() string { return "" }

// ManualMarkdown is the same for the guide.
func ManualMarkdown() string { return "" }

// Finding is something that Check has to say.
type Finding struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Severity string `json:"severity"` // "error" or "warning"
	What     string `json:"what"`
	Expected string `json:"expected,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

// Report is everything that Check found, errors first met first.
type Report []Finding

// Checker looks at a whole configuration without starting anything.
type Checker struct {
	Resolve Resolver // nil: the system's
	Files   int      // open files that the process may have; 0: not checked
	Reserve int      // of them not for connections
}

// Check reads the file of the command line and reports all there is to say.
func (c Checker) Check(ctx context.Context, line *CommandLine) Report { return nil }

// OK tells whether there is no error; warnings may be there.
func (r Report) OK() bool { return false }

// WriteText writes one line for each finding.
func (r Report) WriteText(w io.Writer) error { return errors.ErrUnsupported }

// WriteJSON writes an array of findings.
func (r Report) WriteJSON(w io.Writer) error { return errors.ErrUnsupported }
