package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryMistakeOfAFileIsReported(t *testing.T) {
	for _, name := range []string{"mistakes", "mistakes_cluster"} {
		t.Run(name, func(t *testing.T) { mistakesAreReported(t, name) })
	}
}

func mistakesAreReported(t *testing.T, name string) {
	text, err := os.ReadFile("testdata/" + name + ".conf")
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParseReader(name+".conf", strings.NewReader(string(text)))
	golden(t, name+".txt", fmt.Sprintln(err))
	var errs Errors
	if !errors.As(err, &errs) {
		t.Fatalf("got %T, want Errors", err)
	}
	seen := map[int]bool{}
	for _, e := range errs {
		seen[e.Line] = true
	}
	for i := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
		if !seen[i+2] {
			t.Errorf("line %d has no mistake", i+2)
		}
	}
}

func TestFilesOfTheOriginalLoad(t *testing.T) {
	text, err := os.ReadFile("testdata/original.conf")
	if err != nil {
		t.Fatal(err)
	}
	p := plan(t, read(t, string(text)))
	s := p.View.Services[0]
	if n := len(s.Servers); n != 13 {
		t.Errorf("got %d servers, want 13", n)
	}
	if s.Servers[10].IP.IsValid() || s.Servers[12].Port != 8 {
		t.Errorf("got a hole %+v and after it %+v", s.Servers[10], s.Servers[12])
	}
}

func TestLinesMayEndAndBeginAsTheyLike(t *testing.T) {
	statements := read(t, "\r\n  blacklist\t45 \r\n# comment\n   # comment\ntimeout 4 # why\ntracking 5")
	var got []string
	for _, s := range statements {
		got = append(got, fmt.Sprintf("%s %v", s.Pos, s.Text))
	}
	equal(t, "statements", got, []string{"pen.conf:2:3 blacklist\t45", "pen.conf:5:1 timeout 4 # why", "pen.conf:6:1 tracking 5"})
}

func TestLinesHaveABound(t *testing.T) {
	long := "web_stats /" + strings.Repeat("x", MaxLine-len("web_stats /"))
	for _, end := range []string{"\n", "\r\n", ""} {
		read(t, long+end)
	}
	for _, end := range []string{"\n", "\r\n", ""} {
		_, err := ParseReader("f", strings.NewReader(long+"x"+end+"foo"))
		if err == nil || !strings.HasPrefix(err.Error(), "f:1:4096: line too long, expected at most 4095 bytes") {
			t.Errorf("end %q: got %v", end, err)
		}
		if end != "" && !strings.Contains(err.Error(), `f:2:1: unknown word "foo"`) {
			t.Errorf("end %q: reading stopped: %v", end, err)
		}
	}
	_, err := ParseReader("f", strings.NewReader(strings.Repeat("#", MaxFile+1)))
	if err == nil || !strings.Contains(err.Error(), "more than 16777216 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestManyMistakesAreCut(t *testing.T) {
	_, err := ParseReader("f", strings.NewReader(strings.Repeat("foo\n", 10000)))
	if errs, _ := errors.AsType[Errors](err); len(errs) != maxMistake+1 {
		t.Errorf("got %d, want %d", len(errs), maxMistake+1)
	}
}

// put writes files into a new directory and goes there.
func put(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIncludeStandsForTheOtherFile(t *testing.T) {
	put(t, map[string]string{
		"a.conf":     "service web\ninclude sub/b.conf\nblacklist 3\n",
		"sub/b.conf": "timeout 4\ninclude c.conf\nservice other\ntracking 5\n",
		"sub/c.conf": "prio\n",
	})
	statements, err := ParseFile("a.conf")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range statements {
		got = append(got, fmt.Sprintf("%s %s: %s", s.Pos, s.Service, s.Text))
	}
	equal(t, "statements", got, []string{
		"a.conf:1:1 web: service web",
		"sub/b.conf:1:1 web: timeout 4",
		"sub/c.conf:1:1 web: prio",
		"sub/b.conf:3:1 other: service other",
		"sub/b.conf:4:1 other: tracking 5",
		"a.conf:3:1 web: blacklist 3",
	})
}

func TestIncludeOfItselfIsFound(t *testing.T) {
	put(t, map[string]string{"a.conf": "include b.conf\n", "b.conf": "timeout 1\ninclude ./a.conf\n"})
	_, err := ParseFile("a.conf")
	if err == nil || err.Error() != "b.conf:2:9: ./a.conf includes itself" {
		t.Errorf("got %v", err)
	}
}

func TestIncludeHasADepth(t *testing.T) {
	files := map[string]string{}
	for i := range MaxDepth + 1 {
		files[fmt.Sprint(i)] = fmt.Sprintf("include %d\n", i+1)
	}
	put(t, files)
	_, err := ParseFile("0")
	if err == nil || err.Error() != "15:1:9: files include one another more than 16 deep" {
		t.Errorf("got %v", err)
	}
}

// Files that include each other many times over are few, and would be read for
// a long time.
func TestIncludeHasABreadth(t *testing.T) {
	files := map[string]string{}
	for i := range 5 {
		files[fmt.Sprint(i)] = strings.Repeat(fmt.Sprintf("include %d\n", i+1), 40)
	}
	for _, text := range []string{"timeout 1\n", "foo\n", "include nosuch\n"} {
		files["5"] = text
		put(t, files)
		_, err := ParseFile("0")
		errs, _ := errors.AsType[Errors](err)
		if len(errs) == 0 || len(errs) > maxMistake+1 {
			t.Errorf("%q: %d mistakes", text, len(errs))
		}
		if text == "timeout 1\n" && (len(errs) != 1 || errs[0].What != "more than 256 files included") {
			t.Errorf("got %v", err)
		}
	}
}

func TestBoundsEndTheReading(t *testing.T) {
	long := strings.Repeat("#", MaxFile/2)
	put(t, map[string]string{"a.conf": "include b.conf\ninclude b.conf\ninclude b.conf\n", "b.conf": long + "\n"})
	_, err := ParseFile("a.conf")
	if got := fmt.Sprint(err); strings.Count(got, "more than 16777216 bytes") != 1 {
		t.Errorf("got %v", got)
	}
}

func TestByteOrderMarkIsSkipped(t *testing.T) {
	put(t, map[string]string{"a.conf": "\ufefftimeout 4\ninclude b.conf\n", "b.conf": "\ufefftracking 5\n\ufeffprio\n"})
	statements, err := ParseFile("a.conf")
	if len(statements) != 2 || statements[0].Pos.Column != 1 || statements[1].Text != "tracking 5" {
		t.Errorf("got %v", statements)
	}
	if err == nil || err.Error() != "b.conf:2:1: unknown word \"\\ufeffprio\"" {
		t.Errorf("got %v", err)
	}
}

func TestMissingFilesAreTold(t *testing.T) {
	put(t, map[string]string{"a.conf": "include nosuch\n"})
	_, err := ParseFile("nosuch")
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != "nosuch: no such file or directory" {
		t.Errorf("got %v", err)
	}
	_, err = ParseFile("a.conf")
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != "a.conf:1:9: read nosuch: no such file or directory" {
		t.Errorf("got %v", err)
	}
	if _, err = ParseFile("."); err == nil || err.Error() != ".: is a directory, expected a regular file" {
		t.Errorf("got %v", err)
	}
}

func TestWordOnOneLineWithItsService(t *testing.T) {
	got := ops(plan(t, read(t, "service web timeout 4\ntimeout 5\nno service web\n")).Ops)
	equal(t, "ops", got, "service web\nservice web timeout 4\ntimeout 5\nno service web\n")
}
