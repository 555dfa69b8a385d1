package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// TestLogStores runs one suite on every log store: what raft needs of it.
func TestLogStores(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, dir string) logStore{
		"wal": func(t *testing.T, dir string) logStore {
			s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"memory": func(*testing.T, string) logStore { return memStore{raft.NewInmemStore()} },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			defer s.Close()
			conform(t, s)
		})
	}
}

func entry(i, term uint64) *raft.Log {
	return &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: []byte(fmt.Sprintf("command %d of term %d", i, term))}
}

func conform(t *testing.T, s logStore) {
	reach := func(first, last uint64) {
		t.Helper()
		f, err1 := s.FirstIndex()
		l, err2 := s.LastIndex()
		if f != first || l != last || err1 != nil || err2 != nil {
			t.Fatalf("it reaches from %d to %d (%v, %v), want %d to %d", f, l, err1, err2, first, last)
		}
	}
	has := func(i, term uint64) {
		t.Helper()
		var got raft.Log
		if err := s.GetLog(i, &got); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if want := entry(i, term); got.Index != i || got.Term != term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Fatalf("entry %d: %+v", i, got)
		}
	}
	reach(0, 0)
	var l raft.Log
	if err := s.GetLog(1, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry of an empty log: %v", err)
	}
	var batch []*raft.Log
	for i := range uint64(100) {
		batch = append(batch, entry(i+1, 1))
	}
	must(t, s.StoreLogs(batch))
	must(t, s.StoreLog(entry(101, 1)))
	reach(1, 101)
	has(1, 1)
	has(101, 1)
	// A new leader takes the end away and writes it anew.
	must(t, s.DeleteRange(90, 101))
	reach(1, 89)
	must(t, s.StoreLogs([]*raft.Log{entry(90, 2), entry(91, 2)}))
	has(89, 1)
	has(90, 2)
	if err := s.GetLog(92, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry that was taken away: %v", err)
	}
	// A snapshot takes the beginning away.
	must(t, s.DeleteRange(1, 50))
	reach(51, 91)
	if err := s.GetLog(50, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry before the snapshot: %v", err)
	}
	// A large one.
	big := &raft.Log{Index: 92, Term: 2, Data: bytes.Repeat([]byte("x"), changeMax)}
	must(t, s.StoreLog(big))
	must(t, s.GetLog(92, &l))
	if !bytes.Equal(l.Data, big.Data) {
		t.Error("a large entry is another")
	}
	// A snapshot takes the place of all of it.
	must(t, s.DeleteRange(51, 92))
	must(t, s.StoreLog(entry(1000, 3)))
	reach(1000, 1000)

	must(t, s.Set([]byte("k"), []byte("v")))
	must(t, s.SetUint64([]byte("n"), 42))
	if v, err := s.Get([]byte("k")); string(v) != "v" || err != nil {
		t.Errorf("k: %q, %v", v, err)
	}
	if n, err := s.GetUint64([]byte("n")); n != 42 || err != nil {
		t.Errorf("n: %d, %v", n, err)
	}
	if n, err := s.GetUint64([]byte("none")); n != 0 || err != nil && err.Error() != "not found" {
		t.Errorf("none: %d, %v", n, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLogSurvives: what was acknowledged is there again, whatever became of
// bytes after it.
func TestLogSurvives(t *testing.T) {
	dir := t.TempDir()
	s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
	must(t, err)
	for i := range uint64(20) {
		must(t, s.StoreLog(entry(i+1, 1)))
	}
	must(t, s.SetUint64([]byte("term"), 7))
	// As a crash leaves it: copied while it is open.
	crashed := t.TempDir()
	must(t, os.CopyFS(crashed, os.DirFS(dir)))
	must(t, s.Close())
	for _, dir := range []string{dir, crashed} {
		s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
		must(t, err)
		if last, err := s.LastIndex(); last != 20 || err != nil {
			t.Errorf("last entry %d, %v", last, err)
		}
		if term, err := s.GetUint64([]byte("term")); term != 7 || err != nil {
			t.Errorf("term %d, %v", term, err)
		}
		must(t, s.StoreLog(entry(21, 2)))
		must(t, s.Close())
	}
}

// TestLogSurvivesATruncation: a leader's change takes the end of a log away.
// raft-wal before 0.4.1 could not read such a log after a restart (its #31).
func TestLogSurvivesATruncation(t *testing.T) {
	dir := t.TempDir()
	s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
	must(t, err)
	for i := range uint64(20) {
		must(t, s.StoreLog(entry(i+1, 1)))
	}
	must(t, s.DeleteRange(15, 20))
	must(t, s.StoreLog(entry(15, 2)))
	must(t, s.Close())
	s, err = openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
	must(t, err)
	for i := range uint64(15) {
		var l raft.Log
		if err := s.GetLog(i+1, &l); err != nil || l.Index != i+1 {
			t.Fatalf("entry %d: %+v, %v", i+1, l, err)
		}
	}
	must(t, s.Close())
}
