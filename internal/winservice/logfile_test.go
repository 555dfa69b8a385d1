package winservice

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLogFileHasABound(t *testing.T) {
	name := filepath.Join(t.TempDir(), "syslog.txt")
	for _, text := range []string{"one\n", "two\n"} { // two starts of the service
		write(t, name, text)
	}
	holds(t, name, "one\ntwo\n")
	write(t, name, "three\n")
	holds(t, name, "three\n")
	holds(t, name+".old", "one\ntwo\n")
	write(t, name, "longer than the bound\n")
	holds(t, name, "longer than the bound\n")
	holds(t, name+".old", "three\n")
}

func TestLogFileIsTriedAgain(t *testing.T) {
	name := filepath.Join(t.TempDir(), "syslog.txt")
	log, err := OpenLog(name, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.Write([]byte("one two\n")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(name+".old", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Write([]byte("three\n")); err == nil {
		t.Error("a file took the place of a directory")
	}
	if err := os.RemoveAll(name + ".old"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"four\n", "five\n"} {
		if _, err := log.Write([]byte(text)); err != nil {
			t.Error(err)
		}
	}
	holds(t, name, "four\nfive\n")
	holds(t, name+".old", "one two\n")
}

func write(t *testing.T, name, text string) {
	t.Helper()
	log, err := OpenLog(name, 10)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := log.Write([]byte(text)); n != len(text) || err != nil {
		t.Errorf("wrote %d bytes of %q, %v", n, text, err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}

func holds(t *testing.T, name, want string) {
	t.Helper()
	if got, err := os.ReadFile(name); string(got) != want || err != nil {
		t.Errorf("%s: got %q, %v, want %q", filepath.Base(name), got, err, want)
	}
}
