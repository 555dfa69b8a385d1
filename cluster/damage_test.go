package cluster

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pen/state"
)

const (
	firstLog = "00000000000000000000.log"
	nextLog  = "00000000000000000009.log"
	nextSnap = "00000000000000000009.snap"
)

// records returns the places in a segment at which a record begins, and its
// end.
func records(t *testing.T, b []byte) []int64 {
	t.Helper()
	at := []int64{segmentHead}
	for end := int64(segmentHead); end < int64(len(b)); at = append(at, end) {
		r, err := readRecord(b[end:], end)
		if err != nil {
			t.Fatal(err)
		}
		end += r.size
	}
	return at
}

// settings returns a command that is on the disk when Propose returns.
func settings(n int) state.Command { return command(3 * n) }

// directory keeps n such commands, and returns the content of the log.
func directory(t *testing.T, n int) (dir string, log []byte) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, dir)
	for i := range n {
		if _, err := s.Propose(t.Context(), settings(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	closeSolo(t, s)
	return dir, read(t, dir, firstLog)
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, dir string, parts ...string) {
	t.Helper()
	s, err := OpenSolo(dir, quiet())
	if err == nil {
		s.Close()
		t.Fatalf("opened, want an error with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Fatalf("got %q, want %q in it", err, p)
		}
	}
}

func TestLogCutAtEveryByte(t *testing.T) {
	const n = 6
	dir, log := directory(t, n)
	starts := records(t, log)
	for size := range len(log) {
		write(t, dir, firstLog, log[:size])
		if size < segmentHead {
			refused(t, dir, firstLog, fmt.Sprintf("byte %d: incomplete header", size))
			continue
		}
		whole, clean := slices.BinarySearch(starts, int64(size))
		if !clean {
			whole--
		}
		var out bytes.Buffer
		s, err := OpenSolo(dir, slog.New(slog.NewTextHandler(&out, nil)))
		if err != nil {
			t.Fatalf("cut at %d: %v", size, err)
		}
		if got := int(s.View().Index); got != min(whole, n) {
			t.Fatalf("cut at %d: got %d commands, want %d", size, got, min(whole, n))
		}
		want := fmt.Sprintf(`file=%s offset=%d bytes=%d`, filepath.Join(dir, firstLog), starts[whole], int64(size)-starts[whole])
		if clean != (out.Len() == 0) || !clean && !strings.Contains(out.String(), want) {
			t.Fatalf("cut at %d: logged %q, want %q", size, out.String(), want)
		}
		if got := int64(len(read(t, dir, firstLog))); got != starts[whole] {
			t.Fatalf("cut at %d: the file has %d bytes, want %d", size, got, starts[whole])
		}
		s.Close()
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	const n = 4
	dir, log := directory(t, n)
	starts := records(t, log)
	mark := starts[len(starts)-2]
	for i := range log {
		for bit := range 8 {
			bad := bytes.Clone(log)
			bad[i] ^= 1 << bit
			write(t, dir, firstLog, bad)
			if int64(i) >= mark {
				// The mark that closes the log brings nothing that could be lost.
				s := open(t, dir)
				if got := s.View().Index; got != n {
					t.Fatalf("byte %d: got %d commands, want %d", i, got, n)
				}
				s.Close()
				continue
			}
			if i < segmentHead {
				refused(t, dir, firstLog, "byte ")
				continue
			}
			k, exact := slices.BinarySearch(starts, int64(i))
			if !exact {
				k--
			}
			refused(t, dir, firstLog, fmt.Sprintf("byte %d: ", starts[k]), "was on the disk before the record at byte")
		}
	}
}

// TestUnsyncedMiddle is a crash after which the disk has a later page of the
// log, but not an earlier one.
func TestUnsyncedMiddle(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for range 2 {
		propose(t, s, int(s.View().Index)+1, int(s.View().Index)+3)
	}
	for range 3 { // visits, which nobody syncs
		if _, err := s.Propose(t.Context(), command(4)); err != nil {
			t.Fatal(err)
		}
	}
	log := read(t, dir, firstLog)
	closeSolo(t, s)
	starts := records(t, log)
	clear(log[starts[6]:starts[7]])
	write(t, dir, firstLog, log)
	s = open(t, dir)
	wantState(t, s, 6)
	closeSolo(t, s)

	// The same hole in front of a record that came after a sync is damage.
	clear(log[starts[5]:starts[6]])
	write(t, dir, firstLog, log)
	refused(t, dir, firstLog, fmt.Sprintf("byte %d: ", starts[5]))
}

// rotated returns a directory with a snapshot after 9 commands and a log of 3
// more.
func rotated(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	propose(t, s, 1, 9)
	if err := s.rotate(); err != nil {
		t.Fatal(err)
	}
	propose(t, s, 10, 12)
	closeSolo(t, s)
	return dir
}

func TestDamagedFiles(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   []string
	}{
		{
			"snapshot gone", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, nextSnap)) },
			[]string{firstLog, "is missing"},
		},
		{
			"segment gone", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, nextLog)) },
			[]string{nextLog, "is missing"},
		},
		{"snapshot damaged", func(t *testing.T, dir string) {
			b := read(t, dir, nextSnap)
			b[len(b)/2] ^= 4
			write(t, dir, nextSnap, b)
		}, []string{nextSnap, "block at byte", "checksum does not match"}},
		{"snapshot cut", func(t *testing.T, dir string) {
			write(t, dir, nextSnap, read(t, dir, nextSnap)[:50])
		}, []string{nextSnap, "it ends at byte 50, too early"}},
		{"snapshot of another moment", func(t *testing.T, dir string) {
			os.Rename(filepath.Join(dir, nextSnap), filepath.Join(dir, "00000000000000000011.snap"))
		}, []string{"00000000000000000011.snap", "after command 9"}},
		{"segment under another name", func(t *testing.T, dir string) {
			os.Rename(filepath.Join(dir, nextLog), filepath.Join(dir, "00000000000000000008.log"))
		}, []string{"00000000000000000008.log", "byte 12: it follows command 9"}},
		{"something else", func(t *testing.T, dir string) {
			write(t, dir, nextLog, bytes.Repeat([]byte("hello\n"), 9))
		}, []string{nextLog, "byte 0: this is no log of pen"}},
		{"torn end in front of another segment", func(t *testing.T, dir string) {
			b := read(t, dir, nextLog)
			write(t, dir, nextLog, b[:len(b)-30])
			write(t, dir, "00000000000000000012.log", segmentHeader(12))
		}, []string{nextLog, "is not the last segment"}},
		{"commands missing between segments", func(t *testing.T, dir string) {
			write(t, dir, "00000000000000000014.log", segmentHeader(14))
		}, []string{nextLog, "ends with command 12", "00000000000000000014.log"}},
		{"a version to come", func(t *testing.T, dir string) {
			c := &segment{disk: &disk{}, end: segmentHead, safe: segmentHead}
			f, err := os.OpenFile(filepath.Join(dir, nextLog), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			c.f = f
			if err := c.append(10, []byte{99, 0}); err != nil {
				t.Fatal(err)
			}
		}, []string{nextLog, "byte 24: ", "version 99"}},
		{"a command twice", func(t *testing.T, dir string) {
			b := read(t, dir, nextLog)
			at := records(t, b)
			write(t, dir, nextLog, append(b[:at[1]:at[1]], b[at[0]:at[1]]...))
		}, []string{nextLog, "command 10, want 11"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := rotated(t)
			c.damage(t, dir)
			refused(t, dir, append(c.want, "open state: ")...)
		})
	}
}

// TestSnapshotBeyondTheLog is what a crash leaves when a snapshot was taken
// because the log had gone bad.
func TestSnapshotBeyondTheLog(t *testing.T) {
	dir := rotated(t)
	whole := open(t, dir)
	snap := whole.machine.Snapshot()
	if _, err := whole.store.save(snap); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	closeSolo(t, whole)
	b := read(t, dir, nextLog)
	write(t, dir, nextLog, b[:records(t, b)[1]+5])

	s := open(t, dir)
	wantState(t, s, 12)
	propose(t, s, 13, 14)
	closeSolo(t, s)
	wantState(t, open(t, dir), 14)
	if _, err := os.Stat(filepath.Join(dir, nextLog)); err == nil {
		t.Error("the bad log is still there")
	}
}

func TestOthersFilesAreLeftAlone(t *testing.T) {
	dir := rotated(t)
	names := []string{"node-id", "node-id.tmp", "4711.log", "notes.log", firstLog + ".bak"}
	for _, n := range names {
		write(t, dir, n, []byte("mine"))
	}
	write(t, dir, nextSnap+temporary, []byte("unfinished"))
	closeSolo(t, open(t, dir))
	for _, n := range names {
		if got := string(read(t, dir, n)); got != "mine" {
			t.Errorf("%s: got %q", n, got)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, nextSnap+temporary)); err == nil {
		t.Error("the unfinished file is still there")
	}
}

// FuzzOpen opens logs that begin well and go on with anything.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	s, err := OpenSolo(dir, quiet())
	if err != nil {
		f.Fatal(err)
	}
	for n := range 3 {
		s.Propose(context.Background(), settings(n+1))
	}
	s.Close()
	log, err := os.ReadFile(filepath.Join(dir, firstLog))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(log[segmentHead:])
	f.Add(log[segmentHead : len(log)-40])
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		write(t, dir, firstLog, append(segmentHeader(0), b...))
		s, err := OpenSolo(dir, quiet())
		if err != nil {
			if !strings.Contains(err.Error(), "byte ") {
				t.Fatalf("%v: no place", err)
			}
			return
		}
		before := s.View().Index
		if _, err := s.Propose(t.Context(), settings(1)); err != nil {
			t.Fatal(err)
		}
		closeSolo(t, s)
		if s = open(t, dir); s.View().Index != before+1 {
			t.Fatalf("got index %d, want %d", s.View().Index, before+1)
		}
	})
}
