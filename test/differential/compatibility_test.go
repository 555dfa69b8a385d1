//go:build linux

package differential

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pen/internal/config"
)

const compatibility = "../../docs/compatibility.md"

var row = regexp.MustCompile(`(?m)^\| (\S+) \|.*\| ([^|]*) \|$`)

// rows are the differences that docs/compatibility.md lists, with the tests
// that it names for each.
func rows(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(compatibility)
	if err != nil {
		t.Fatal(err)
	}
	_, text2, ok := strings.Cut(string(text), "## Differences")
	if !ok {
		t.Fatal("docs/compatibility.md has no differences")
	}
	text2, _, _ = strings.Cut(text2, "\n## ")
	out := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(text2, -1) {
		if m[1] != "id" && m[1] != "---" {
			out[m[1]] = m[2]
		}
	}
	return out
}

// TestDifferencesAreListed holds the document against the sessions: every
// difference has its row, and every row that names a session is met in it.
func TestDifferencesAreListed(t *testing.T) {
	listed := rows(t)
	met := map[string]map[string]bool{}
	paths, _ := filepath.Glob("testdata/*.txt")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		for l := range strings.Lines(string(text)) {
			if id, ok := strings.CutPrefix(strings.TrimSpace(l), "differs "); ok {
				if _, ok := listed[id]; !ok {
					t.Errorf("%s: difference %s has no row in %s", path, id, compatibility)
				}
				if met[id] == nil {
					met[id] = map[string]bool{}
				}
				met[id][name] = true
			}
		}
	}
	for id, shown := range listed {
		for _, name := range sessionName.FindAllStringSubmatch(shown, -1) {
			if !met[id][name[1]] {
				t.Errorf("%s: row %s names the session %s, which does not meet it", compatibility, id, name[1])
			}
		}
	}
}

var sessionName = regexp.MustCompile("session `([a-z0-9-]+)`")

// TestShownByExists looks up every test that the document names, and every row.
func TestShownByExists(t *testing.T) {
	text, err := os.ReadFile(compatibility)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range sessionName.FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat("testdata/" + m[1] + ".txt"); err != nil {
			t.Errorf("session %s: %v", m[1], err)
		}
	}
	for _, m := range scriptName.FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat("../process/testdata/script/" + m[1] + ".txtar"); err != nil {
			t.Errorf("script %s: %v", m[1], err)
		}
	}
	there := tests(t)
	for _, m := range testName.FindAllStringSubmatch(string(text), -1) {
		if !there[m[1]] {
			t.Errorf("test %s is named in the document, but is not there", m[1])
		}
	}
	listed := rows(t)
	for _, m := range rowName.FindAllStringSubmatch(string(text), -1) {
		if _, ok := listed[m[1]]; !ok {
			t.Errorf("row %s is named in the document, but is not there", m[1])
		}
	}
}

var (
	scriptName = regexp.MustCompile("script `([a-z0-9-]+)`")
	testName   = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	rowName    = regexp.MustCompile(`[|,] row ([A-Za-z0-9-]+)`)
	function   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)
)

// tests are the names of all tests of the module.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(source, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return there
}

// features are the parts of the original that the document has to have, by area:
// how many there are.
var features = map[string]int{
	"CL": 11, "CT": 8, "SV": 4, "CF": 6, "SG": 3, "PR": 2, "SL": 23, "ST": 4, "UD": 7, "HT": 5, "TL": 7,
	"AC": 4, "DS": 4, "TR": 2, "OT": 7, "LG": 5, "WN": 1,
}

// letters are the options of the original.
const letters = "ABCDEFGHKLNOPQRSTUWXZabcdefhijlmnopqrstuwx"

// TestEveryFeatureHasItsRow goes through features, options and words. A row names
// what shows it.
func TestEveryFeatureHasItsRow(t *testing.T) {
	text, err := os.ReadFile(compatibility)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for area, n := range features {
		for i := range n {
			want["## Feature by feature"] = append(want["## Feature by feature"], area+strconv.Itoa(i+1))
		}
	}
	for _, letter := range letters {
		want["## Option by option"] = append(want["## Option by option"], "`-"+string(letter)+"`")
	}
	for _, w := range config.Words() {
		want["## Command by command"] = append(want["## Command by command"], "`"+w.Name+"`")
	}
	for heading, ids := range want {
		_, part, ok := strings.Cut(string(text), heading)
		if !ok {
			t.Fatalf("%s has no %q", compatibility, heading)
		}
		part, _, _ = strings.Cut(part, "\n## ")
		shown := map[string]string{}
		for _, m := range row.FindAllStringSubmatch(part, -1) {
			if _, twice := shown[m[1]]; twice && m[1] != "---" && m[1] != "word" {
				t.Errorf("%s: %s has two rows", heading, m[1])
			}
			shown[m[1]] = m[2]
		}
		for _, id := range ids {
			switch by, ok := shown[id]; {
			case !ok:
				t.Errorf("%s: there is no row of %s", heading, id)
			case !shows.MatchString(by):
				t.Errorf("%s: the row of %s names nothing that shows it", heading, id)
			}
		}
	}
}

// shows is what a row may rest on.
var shows = regexp.MustCompile("(session|script) `|`(Test|Fuzz)[A-Z]|all sessions")
