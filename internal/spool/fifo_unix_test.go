//go:build unix && !aix && !solaris

package spool

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A pipe that nobody reads holds up nobody, and gives whole lines to who comes.
func TestAPipeThatNobodyReads(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Skip(err)
	}
	s, counts := start(t, open(t, name))
	line := append(bytes.Repeat([]byte("x"), 996), "end\n"...)
	for range 2 * Room / len(line) {
		s.Put(line)
	}
	if counts.Lost.Load() == 0 {
		t.Error("nothing is counted as lost")
	}
	r, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lines := bufio.NewReader(r)
	for range 1000 {
		if got, err := lines.ReadBytes('\n'); err != nil || !bytes.Equal(got, line) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	s.Close(time.Now().Add(10 * time.Millisecond)) // with lines that nobody takes
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Error("waits for the reader")
	}
}
