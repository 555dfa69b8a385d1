//go:build linux

package differential

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// script is a session as written.
type script struct {
	path  string
	head  []string // comment lines before the first step
	steps []*step
	files []txtar.File
}

// step is one line of a session with what it has to print.
type step struct {
	line    int
	text    string
	differs string // row of docs/compatibility.md, or empty
	want    []string
	after   []string // comments and blank lines up to the next step
	got     map[side]string
}

// side is one of the two programs.
type side byte

const (
	original side = '-'
	ours     side = '+'
)

func (s side) String() string {
	if s == original {
		return "original"
	}
	return "ours"
}

// anything stands for an output of the original that is left to chance.
const anything = "-..."

const noNewline = `\ no newline`

func parse(path string) (*script, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	archive := txtar.Parse(data)
	sc := &script{path: path, files: archive.Files}
	var last *step
	var differs string
	for i, l := range strings.Split(strings.TrimRight(string(archive.Comment), "\n"), "\n") {
		switch {
		case l == "" || l[0] == '#':
			if last == nil {
				sc.head = append(sc.head, l)
			} else {
				last.after = append(last.after, l)
			}
		case strings.ContainsRune(" +-\\", rune(l[0])):
			if last == nil || differs != "" {
				return nil, fmt.Errorf("%s:%d: output before a step", path, i+1)
			}
			last.want = append(last.want, l)
		case strings.HasPrefix(l, "differs "):
			differs = strings.TrimPrefix(l, "differs ")
		default:
			last = &step{line: i + 1, text: l, differs: differs, got: map[side]string{}}
			sc.steps = append(sc.steps, last)
			differs = ""
		}
	}
	for _, s := range sc.steps {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", path, s.line, s.text, err)
		}
	}
	return sc, nil
}

func (s *step) check() error {
	marked := false
	for _, l := range s.want {
		marked = marked || l[0] == '+' || l[0] == '-'
	}
	switch {
	case marked && s.differs == "":
		return fmt.Errorf("the outputs differ, but no row of compatibility.md is named")
	case !marked && s.differs != "" && !*update:
		return fmt.Errorf("row %s is named, but the outputs do not differ", s.differs)
	}
	return nil
}

// accepts tells whether got is what the step has to print on one side.
func (s *step) accepts(on side, got string) bool {
	if on == original && slices.Contains(s.want, anything) {
		return got != s.wants(ours)
	}
	return got == s.wants(on)
}

// wants returns what the step has to print on one side.
func (s *step) wants(on side) string {
	var b strings.Builder
	for i, l := range s.want {
		if l[0] == '\\' || (l[0] != ' ' && l[0] != byte(on)) {
			continue
		}
		b.WriteString(l[1:])
		if i+1 == len(s.want) || s.want[i+1] != noNewline {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// update takes what was printed as what has to be printed.
func (s *step) update() {
	a, b := s.got[original], s.got[ours]
	if *self {
		b = s.wants(ours)
	}
	switch {
	case slices.Contains(s.want, anything):
		s.want = append([]string{anything}, lines('+', b)...)
	case s.differs == "":
		s.want = lines(' ', a)
	case a == b:
		s.want = nil
	default:
		s.want = append(lines('-', a), lines('+', b)...)
	}
}

func lines(mark byte, text string) []string {
	if text == "" {
		return nil
	}
	text, whole := strings.CutSuffix(text, "\n")
	var out []string
	for _, l := range strings.Split(text, "\n") {
		out = append(out, string(mark)+l)
	}
	if !whole {
		out = append(out, noNewline)
	}
	return out
}

func (sc *script) write() error {
	var b strings.Builder
	put := func(ls []string) {
		for _, l := range ls {
			b.WriteString(l + "\n")
		}
	}
	put(sc.head)
	for _, s := range sc.steps {
		if s.differs != "" {
			put([]string{"differs " + s.differs})
		}
		put([]string{s.text})
		put(s.want)
		put(s.after)
	}
	out := txtar.Format(&txtar.Archive{Comment: []byte(b.String()), Files: sc.files})
	return os.WriteFile(sc.path, out, 0o644)
}
