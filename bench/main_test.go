//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

// TestMain lets this test binary be its own children, as the program is.
func TestMain(m *testing.M) {
	if isChild, err := child(); isChild {
		exit(err)
	}
	os.Exit(m.Run())
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-rounds", "1", "-time", "300ms", "-run", "pp"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(o.rounds, o.time, o.program, o.cases, o.markdown)
	if want := fmt.Sprint(1, 300*time.Millisecond, "bin/pen", "pp", ""); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-rounds", "0"}, {"-time", "1ms"}, {"-run", "("}, {"-proxies", "("}, {"stray"}, {"-nonsense"},
	} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q: got no error, want one", args)
		}
	}
}

func TestRotated(t *testing.T) {
	all := []contestant{{Path: "a"}, {Path: "b"}, {Path: "c"}}
	for round, want := range []string{"abc", "bca", "cab", "abc"} {
		got := ""
		for _, c := range rotated(all, round) {
			got += c.Path
		}
		if got != want {
			t.Errorf("round %d: got %s, want %s", round, got, want)
		}
	}
	if got := rotated(nil, 1); len(got) != 0 {
		t.Errorf("of none: got %v, want none", got)
	}
}

func TestMissingProxySaysWhatToInstall(t *testing.T) {
	p := proxy{Name: nginx, Package: "nginx libnginx-mod-stream", Program: "no-such-program"}
	_, err := p.find()
	want := "no-such-program is not installed (Debian: apt-get install nginx libnginx-mod-stream)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
