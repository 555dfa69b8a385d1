package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestServiceKeepsItsWords(t *testing.T) {
	for args, want := range map[string]string{
		"-i pen":                                 "",
		"-ipen":                                  "",
		"-i pen 80 a:80 b:80":                    "80 a:80 b:80",
		"80 -i pen a:80":                         "80 a:80",
		"-dfi pen 80 a":                          "-df 80 a",
		"-dfipen 80 a":                           "-df 80 a",
		"-F pen.cfg -d -i pen -t5":               "-F pen.cfg -d -t5",
		"-i pen -p -i 80 a":                      "-p -i 80 a", // the file of -p has that name
		"-e -i -i pen 80 a":                      "-e -i 80 a",
		"-i pen --timeout 5 --hash 80 a":         "--timeout 5 --hash 80 a",
		"-i pen --timeout=5 80 -- a -i":          "--timeout=5 80 -- a -i",
		"--service web --listen 81 -i pen -r a":  "--service web --listen 81 -r a",
		`-j C:\pen -i pen 80 "a`:                 `-j C:\pen 80 "a`,
		"--user nobody -i pen 80 a":              "--user nobody 80 a",
		"-i install-what-is-called-like-this 80": "80",
	} {
		line, err := parseArgs(strings.Fields(args), true)
		// Of servers that are none, others tell.
		if line == nil || line.Install == nil {
			t.Errorf("%s: no installation, %v", args, err)
			continue
		}
		got := line.Install
		if !slices.Equal(got.Args, strings.Fields(want)) || got.Remove || !strings.Contains(args, "i "+got.Name) && !strings.Contains(args, "i"+got.Name) {
			t.Errorf("%s: got %+v, want the words %q", args, got, want)
		}
	}
}

func TestServiceWithBlanksInItsWords(t *testing.T) {
	line, err := parseArgs([]string{"-i", "my pen", "-O", "server 0 max 5", "80", "a"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := line.Install; got.Name != "my pen" || !slices.Equal(got.Args, []string{"-O", "server 0 max 5", "80", "a"}) {
		t.Errorf("got %+v", got)
	}
}

func TestServiceIsRemoved(t *testing.T) {
	for _, args := range []string{"-u pen", "-upen"} {
		line, err := parseArgs(strings.Fields(args), true)
		if err != nil {
			t.Fatal(err)
		}
		if got := line.Install; got == nil || got.Name != "pen" || !got.Remove || len(line.Statements) > 0 {
			t.Errorf("%s: got %+v", args, got)
		}
	}
}

func TestWrongInstallations(t *testing.T) {
	for args, want := range map[string]string{
		"-i":               "option requires an argument -- 'i'",
		`-i a\b`:           "-i: the name of a service has 1 to 256 characters",
		"-i a/b":           "-i: the name of a service has 1 to 256 characters",
		"-i a -i b":        "-i: only one service is installed or removed at a time",
		"-i a -u a":        "-u: only one service is installed or removed at a time",
		"-u nobody 80 a":   "-u: removes a service on Windows, and takes no other word",
		"-df -u nobody":    "-u: removes a service on Windows, and takes no other word",
		"-dfu nobody":      "-u: removes a service on Windows, and takes no other word",
		"-i pen --check":   "-i: installs a service that serves",
		"-i pen --version": "-i: installs a service that serves",
	} {
		_, err := parseArgs(strings.Fields(args), true)
		if usage, ok := errors.AsType[*UsageError](err); !ok || !strings.HasPrefix(usage.Error(), want) {
			t.Errorf("%s: got %T %v, want %q", args, err, err, want)
		}
	}
	if _, err := parseArgs([]string{"-i", ""}, true); err == nil {
		t.Error("a service without a name")
	}
}

func TestNoServicesElsewhere(t *testing.T) {
	if _, err := parseArgs([]string{"-i", "pen", "80", "a"}, false); err == nil || err.Error() != "-i: Windows only" {
		t.Errorf("-i: got %v", err)
	}
	line, err := parseArgs([]string{"-u", "nobody", "80", "a"}, false)
	if err != nil || line.Install != nil || len(line.Statements) != 1 || line.Statements[0].Word.Name != "user" {
		t.Errorf("-u: got %+v, %v", line, err)
	}
}
