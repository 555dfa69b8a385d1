package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"pen/state"
)

// Finding is something that Check has to say. A finding of the command line has
// no line, and the option instead of a file.
type Finding struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Severity string `json:"severity"` // SeverityError or SeverityWarning
	What     string `json:"what"`
	Expected string `json:"expected,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

// The severities. With an error pen does not start.
const (
	SeverityError   = "error"
	SeverityWarning = "warning"
)

// Report is everything that Check found: what does not read, then what can not
// be done, then what is probably not meant.
type Report []Finding

// Checker looks at a whole configuration without starting anything.
type Checker struct {
	Resolve  Resolver      // nil: the system's
	Patience time.Duration // for all names together; 0: 5 seconds
	// Fits tells whether this process can do what the settings ask for; nil:
	// not checked.
	Fits func(*state.View) error
	// TLS tells why this machine can not talk TLS as a service asks; nil: not checked.
	TLS func(*state.Service) error
	// Transparent tells what this machine lacks to connect from the addresses of a
	// service's clients; nil: not checked.
	Transparent func(*state.Service) []error
	// GeoIP tells why a file is no database of countries; nil: not checked.
	GeoIP func(file string) error
	// Direct tells why this machine can not send packets on to the servers of a service,
	// and whether that may be another matter when it starts; nil: not checked.
	Direct func(*state.Service, *Local) []Doubt
	// Cluster tells what stands against being in the cluster that the settings
	// name, as far as only this machine knows; nil: not asked.
	Cluster func(*Local) []Doubt
}

// Check reads the file of the command line and reports all there is to say.
func (c Checker) Check(ctx context.Context, line *CommandLine) Report {
	var report Report
	var file []Statement
	if line.Local.File != "" {
		start, err := ParseStart(line.Local.File)
		file = start.Statements
		if errs, ok := errors.AsType[Errors](err); ok {
			report.add(errs)
		}
	}
	statements := line.With(file)
	plan, errs := Planner{Resolve: c.Resolve, Patience: c.Patience, Now: time.Now(), Local: line.Local}.plan(ctx, statements)
	report.add(errs)
	return append(report, c.examine(plan, statements, !report.OK())...)
}

// Examine looks at what statements have come to: for what can not be, and for
// what is probably not meant.
func (c Checker) Examine(plan *Plan, statements []Statement) Report {
	return c.examine(plan, statements, false)
}

func (c Checker) examine(plan *Plan, statements []Statement, broken bool) Report {
	a := analysis{Checker: c, Plan: plan, places: placesOf(statements), broken: broken}
	a.run(statements)
	return a.findings
}

func (r *Report) add(errs Errors) {
	for _, e := range errs {
		*r = append(*r, Finding{
			File: e.File, Line: e.Line, Column: e.Column, Severity: SeverityError, What: e.What, Expected: e.Want, Hint: e.Hint,
		})
	}
}

// OK tells whether there is no error; warnings may be there.
func (r Report) OK() bool {
	for _, f := range r {
		if f.Severity == SeverityError {
			return false
		}
	}
	return true
}

// String is one line: "file:line:column: error: what, expected this, did you mean that".
func (f Finding) String() string {
	e := Error{Pos: Pos{File: f.File, Line: f.Line, Column: f.Column}, What: f.Severity + ": " + f.What, Want: f.Expected, Hint: f.Hint}
	return e.Error()
}

// WriteText writes one line for each finding.
func (r Report) WriteText(w io.Writer) error {
	for _, f := range r {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	return nil
}

// WriteJSON writes the findings as an array; an empty one if there are none.
func (r Report) WriteJSON(w io.Writer) error {
	if r == nil {
		r = Report{}
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(r)
}
