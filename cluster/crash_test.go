package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

var errCrash = errors.New("crashed")

// model knows what would be left of a directory after a power cut: the content
// that files had when they were last synced, under the names that the directory
// had then.
type model struct {
	t   *testing.T
	dir string
	n   int // steps so far

	// before and after say what goes wrong at a step; nil: nothing.
	before, after func(n int, op, path string) error

	names, safeNames map[string]int
	safe             map[int][]byte
	files            int
}

func newModel(t *testing.T) *model {
	return &model{
		t: t, dir: t.TempDir(),
		names: map[string]int{}, safeNames: map[string]int{}, safe: map[int][]byte{},
	}
}

func (m *model) step(op, path string, do func() error) error {
	m.n++
	if m.before != nil {
		if err := m.before(m.n, op, path); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	m.done(op, path)
	if m.after != nil {
		return m.after(m.n, op, path)
	}
	return nil
}

func (m *model) done(op, path string) {
	name := filepath.Base(path)
	switch op {
	case "create":
		m.files++
		m.names[name] = m.files
		m.safe[m.files] = nil
	case "sync":
		b, err := os.ReadFile(path)
		if err != nil {
			m.t.Fatal(err)
		}
		m.safe[m.names[name]] = b
	case "rename":
		m.names[name] = m.names[name+temporary]
		delete(m.names, name+temporary)
	case "remove":
		delete(m.names, name)
	case "syncdir":
		m.safeNames = maps.Clone(m.names)
	}
}

// left writes what is left after a crash of some kind to a new directory.
func (m *model) left(kind string) string {
	dir := m.t.TempDir()
	names := m.names
	if kind == "power cut" {
		names = m.safeNames
	}
	for name, id := range names {
		b, err := os.ReadFile(filepath.Join(m.dir, name))
		safe := m.safe[id]
		switch {
		case kind == "killed" && err != nil:
			m.t.Fatal(err)
		case kind == "killed":
		case kind == "power cut, names and lengths kept" && len(b) > len(safe):
			b = append(bytes.Clone(safe), make([]byte, len(b)-len(safe))...)
		default:
			b = safe
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	return dir
}

// work does some of everything until the first error. It returns how many
// commands were applied, and how many of them had to be on the disk.
func work(t *testing.T, s *Solo) (applied, hard int) {
	for n := 1; n <= 18; n++ {
		if _, err := s.Propose(t.Context(), command(n)); err != nil {
			return n - 1, hard
		}
		if !soft(command(n)) {
			hard = n
		}
		if n%6 == 0 {
			if s.rotate() != nil {
				return n, hard
			}
			hard = n
		}
	}
	if s.Close() == nil {
		hard = 18
	}
	return 18, hard
}

func TestCrashAtEveryStep(t *testing.T) {
	total := newModel(t)
	s, err := openSolo(&disk{step: total.step}, total.dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	work(t, s)
	for at := range total.n + 1 {
		for _, kind := range []string{"killed", "power cut", "power cut, names and lengths kept"} {
			t.Run(fmt.Sprintf("step %d, %s", at, kind), func(t *testing.T) {
				m := newModel(t)
				m.before = func(n int, op, path string) error {
					if n > at {
						return errCrash
					}
					return nil
				}
				applied, hard := 0, 0
				if s, err := openSolo(&disk{step: m.step}, m.dir, quiet()); err == nil {
					applied, hard = work(t, s)
				}
				if kind == "killed" {
					hard = applied
				}
				s := open(t, m.left(kind))
				got := int(s.View().Index)
				if got < hard || got > applied+1 {
					t.Fatalf("got the state after command %d, want %d..%d", got, hard, applied+1)
				}
				wantState(t, s, got)
				propose(t, s, got+1, got+4)
				closeSolo(t, s)
				wantState(t, open(t, s.store.dir), got+4)
			})
		}
	}
}

// TestErrorAtEveryStep has one step go wrong, once with its effect and once
// without; then all is well again.
func TestErrorAtEveryStep(t *testing.T) {
	errDisk := errors.New("input/output error")
	const steps = 80
	for at := 1; at <= steps; at++ {
		for _, effect := range []bool{false, true} {
			t.Run(fmt.Sprintf("step %d, effect %v", at, effect), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newModel(t)
					fail := func(n int, op, path string) error {
						if n == at {
							return errDisk
						}
						return nil
					}
					if m.before = fail; effect {
						m.before, m.after = nil, fail
					}
					s, err := openSolo(&disk{step: m.step}, m.dir, quiet())
					if err != nil {
						s = open(t, m.dir)
					}
					n := 0
					for i := range 24 {
						before := s.View()
						if _, err := s.Propose(t.Context(), command(n+1)); err == nil {
							n++
						} else if s.View() != before {
							t.Fatalf("the state changed in spite of %v", err)
						}
						time.Sleep(2 * time.Second)
						if i%8 == 0 {
							s.rotate()
						}
					}
					wantState(t, s, n)
					if n < 23 {
						t.Errorf("one error, but only %d of 24 commands were applied", n)
					}
					err = s.Close()
					s = open(t, m.dir)
					if err == nil {
						wantState(t, s, n)
						return
					}
					if got := int(s.View().Index); got > n+1 {
						t.Fatalf("got the state after command %d, want %d at most", got, n+1)
					}
					wantState(t, s, int(s.View().Index))
				})
			})
		}
	}
}
