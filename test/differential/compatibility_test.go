//go:build linux

package differential

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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

// TestShownByExists looks up every test that the document names.
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
	for _, m := range regexp.MustCompile("script `([a-z0-9-]+)`").FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat("../process/testdata/script/" + m[1] + ".txtar"); err != nil {
			t.Errorf("script %s: %v", m[1], err)
		}
	}
	sources := ""
	for _, pattern := range []string{"*_test.go", "../process/*_test.go", "../../proxy/*_test.go", "../../internal/*/*_test.go", "../../vip/*_test.go", "../../cluster/*_test.go", "../../state/*_test.go", "../../direct/*_test.go", "../../cmd/*/*_test.go", "../*/*_test.go"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sources += string(b)
		}
	}
	for _, m := range regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(sources, "func "+m[1]+"(") {
			t.Errorf("test %s is named in the document, but is not there", m[1])
		}
	}
}
