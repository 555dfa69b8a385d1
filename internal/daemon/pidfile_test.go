package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(path, []byte("1234567890123\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := writePID(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != strconv.Itoa(os.Getpid()) {
		t.Errorf("got %q: not the number alone", got)
	}
	p.remove()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	p.remove()
}

func TestPIDFileOfAnotherProcessStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	p, err := writePID(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.remove()
	if got, _ := os.ReadFile(path); string(got) != "1" {
		t.Errorf("got %q", got)
	}
}

func TestNoPIDFile(t *testing.T) {
	if p, err := writePID(t.TempDir()); err == nil || p != "" {
		t.Errorf("a directory: got %q, %v", p, err)
	}
	pidFile("").remove()
}
