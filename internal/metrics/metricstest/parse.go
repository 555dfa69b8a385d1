// Package metricstest reads what Prometheus reads, for tests, and takes nothing
// that is not exactly as it should be: text format 0.0.4, as package metrics
// writes it.
package metricstest

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Family is all series of one name.
type Family struct {
	Help, Kind string
	Samples    []Sample
}

// Sample is one series.
type Sample struct {
	Labels map[string]string
	Value  float64
}

var (
	nameForm  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	labelForm = regexp.MustCompile(`^([a-z][a-z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"`)
)

// Parse reads an answer. Each family begins with its HELP and TYPE, is whole, and
// comes after those with a smaller name; no series stands twice.
func Parse(text string) (map[string]*Family, error) {
	p := parser{families: map[string]*Family{}, seen: map[string]bool{}}
	if text != "" && !strings.HasSuffix(text, "\n") {
		return nil, errors.New("the last line has no end")
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if err := p.line(line); err != nil && text != "" {
			return nil, fmt.Errorf("line %d, %q: %w", i+1, line, err)
		}
	}
	return p.families, p.whole()
}

type parser struct {
	families map[string]*Family
	name     string  // of the family that is read
	now      *Family // the same
	seen     map[string]bool
}

// whole tells what the family that was read until now lacks.
func (p *parser) whole() error {
	if p.now != nil && (p.now.Kind == "" || len(p.now.Samples) == 0) {
		return fmt.Errorf("%s has no type, or no sample", p.name)
	}
	return nil
}

func (p *parser) line(line string) error {
	if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
		return p.begin(rest)
	}
	if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
		return p.kind(rest)
	}
	return p.sample(line)
}

func (p *parser) begin(rest string) error {
	if err := p.whole(); err != nil {
		return err
	}
	name, help, ok := strings.Cut(rest, " ")
	switch {
	case !ok || !nameForm.MatchString(name):
		return errors.New("no name and help")
	case name <= p.name:
		return fmt.Errorf("comes after %s", p.name)
	}
	help, err := plain(help, false)
	p.name, p.now = name, &Family{Help: help}
	p.families[name] = p.now
	return err
}

func (p *parser) kind(rest string) error {
	name, kind, _ := strings.Cut(rest, " ")
	switch {
	case p.now == nil || name != p.name || p.now.Kind != "":
		return errors.New("a type that does not follow its help")
	case kind != "counter" && kind != "gauge":
		return errors.New("an unknown type")
	case (kind == "counter") != strings.HasSuffix(name, "_total"):
		return errors.New("a counter ends in _total, and nothing else does")
	}
	p.now.Kind = kind
	return nil
}

func (p *parser) sample(line string) error {
	if p.now == nil || p.now.Kind == "" || !strings.HasPrefix(line, p.name) {
		return errors.New("a sample that does not follow the type of its family")
	}
	s := Sample{Labels: map[string]string{}}
	rest := strings.TrimPrefix(line, p.name)
	if strings.HasPrefix(rest, "{") {
		var err error
		if rest, err = s.labels(rest); err != nil {
			return err
		}
	}
	series := strings.TrimSuffix(line, rest)
	if p.seen[series] {
		return errors.New("stands twice")
	}
	p.seen[series] = true
	number, ok := strings.CutPrefix(rest, " ")
	if !ok {
		return errors.New("no value")
	}
	var err error
	s.Value, err = strconv.ParseFloat(number, 64)
	p.now.Samples = append(p.now.Samples, s)
	return err
}

// labels reads {a="1",b="2"} in the order of the names, and returns what follows.
func (s *Sample) labels(rest string) (string, error) {
	last := ""
	for open := "{"; !strings.HasPrefix(rest, "}"); open = "," {
		rest = strings.TrimPrefix(rest, open)
		m := labelForm.FindStringSubmatch(rest)
		if m == nil || m[1] <= last {
			return "", errors.New("bad labels, or not in order")
		}
		value, err := plain(m[2], true)
		if err != nil {
			return "", err
		}
		last, s.Labels[m[1]], rest = m[1], value, rest[len(m[0]):]
		if !strings.HasPrefix(rest, ",") && !strings.HasPrefix(rest, "}") {
			return "", errors.New("labels without an end")
		}
	}
	return rest[1:], nil
}

// plain undoes escapes.
func plain(text string, quoted bool) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return "", errors.New("half an escape")
		}
		switch {
		case text[i] == '\\':
			b.WriteByte('\\')
		case text[i] == 'n':
			b.WriteByte('\n')
		case text[i] == '"' && quoted:
			b.WriteByte('"')
		default:
			return "", errors.New("an unknown escape")
		}
	}
	return b.String(), nil
}
