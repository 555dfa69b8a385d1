//go:build unix

package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// within fails the test when f takes longer than anything local may.
func within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("still waiting after 5 seconds")
	}
}

func fifo(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	return path
}

// A pipe without a writer once held up every change of settings for ever.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	pipe := fifo(t, "pipe")
	for path, want := range map[string]string{
		pipe:        "is a pipe, expected a regular file",
		"/dev/null": "is a device, expected a regular file",
		".":         "is a directory, expected a regular file",
	} {
		within(t, func() {
			if _, err := ParseFile(path); err == nil || err.Error() != path+": "+want {
				t.Errorf("%s: got %v", path, err)
			}
			for _, parse := range []func(string) error{
				func(text string) error { _, err := ParseReader("f", strings.NewReader(text)); return err },
				func(text string) error {
					name := filepath.Join(t.TempDir(), "f")
					if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
					_, err := ParseStart(name)
					return err
				},
			} {
				err := parse("include " + path + "\n")
				if err == nil || !strings.HasSuffix(err.Error(), ":1:9: read "+path+": "+want) {
					t.Errorf("include %s: got %v", path, err)
				}
			}
		})
	}
}

func TestStartReadsAPipe(t *testing.T) {
	pipe := fifo(t, "pipe")
	within(t, func() {
		w, err := os.OpenFile(pipe, os.O_RDWR, 0) // there before the reader
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer w.Close()
			for _, part := range []string{"timeout 4\ntrack", "ing 5\n"} {
				time.Sleep(20 * time.Millisecond) // the reader waits for it
				w.WriteString(part)
			}
		}()
		f, err := ParseStart(pipe)
		if err != nil || !f.Stream || len(f.Statements) != 2 || f.Statements[1].Text != "tracking 5" {
			t.Errorf("got %+v, %v", f, err)
		}
	})
	within(t, func() {
		if _, err := ParseStart(pipe); err == nil || err.Error() != pipe+": is a pipe into which nobody writes" {
			t.Errorf("got %v", err)
		}
		if f, err := ParseStart("/dev/null"); err != nil || !f.Stream || len(f.Statements) != 0 {
			t.Errorf("/dev/null: got %+v, %v", f, err)
		}
		if _, err := ParseStart("/dev/zero"); err == nil || !strings.Contains(err.Error(), "more than 16777216 bytes") {
			t.Errorf("/dev/zero: got %v", err)
		}
	})
}

func TestStartReadsAFileAsEver(t *testing.T) {
	put(t, map[string]string{"a.conf": "timeout 4\nfoo\n"})
	f, err := ParseStart("a.conf")
	if f.Stream || len(f.Statements) != 1 || err == nil || err.Error() != `a.conf:2:1: unknown word "foo"` {
		t.Errorf("got %+v, %v", f, err)
	}
	if f, err = ParseStart("nosuch"); !f.Missing || err == nil || err.Error() != "nosuch: no such file or directory" {
		t.Errorf("got %+v, %v", f, err)
	}
	put(t, map[string]string{"b.conf": "include nosuch\n"})
	if f, err = ParseStart("b.conf"); f.Missing || err == nil {
		t.Errorf("got %+v, %v", f, err)
	}
}
