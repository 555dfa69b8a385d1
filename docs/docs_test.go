// Package docs_test holds the texts that operators read against the program.
package docs_test

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"pen/internal/config"
)

var update = flag.Bool("update", false, "write the generated parts of the guide and of the manual page")

// generated is a part of a text that comes from the table of words.
type generated struct {
	file, begin, end string
	render           func() string
}

var parts = []generated{
	{
		"guide.md", "<!-- words: begin (written by: go test ./docs -update) -->\n", "<!-- words: end -->\n",
		config.ManualMarkdown,
	},
	{
		"man/pen.1", ".\\\" words: begin (written by: go test ./docs -update)\n", ".\\\" words: end\n",
		config.ManualRoff,
	},
}

func TestGeneratedPartsAreUpToDate(t *testing.T) {
	for _, g := range parts {
		t.Run(g.file, func(t *testing.T) {
			text := read(t, g.file)
			before, rest, ok := strings.Cut(text, g.begin)
			got, after, closed := strings.Cut(rest, g.end)
			if !ok || !closed {
				t.Fatalf("%s does not have the lines %q and %q", g.file, g.begin, g.end)
			}
			want := strings.TrimRight(g.render(), "\n") + "\n"
			if got == want {
				return
			}
			if !*update {
				t.Fatalf("the list of words in %s is not that of the program; run: go test ./docs -update\n%s", g.file, firstDifference(got, want))
			}
			if err := os.WriteFile(g.file, []byte(before+g.begin+want+g.end+after), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got  " + g[i] + "\nwant " + w[i]
		}
	}
	return "one is the beginning of the other"
}

func TestManualPageHasEveryWord(t *testing.T) {
	words := section(t, "man/pen.1", "WORDS")
	for _, w := range config.Words() {
		if !names(words, w.Name) {
			t.Errorf("man/pen.1: the section WORDS does not have %q", w.Name)
		}
	}
}

func TestGuideHasEveryWord(t *testing.T) {
	guide := read(t, "guide.md")
	for _, w := range config.Words() {
		if !names(guide, w.Name) {
			t.Errorf("guide.md does not have %q", w.Name)
		}
	}
}

func TestManualPageHasEveryOption(t *testing.T) {
	options := section(t, "man/pen.1", "OPTIONS")
	for c := byte('!'); c <= '~'; c++ {
		if c == '-' || !known(c) {
			continue
		}
		if !names(options, "-"+string(c)) {
			t.Errorf("man/pen.1: the section OPTIONS does not have -%c", c)
		}
	}
	for _, long := range []string{"--check", "--json", "--help", "--version", "--completion", "--genkey", "--release"} {
		if !names(options, long) {
			t.Errorf("man/pen.1: the section OPTIONS does not have %s", long)
		}
	}
}

// known tells whether the program has an option of that letter. It is given an
// argument that is good for none, so nothing but its existence counts.
func known(c byte) bool {
	_, err := config.ParseArgs([]string{"-" + string(c), "1"})
	return err == nil || !strings.Contains(err.Error(), "invalid option -- ")
}

func TestManualPageHasNoOptionThatIsNotThere(t *testing.T) {
	options := section(t, "man/pen.1", "OPTIONS")
	for _, m := range regexp.MustCompile(`(?m)^\.TP\n.*?[ "]-([A-Za-z])\b`).FindAllStringSubmatch(options, -1) {
		if !known(m[1][0]) {
			t.Errorf("man/pen.1 has -%s, the program does not", m[1])
		}
	}
}

// names tells whether the text has the word, and not only as a part of a longer
// one.
func names(text, word string) bool {
	return regexp.MustCompile(`(^|[^\w-])` + regexp.QuoteMeta(word) + `($|[^\w-])`).MatchString(text)
}

// section is one section of a manual page, with its escapes for letters taken
// out.
func section(t *testing.T, file, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, file), "\n.SH "+name+"\n")
	if !ok {
		t.Fatalf("%s has no section %s", file, name)
	}
	text, _, _ := strings.Cut(rest, "\n.SH ")
	text = regexp.MustCompile(`\\f.`).ReplaceAllString(text, "")
	return strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\&`, "", `\e`, `\`).Replace(text)
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
