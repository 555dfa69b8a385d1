package metrics

import (
	"bytes"
	"cmp"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ContentType is what Set.WriteTo writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Kind is the type of a family of series.
type Kind string

// The kinds that there are here.
const (
	Counter Kind = "counter" // only grows, until the process starts again
	Gauge   Kind = "gauge"
)

// Label is one of a series. Its name is one of the program's.
type Label struct{ Name, Value string }

// Set is what one look finds. The zero value is empty. Whatever is added, the
// text is one that Prometheus takes: families are whole and in the order of their
// names, each is of one kind, and no series stands twice: the first counts.
type Set struct {
	families map[string]*family
}

type family struct {
	kind   Kind
	help   string
	labels map[string]bool // of the samples
	text   bytes.Buffer    // the samples
}

// Add adds a sample. Name, and the names of the labels, are letters, digits and
// '_'. Help is of the first sample of that name.
func (s *Set) Add(kind Kind, name, help string, value float64, labels ...Label) {
	if s.families == nil {
		s.families = map[string]*family{}
	}
	f := s.families[name]
	if f == nil {
		f = &family{kind: kind, help: help, labels: map[string]bool{}}
		s.families[name] = f
	}
	text := labelText(labels)
	if f.labels[text] {
		return
	}
	f.labels[text] = true
	f.text.WriteString(name + text + " " + number(value) + "\n")
}

// WriteTo writes the set as text, version 0.0.4.
func (s *Set) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	for _, name := range s.names() {
		f := s.families[name]
		b.WriteString("# HELP " + name + " " + helpEscape.Replace(clean(f.help)) + "\n")
		b.WriteString("# TYPE " + name + " " + string(f.kind) + "\n")
		b.Write(f.text.Bytes())
	}
	return b.WriteTo(w)
}

func (s *Set) names() []string {
	names := make([]string, 0, len(s.families))
	for name := range s.families {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// What the format has another way to write. A quotation mark is one only in a
// value.
var (
	helpEscape  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	valueEscape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// clean makes UTF-8 of a text that comes from elsewhere, such as the name of a
// machine: one bad byte would cost the whole answer.
func clean(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// labelText is {a="1",b="2"}, in the order of the names, or nothing.
func labelText(labels []Label) string {
	if len(labels) == 0 {
		return ""
	}
	labels = slices.SortedStableFunc(slices.Values(labels), func(a, b Label) int { return cmp.Compare(a.Name, b.Name) })
	parts := make([]string, len(labels))
	for i, l := range labels {
		parts[i] = l.Name + `="` + valueEscape.Replace(clean(l.Value)) + `"`
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// number is a value as people like to read it: without an exponent, if it is not
// out of all measure.
func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.Abs(v) < 1e18:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
