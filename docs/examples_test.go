package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pen/internal/config"
)

// blocks are the indented examples of a text.
func blocks(text string) []string {
	var all []string
	var block []string
	for line := range strings.Lines(text + "\n.") {
		switch {
		case strings.HasPrefix(line, "    "):
			block = append(block, line[4:])
		case strings.TrimSpace(line) == "" && block != nil:
			block = append(block, line)
		case block != nil:
			all = append(all, strings.Join(block, ""))
			block = nil
		}
	}
	return all
}

// TestExamplesOfFilesAreRead reads every example that begins with a line of a
// configuration file.
func TestExamplesOfFilesAreRead(t *testing.T) {
	beginning := regexp.MustCompile(`^(control|listen|acl|service|cluster) \S+`)
	found := 0
	for _, block := range blocks(read(t, "guide.md")) {
		if !beginning.MatchString(block) {
			continue
		}
		found++
		if _, err := config.ParseReader("guide.md", strings.NewReader(block)); err != nil {
			t.Errorf("%v\nin this example:\n%s", err, block)
		}
	}
	if found < 4 {
		t.Errorf("got %d examples of files, want 4 at least", found)
	}
}

// TestExamplesOfOptionsAreRead reads every example of a command line.
func TestExamplesOfOptionsAreRead(t *testing.T) {
	found := 0
	for _, file := range []string{"guide.md", "../README.md"} {
		for _, block := range blocks(read(t, file)) {
			for line := range strings.Lines(block) {
				words := strings.Fields(strings.TrimPrefix(line, "$ "))
				if len(words) == 0 || words[0] != "pen" && words[0] != "bin/pen" {
					continue
				}
				args, _, _ := strings.Cut(strings.Join(words[1:], " "), "; ")
				args, _, _ = strings.Cut(args, " && ")
				args, _, _ = strings.Cut(args, " > ")
				found++
				if _, err := config.ParseArgs(strings.Fields(args)); err != nil {
					t.Errorf("%s: %s: %v", file, strings.TrimSpace(line), err)
				}
			}
		}
	}
	if found < 5 {
		t.Errorf("got %d command lines, want 5 at least", found)
	}
}

// TestLinksLeadSomewhere follows the links to files and chapters.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, file := range []string{"guide.md", "../README.md", "../CHANGELOG.md"} {
		text := read(t, file)
		chapters := map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
			chapters[anchor(m[1])] = true
		}
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1) {
			switch path, chapter, _ := strings.Cut(m[1], "#"); {
			case strings.Contains(m[1], "://"):
			case path == "" && !chapters[chapter]:
				t.Errorf("%s: there is no chapter #%s", file, chapter)
			case path != "":
				if _, err := os.Stat(filepath.Join(filepath.Dir(file), path)); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
		}
	}
}

// anchor is what a heading is called in a link.
func anchor(heading string) string {
	heading = regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(heading, " ", "-")
}
