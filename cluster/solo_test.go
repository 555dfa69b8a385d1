package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pen/state"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// command returns the n-th of a history: settings and visits in turn.
func command(n int) state.Command {
	c := state.Command{Time: state.Time(n) * 1000, By: fmt.Sprintf("test %d", n)}
	if n%3 == 0 {
		c.Ops = []state.Op{state.Set{Option: state.OptTimeout, Value: state.Int(n)}}
		return c
	}
	v := state.Visits{Service: 1}
	for i := range n % 5 {
		v.Clients = append(v.Clients, state.Visit{Client: netip.AddrFrom4([4]byte{10, 0, byte(n), byte(i)}), Server: state.None})
	}
	c.Ops = []state.Op{v}
	return c
}

// after returns the state after the first n commands.
func after(n int) *state.Machine {
	m := state.New()
	for i := range n {
		m.Apply(command(i + 1))
	}
	return m
}

func bytesOf(t *testing.T, m *state.Machine) []byte {
	t.Helper()
	s := m.Snapshot()
	defer s.Release()
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func wantState(t *testing.T, s *Solo, n int) {
	t.Helper()
	if got := s.View().Index; got != uint64(n) {
		t.Fatalf("got the state after command %d, want %d", got, n)
	}
	if !bytes.Equal(bytesOf(t, s.machine), bytesOf(t, after(n))) {
		t.Fatalf("the state after command %d is another", n)
	}
}

func open(t *testing.T, dir string) *Solo {
	t.Helper()
	s, err := OpenSolo(dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func propose(t *testing.T, s *Solo, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if r, err := s.Propose(t.Context(), command(n)); err != nil || r.Err != nil || r.Index != uint64(n) {
			t.Fatalf("command %d: %+v, %v", n, r, err)
		}
	}
}

func closeSolo(t *testing.T, s *Solo) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestInMemory(t *testing.T) {
	s := open(t, "")
	changed := s.Watch()
	propose(t, s, 1, 20)
	wantState(t, s, 20)
	<-changed
	if !s.Fresh() {
		t.Error("not fresh")
	}
	if got := s.Status(); got != (Status{}) {
		t.Errorf("status: got %+v, want nothing", got)
	}
}

func TestStateSurvives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, dir)
	if !s.Fresh() {
		t.Error("a new directory is not fresh")
	}
	n := 0
	for round := range 6 {
		propose(t, s, n+1, n+7)
		n += 7
		if round%2 == 1 {
			if err := s.rotate(); err != nil {
				t.Fatal(err)
			}
			propose(t, s, n+1, n+2)
			n += 2
		}
		closeSolo(t, s)
		s = open(t, dir)
		wantState(t, s, n)
		if s.Fresh() {
			t.Error("fresh in spite of a state")
		}
	}
}

func TestRefusedCommandsSurviveToo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	bad := state.Command{Ops: []state.Op{state.RemoveService{Service: "nowhere"}}}
	if r, err := s.Propose(t.Context(), bad); err != nil || r.Err == nil || r.Index != 1 {
		t.Errorf("got %+v, %v, want an error in the result", r, err)
	}
	closeSolo(t, s)
	if got := open(t, dir).View().Index; got != 1 {
		t.Errorf("got index %d, want 1", got)
	}
}

func TestProposeErrors(t *testing.T) {
	s := open(t, t.TempDir())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Propose(ended, command(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	if _, err := s.Propose(t.Context(), state.Command{By: strings.Repeat("x", state.MaxText+1)}); err == nil {
		t.Error("a command that can not be encoded was taken")
	}
	closeSolo(t, s)
	closeSolo(t, s)
	if _, err := s.Propose(t.Context(), command(1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want closed", err)
	}
	wantState(t, s, 0)
}

func TestManyProposers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.least = 1 // a snapshot at each occasion
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range 25 {
				if _, err := s.Propose(t.Context(), command(n+1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if err := s.rotate(); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	want := bytesOf(t, s.machine)
	closeSolo(t, s)
	if got := open(t, dir); got.View().Index != 100 || !bytes.Equal(bytesOf(t, got.machine), want) {
		t.Errorf("got another state after %d commands, want that after 100", got.View().Index)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	if dir := os.Getenv("PEN_TEST_DIR"); dir != "" {
		_, err := OpenSolo(dir, quiet())
		fmt.Println("opened:", err)
		return
	}
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := OpenSolo(dir, quiet()); err == nil {
		t.Error("opened twice by one process")
	}
	other := func() string {
		cmd := exec.Command(os.Args[0], "-test.run=^TestOneProcessAtATime$")
		cmd.Env = append(os.Environ(), "PEN_TEST_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if want := fmt.Sprintf("opened: open state: %s is in use by process %d\n", dir, os.Getpid()); !strings.HasPrefix(other(), want) {
		t.Errorf("got %q, want %q", other(), want)
	}
	closeSolo(t, s)
	if got := other(); !strings.HasPrefix(got, "opened: <nil>\n") {
		t.Errorf("after closing: got %q", got)
	}
}

// TestRun lets the log grow beyond its bound.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		s.least = 2000
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		for n := range 200 {
			propose(t, s, n+1, n+1)
			time.Sleep(300 * time.Millisecond)
			s.mu.Lock()
			unsafe := s.store.tail.end - s.store.tail.safe
			s.mu.Unlock()
			if n > 3 && unsafe > 400 {
				t.Fatalf("command %d: %d bytes are not on the disk", n, unsafe)
			}
		}
		cancel()
		wg.Wait()
		status := s.Status()
		if status.Dir != dir || status.Bytes > 3000 || status.Snapshot.IsZero() || status.Err != nil {
			t.Errorf("got %+v, want little log and a snapshot", status)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "0*"))
		if len(files) != 2 {
			t.Errorf("got %v, want one snapshot and one segment", files)
		}
		closeSolo(t, s)
		wantState(t, open(t, dir), 200)
	})
}

func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := 1000
		d := &disk{write: func(f *os.File, b []byte, at int64) (int, error) {
			n := min(len(b), room)
			room -= n
			if _, err := f.WriteAt(b[:n], at); err != nil || n == len(b) {
				return n, err
			}
			return n, syscall.ENOSPC
		}}
		dir := t.TempDir()
		s, err := openSolo(d, dir, quiet())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; err == nil; n++ {
			_, err = s.Propose(t.Context(), command(n+1))
		}
		n--
		if !errors.Is(err, syscall.ENOSPC) || !errors.Is(s.Status().Err, syscall.ENOSPC) {
			t.Fatalf("got %v, want no space", err)
		}
		wantState(t, s, n)
		if got := int64(len(read(t, dir, firstLog))); got != s.store.tail.end {
			t.Errorf("the log has %d bytes, want %d: no half record", got, s.store.tail.end)
		}
		if err := s.rotate(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("snapshot: got %v, want no space", err)
		}
		wantState(t, s, n)
		room = 1 << 20
		propose(t, s, n+1, n+10)
		if err := s.Status().Err; err != nil {
			t.Errorf("there is space again, but status says %v", err)
		}
		closeSolo(t, s)
		wantState(t, open(t, dir), n+10)
	})
}

// A process in a jail can not follow the path any more. Moving the directory
// away has the same effect.
func TestFilesAreFoundWithoutTheirPath(t *testing.T) {
	before, after := filepath.Join(t.TempDir(), "before"), filepath.Join(t.TempDir(), "after")
	s := open(t, before)
	propose(t, s, 1, 5)
	if err := os.Rename(before, after); err != nil {
		t.Fatal(err)
	}
	if err := s.Chown(os.Getuid(), os.Getgid()); err != nil {
		t.Error(err)
	}
	if err := s.rotate(); err != nil {
		t.Fatal(err)
	}
	propose(t, s, 6, 9)
	closeSolo(t, s)
	s = open(t, after)
	wantState(t, s, 9)
	closeSolo(t, s)
}
