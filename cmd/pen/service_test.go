package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestServiceWithoutWordsReadsItsFile(t *testing.T) {
	if got := serviceWords(nil); !slices.Equal(got, []string{"-F", "pen.cfg"}) {
		t.Errorf("got %q", got)
	}
	if got := serviceWords([]string{"80", "a"}); !slices.Equal(got, []string{"80", "a"}) {
		t.Errorf("got %q", got)
	}
}

func TestServiceThatCouldNotStartIsNotInstalled(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"good.cfg": "listen 127.0.0.1:18080\nserver 0 address 127.0.0.1 port 80\n", "bad.cfg": "lisen 80\n", "empty.cfg": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]string{
		"-F good.cfg":                   "",
		"127.0.0.1:18080 127.0.0.1:80":  "",
		"-F bad.cfg":                    "could not start",
		"-F empty.cfg":                  "could not start",
		"-F pen.cfg":                    "could not start", // there is none
		"--check 127.0.0.1:18080 --xyz": "unknown option --xyz",
	} {
		var out strings.Builder
		err := servable(t.Context(), strings.Fields(args), &out)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q\n%s", args, err, want, &out)
		}
	}
}
