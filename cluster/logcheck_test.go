package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// keptLog is a directory with a log of some batches that was closed in order, or
// as a crash leaves it. It returns the path of the one file and how much of it is used.
func keptLog(t testing.TB, batches int, crash bool) (dir, path string, used int) {
	t.Helper()
	dir = t.TempDir()
	s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(batches) {
		if err := s.StoreLogs([]*raft.Log{entry(2*i+1, 1), entry(2*i+2, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if crash {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		dir = copied
	}
	s.Close()
	files, _ := filepath.Glob(filepath.Join(dir, "*.wal"))
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return dir, files[0], len(bytes.TrimRight(b, "\x00"))
}

// reached opens a log and returns how far it reaches.
func reached(t testing.TB, dir string) (uint64, error) {
	t.Helper()
	s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
	if err != nil {
		return 0, err
	}
	defer s.Close()
	last, err := s.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for i := range last {
		var l raft.Log
		if err := s.GetLog(i+1, &l); err != nil || string(l.Data) != fmt.Sprintf("command %d of term 1", i+1) {
			t.Fatalf("entry %d of %d: %q, %v", i+1, last, l.Data, err)
		}
	}
	return last, nil
}

// commits are the places at which a batch is complete.
func commits(b []byte) (ends []int) {
	for at := walHead; ; {
		kind, size := frameAt(b, at)
		if kind == 0 || at+size > len(b) {
			return ends
		}
		if at += size; kind == walCommit {
			ends = append(ends, at)
		}
	}
}

// TestRaftLogCutAtEveryByte: a node that died while it wrote starts with all batches
// that were complete. One that was closed in order misses what is gone.
func TestRaftLogCutAtEveryByte(t *testing.T) {
	for _, crash := range []bool{true, false} {
		dir, path, used := keptLog(t, 4, crash)
		whole, err := os.ReadFile(path)
		must(t, err)
		whole = whole[:used]
		ends := commits(whole)
		if len(ends) != 4 {
			t.Fatalf("%d batches, want 4", len(ends))
		}
		kept, err := os.ReadFile(filepath.Join(dir, logMetaName))
		must(t, err)
		for size := range used + 1 {
			must(t, os.WriteFile(path, whole[:size], 0o600))
			must(t, os.WriteFile(filepath.Join(dir, logMetaName), kept, 0o600))
			var want uint64
			for _, end := range ends {
				if size >= end {
					want += 2
				}
			}
			got, err := reached(t, dir)
			switch {
			case !crash && want < 8:
				if err == nil || !strings.Contains(err.Error(), filepath.Base(path)) || !strings.Contains(err.Error(), fmt.Sprintf("ended with entry 8 when it was closed, and ends with entry %d now", want)) {
					t.Fatalf("cut at byte %d: %d entries, %v", size, got, err)
				}
			case err != nil || got != want:
				t.Fatalf("cut at byte %d: %d entries, want %d (%v)", size, got, want, err)
			}
		}
	}
}

// TestRaftLogFlippedBit: whatever bit turns in a log that was closed in order, the
// node has all of it or does not start.
func TestRaftLogFlippedBit(t *testing.T) {
	dir, path, used := keptLog(t, 3, false)
	whole, err := os.ReadFile(path)
	must(t, err)
	whole = whole[:used+2*walFrame] // and a bit of what is not used
	kept, err := os.ReadFile(filepath.Join(dir, logMetaName))
	must(t, err)
	refused := 0
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		must(t, os.WriteFile(path, bad, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, logMetaName), kept, 0o600))
		got, err := reached(t, dir)
		switch {
		case err == nil && got == 6:
		case err == nil:
			t.Fatalf("byte %d: it starts with %d entries of 6", i, got)
		case !strings.Contains(err.Error(), filepath.Base(path)) || !strings.Contains(err.Error(), "take the cluster's directory away"):
			t.Fatalf("byte %d: %v", i, err)
		default:
			refused++
		}
	}
	if refused < used-16 {
		t.Errorf("refused in %d of %d cases", refused, used)
	}
}

// TestRaftLogFlippedBitAfterACrash: what is followed by something that was synced
// later was promised. Only the end may be what the crash has left.
func TestRaftLogFlippedBitAfterACrash(t *testing.T) {
	dir, path, used := keptLog(t, 4, true)
	whole, err := os.ReadFile(path)
	must(t, err)
	whole = whole[:used]
	ends := commits(whole)
	for i := range ends[2] {
		bad := bytes.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		must(t, os.WriteFile(path, bad, 0o600))
		if got, err := reached(t, dir); err == nil || !strings.Contains(err.Error(), filepath.Base(path)+": byte ") {
			t.Fatalf("byte %d: it starts with %d entries of 8 (%v)", i, got, err)
		}
	}
}

// TestSegmentsFlippedBit: the same for the list of the log's files.
func TestSegmentsFlippedBit(t *testing.T) {
	dir, _, _ := keptLog(t, 1, false)
	path := filepath.Join(dir, logMetaName)
	whole, err := os.ReadFile(path)
	must(t, err)
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		must(t, os.WriteFile(path, bad, 0o600))
		if _, err := reached(t, dir); err == nil || !strings.Contains(err.Error(), path+": ") {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

// TestBallotFlippedBit: no bit makes a node forget its vote.
func TestBallotFlippedBit(t *testing.T) {
	dir := t.TempDir()
	s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
	must(t, err)
	must(t, s.SetUint64([]byte(keyTerm), 3))
	must(t, s.SetUint64([]byte(keyVoteTerm), 3))
	must(t, s.Set([]byte(keyVoteFor), []byte("a")))
	must(t, s.Close())
	path := filepath.Join(dir, ballotName)
	whole, err := os.ReadFile(path)
	must(t, err)
	for slot := range 4 {
		for i := range slotSize {
			bad := bytes.Clone(whole)
			bad[slot*slotApart+i] ^= 1 << (i % 8)
			must(t, os.WriteFile(path, bad, 0o600))
			b, err := openBallot(dir, raft.NewInmemStore(), newHealth(dir, quiet()))
			if err != nil {
				t.Fatalf("copy %d, byte %d: %v", slot, i, err)
			}
			if p := b.get(); p.term != 3 || p.voteTerm != 3 || string(p.voteFor) != "a" {
				t.Fatalf("copy %d, byte %d: %+v", slot, i, p)
			}
			b.close()
		}
	}
}

func FuzzSegment(f *testing.F) {
	_, path, used := keptLog(f, 3, false)
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:used], true)
	f.Add(b[:used-9], false)
	f.Fuzz(func(t *testing.T, b []byte, tail bool) {
		if at, why := checkSegment(b, tail); at < 0 || at > max(len(b), walHead) || why == "" && at != 0 {
			t.Errorf("byte %d of %d: %q", at, len(b), why)
		}
	})
}

func FuzzLogPapers(f *testing.F) {
	b, err := logPapers{PersistentState: types.PersistentState{NextSegmentID: 2, Segments: []types.SegmentInfo{{ID: 1, BaseIndex: 1}}}, Closed: 7}.text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseLogPapers(b)
		if err != nil {
			return
		}
		again, err := p.text()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseLogPapers(again); err != nil {
			t.Error(err)
		}
	})
}

// TestRaftLogWithoutItsLastFile: a node that was killed, and whose last file is gone,
// does not start with what is left. A file that was to be begun may be missing.
func TestRaftLogWithoutItsLastFile(t *testing.T) {
	refused := func(dir, path string) {
		t.Helper()
		must(t, os.Remove(path))
		got, err := reached(t, dir)
		if want := path + ": it is gone, and entries were in it: it is damaged: take the cluster's directory away"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it starts with %d entries: got %v, want %q", got, err, want)
		}
	}
	meta := func(dir string, change func(p *logPapers)) {
		t.Helper()
		path := filepath.Join(dir, logMetaName)
		b, err := os.ReadFile(path)
		must(t, err)
		p, err := parseLogPapers(b)
		must(t, err)
		change(&p)
		b, err = p.text()
		must(t, err)
		must(t, os.WriteFile(path, b, 0o600))
	}
	for _, older := range []bool{false, true} {
		dir, path, _ := keptLog(t, 2, true)
		if older { // that has not noted it
			meta(dir, func(p *logPapers) { p.Closed, p.Begun = 0, "" })
		} else {
			meta(dir, func(p *logPapers) { p.Closed = 0 })
		}
		refused(dir, path)
	}
	// Of several files the last.
	dir := t.TempDir()
	s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
	must(t, err)
	for i := range uint64(2) {
		l := entry(i+1, 1)
		l.Data = bytes.Repeat([]byte("x"), segmentBytes)
		must(t, s.StoreLog(l))
	}
	must(t, s.DeleteRange(2, 2))
	killed := func() (string, []string) {
		to := t.TempDir()
		must(t, os.CopyFS(to, os.DirFS(dir)))
		files, err := filepath.Glob(filepath.Join(to, "*.wal"))
		must(t, err)
		return to, files
	}
	fresh, files := killed() // nothing is in the last one
	must(t, os.Remove(files[len(files)-1]))
	again, err := openWAL(fresh, newHealth(fresh, quiet()), hclog.NewNullLogger())
	must(t, err)
	must(t, again.Close())
	must(t, s.StoreLog(entry(2, 2)))
	used, files := killed()
	refused(used, files[len(files)-1])
	must(t, s.Close())
}
