//go:build linux

package differential

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pen/test/rig"
)

var (
	update = flag.Bool("update", false, "write what the steps print back to testdata")
	self   = flag.Bool("self", false, "run the original on both sides, to test the sessions themselves")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The sessions wait for processes most of the time.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		flag.Set("test.parallel", "4")
	}
	os.Exit(rig.Main(m))
}

// TestSessions runs each session of testdata on both sides.
func TestSessions(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			sc, err := parse(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Run("both", func(t *testing.T) {
				for _, on := range []side{original, ours} {
					t.Run(on.String(), func(t *testing.T) {
						t.Parallel()
						var wrong []string
						for range attempts(on) {
							if wrong = newSession(t, sc, on).run(); len(wrong) == 0 {
								break
							}
						}
						for _, complaint := range wrong {
							t.Error(complaint)
						}
					})
				}
			})
			if *update {
				for _, s := range sc.steps {
					s.update()
				}
				if err := sc.write(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// attempts is how often a session may be tried. Which of two things that happen at
// once the original sees first is up to the machine, and now and then it loses an
// answer; what it does at all is what is compared. Ours has one.
func attempts(on side) int {
	if on == original && !*update {
		return 6
	}
	return 1
}

// run returns what was not as the session says.
func (x *session) run() (wrong []string) {
	for _, s := range x.script.steps {
		got := x.settled(s)
		if *update {
			x.keep(s, got)
			continue
		}
		if !s.accepts(x.expect, got) {
			wrong = append(wrong, fmt.Sprintf("%s:%d: %s\n%s printed:\n%s\nwant:\n%s", x.script.path, s.line, s.text, x.on,
				indent(got), indent(s.wants(x.expect))))
		}
	}
	return wrong
}

// settled runs a step. One that only looks is repeated until it sees what it
// should: closing a connection and counting it takes the daemon a moment.
func (x *session) settled(s *step) string {
	text, eventually := strings.CutPrefix(s.text, "eventually ")
	patience := time.Duration(0)
	switch {
	case eventually:
		patience = 8 * time.Second
	case looksOnly(text):
		patience = 8 * time.Second
	}
	if *update && !eventually && patience > 0 {
		time.Sleep(150 * time.Millisecond)
		return x.step(text)
	}
	var got string
	rig.Eventually(patience, func() bool {
		got = x.step(text)
		return s.accepts(x.expect, got)
	})
	return got
}

var looking = regexp.MustCompile(`^(page|conns|show|notices|stdout)\b|` +
	`^> (servers|mode|recent|connection \d+|socket \d+|blacklist|status)$`)

func looksOnly(text string) bool { return looking.MatchString(text) }

func indent(s string) string {
	return "\t" + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n\t")
}
