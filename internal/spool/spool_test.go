package spool

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is for what happens at once on a machine that is not busy.
const patience = 20 * time.Second

func ignore(error) {}

func start(t *testing.T, to Target) (*Spool, *Counts) {
	t.Helper()
	counts := new(Counts)
	s := New(to, counts, ignore)
	go s.Run(nil, 0)
	t.Cleanup(func() { s.Close(time.Now()) })
	return s, counts
}

func finish(t *testing.T, s *Spool) {
	t.Helper()
	s.Close(time.Now().Add(patience))
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("does not end")
	}
}

func open(t *testing.T, name string) Target {
	t.Helper()
	to, err := OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestLinesAreWrittenInOrderUntilTheLast(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	s, counts := start(t, open(t, name))
	var want strings.Builder
	for i := range 20000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		s.Put([]byte(line))
	}
	finish(t, s)
	got, _ := os.ReadFile(name)
	if string(got) != want.String() || counts.Written.Load() != 20000 || counts.Lost.Load() != 0 {
		t.Errorf("%d bytes, want %d; written %d, lost %d", len(got), want.Len(), counts.Written.Load(), counts.Lost.Load())
	}
	if s.Put([]byte("late\n")) {
		t.Error("a closed spool takes a line")
	}
}

// Whoever puts lines while one spool follows another loses none of them.
func TestASuccessorLosesNothing(t *testing.T) {
	dir := t.TempDir()
	counts := new(Counts)
	var mu sync.RWMutex
	now := New(open(t, filepath.Join(dir, "0")), counts, ignore)
	go now.Run(nil, 0)
	current := func() *Spool { mu.RLock(); defer mu.RUnlock(); return now }
	var putters sync.WaitGroup
	for range 4 {
		putters.Go(func() {
			for range 5000 {
				for !current().Put([]byte("a line\n")) {
				}
			}
		})
	}
	for i := 1; i < 10; i++ {
		next := New(open(t, filepath.Join(dir, fmt.Sprint(i))), counts, ignore)
		before := current()
		go next.Run(before, patience)
		mu.Lock()
		now = next
		mu.Unlock()
		before.Close(time.Now().Add(patience))
	}
	putters.Wait()
	finish(t, now)
	total := 0
	for i := range 10 {
		b, _ := os.ReadFile(filepath.Join(dir, fmt.Sprint(i)))
		total += bytes.Count(b, []byte("a line\n"))
		if len(b)%len("a line\n") != 0 {
			t.Errorf("file %d has a line that is cut", i)
		}
	}
	if total != 20000 || counts.Written.Load() != 20000 || counts.Lost.Load() != 0 {
		t.Errorf("%d lines, written %d, lost %d", total, counts.Written.Load(), counts.Lost.Load())
	}
}

// tight takes so many bytes, and then no more until it is given room.
type tight struct {
	bytes.Buffer
	room int
}

var errFull = errors.New("full")

func (w *tight) Write(b []byte) (int, error) {
	n := min(len(b), w.room)
	w.room -= n
	w.Buffer.Write(b[:n])
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

// Wherever a disk becomes full, what is written in the end are whole lines.
func TestALineIsNeverCut(t *testing.T) {
	const lines = "first line\nsecond\n\nfourth line\n"
	for room := range len(lines) + 1 {
		for more := range 12 {
			w := &tight{room: room}
			to := Stream(w)
			lost, err := to.Write([]byte(lines))
			if (err != nil) != (room < len(lines)) {
				t.Fatalf("room %d: %v", room, err)
			}
			w.room = more
			again, _ := to.Write([]byte("next\n"))
			w.room = 1000
			last, err := to.Write([]byte("last\n"))
			if err != nil || last != 0 {
				t.Errorf("room %d and %d: the last: %d, %v", room, more, last, err)
			}
			kept := 0
			for l := range strings.Lines(w.String()) {
				kept++
				if !strings.Contains(lines+"next\nlast\n", l) || !strings.HasSuffix(l, "\n") {
					t.Errorf("room %d and %d: %q", room, more, w.String())
				}
			}
			if kept+lost+again != 6 {
				t.Errorf("room %d and %d: %d lines kept, %d and %d lost: %q", room, more, kept, lost, again, w.String())
			}
		}
	}
}

func TestAFullDiskIsToldOnceAndCounted(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	counts, told := new(Counts), make(chan error, 10)
	s := New(open(t, "/dev/full"), counts, func(err error) { told <- err })
	go s.Run(nil, 0)
	for range 3 {
		before := counts.Lost.Load()
		s.Put([]byte("lost\n"))
		for end := time.Now().Add(patience); counts.Lost.Load() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nothing is counted")
			}
		}
	}
	finish(t, s)
	if len(told) != 1 {
		t.Errorf("told %d times, want once", len(told))
	}
}

// blocked is a writer that hangs, as on a dead disk.
type blocked chan struct{}

func (b blocked) Write(p []byte) (int, error) { <-b; return len(p), nil }

func TestPutNeverWaits(t *testing.T) {
	hang := make(blocked)
	s, counts := start(t, Stream(hang))
	line := append(bytes.Repeat([]byte("x"), 999), '\n')
	for range 3 * Room / len(line) { // hangs if it ever waits
		s.Put(line)
	}
	if n := counts.Lost.Load(); n < Room/uint64(len(line)) {
		t.Errorf("%d lines are counted as lost", n)
	}
	// A successor does not wait for it for ever.
	name := filepath.Join(t.TempDir(), "log")
	next := New(open(t, name), counts, ignore)
	go next.Run(s, 10*time.Millisecond)
	s.Close(time.Now())
	next.Put([]byte("on another disk\n"))
	finish(t, next)
	if b, _ := os.ReadFile(name); string(b) != "on another disk\n" {
		t.Errorf("got %q", b)
	}
	close(hang)
	<-s.Done()
}

func TestTooLongALineIsLost(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	s, counts := start(t, open(t, name))
	s.Put(append(bytes.Repeat([]byte("x"), LineMost), '\n'))
	s.Put([]byte("short\n"))
	finish(t, s)
	if b, _ := os.ReadFile(name); string(b) != "short\n" || counts.Lost.Load() != 1 {
		t.Errorf("got %q, %d lost", b, counts.Lost.Load())
	}
}

func TestFilesThatCanNotBeOpened(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		dir:                              "directory",
		filepath.Join(dir, "not", "yet"): "no such file",
	} {
		if _, err := OpenFile(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestAStreamStaysOpen(t *testing.T) {
	r, w := io.Pipe()
	s, _ := start(t, Stream(w))
	s.Put([]byte("one\n"))
	if l, err := bufio.NewReader(r).ReadString('\n'); l != "one\n" {
		t.Errorf("got %q, %v", l, err)
	}
	finish(t, s)
	go w.Close()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
}

func BenchmarkPut(b *testing.B) {
	s := New(Stream(io.Discard), new(Counts), ignore)
	go s.Run(nil, 0)
	line := append(bytes.Repeat([]byte("x"), 250), '\n')
	b.ReportAllocs()
	for b.Loop() {
		s.Put(line)
	}
	s.Close(time.Now())
	<-s.Done()
}
