package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// TestBallot: what was kept is there again; a vote is kept whole or not at all.
func TestBallot(t *testing.T) {
	dir := t.TempDir()
	open := func() logStore {
		t.Helper()
		s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger())
		must(t, err)
		return s
	}
	want := func(s logStore, term, voteTerm uint64, voteFor string) {
		t.Helper()
		a, err1 := s.GetUint64([]byte(keyTerm))
		b, err2 := s.GetUint64([]byte(keyVoteTerm))
		c, err3 := s.Get([]byte(keyVoteFor))
		if a != term || b != voteTerm || string(c) != voteFor || err1 != nil || err2 != nil || err3 != nil {
			t.Errorf("term %d, vote in %d for %q (%v, %v, %v), want %d, %d, %q", a, b, c, err1, err2, err3, term, voteTerm, voteFor)
		}
	}
	vote := func(s logStore, term uint64, who string) {
		t.Helper()
		must(t, s.SetUint64([]byte(keyVoteTerm), term))
		must(t, s.Set([]byte(keyVoteFor), []byte(who)))
	}
	s := open()
	want(s, 0, 0, "")
	must(t, s.SetUint64([]byte(keyTerm), 3))
	vote(s, 3, "10.0.0.1:7950")
	must(t, s.SetUint64([]byte(keyTerm), 4))
	must(t, s.SetUint64([]byte(keyVoteTerm), 4)) // and the power goes
	must(t, s.Close())
	s = open()
	want(s, 4, 3, "10.0.0.1:7950")
	vote(s, 4, "10.0.0.2:7950")
	must(t, s.Close())

	// A copy is damaged: the other counts.
	path := filepath.Join(dir, ballotName)
	b, err := os.ReadFile(path)
	must(t, err)
	for i := range 4 {
		torn := bytes.Clone(b)
		clear(torn[i*slotApart+100 : i*slotApart+slotSize])
		must(t, os.WriteFile(path, torn, 0o600))
		s = open()
		want(s, 4, 4, "10.0.0.2:7950")
		must(t, s.Close())
		again, err := os.ReadFile(path)
		must(t, err)
		if _, _, ok := parseSlot(again[i*slotApart:][:slotSize], ballotMagic); !ok {
			t.Errorf("copy %d is still damaged", i)
		}
	}
	// Both of a pair are: nobody knows what the last vote was.
	for pair := range 2 {
		bad := bytes.Clone(b)
		bad[2*pair*slotApart+20] ^= 1
		bad[(2*pair+1)*slotApart+30] ^= 1
		must(t, os.WriteFile(path, bad, 0o600))
		if _, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger()); err == nil ||
			!strings.Contains(err.Error(), fmt.Sprintf("%s: bytes %d and %d: both copies are damaged: the last vote is gone: take the cluster's directory away", path, 2*pair*slotApart, (2*pair+1)*slotApart)) {
			t.Errorf("pair %d damaged: %v", pair, err)
		}
	}
	must(t, os.WriteFile(path, b, 0o600))
	s = open()
	must(t, s.StoreLog(entry(1, 4)))
	must(t, s.Close())

	// Without memory of its votes a node must not vote.
	must(t, os.WriteFile(path, make([]byte, len(b)), 0o600))
	if s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger()); err == nil {
		s.Close()
		t.Error("opened with both copies damaged")
	}
	must(t, os.Remove(path))
	if s, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger()); err == nil {
		s.Close()
		t.Error("opened a log without its ballot")
	}
}

// TestBallotFull: a write that fails changes nothing.
func TestBallotFull(t *testing.T) {
	b, err := openBallot(t.TempDir(), raft.NewInmemStore(), newHealth("", quiet()))
	must(t, err)
	defer b.close()
	b.disk.step = nil // one attempt
	must(t, b.setTerm(2))
	b.disk.write = func(*os.File, []byte, int64) (int, error) { return 0, os.ErrPermission }
	b.vote(2)
	if err := b.set([]byte("a")); err == nil {
		t.Error("a vote was kept on a disk that takes nothing")
	}
	if p := b.get(); p.term != 2 || p.voteTerm != 0 || p.voteFor != nil {
		t.Errorf("it has %+v nevertheless", p)
	}
	b.disk.write = nil
	must(t, b.setTerm(3))
	if p := b.get(); p.term != 3 || p.voteTerm != 0 {
		t.Errorf("%+v", p)
	}
}

// TestBallotOfTheFirstFormat: two slots, of which the newer counts.
func TestBallotOfTheFirstFormat(t *testing.T) {
	dir := t.TempDir()
	slot := func(seq uint64, p paper) []byte {
		b := p.slot(seq)
		copy(b, ballotFirst)
		return binary.BigEndian.AppendUint32(b[:slotSize-4], crc32.Checksum(b[:slotSize-4], castagnoli))
	}
	old := append(slot(6, paper{term: 2}), make([]byte, slotApart)...)
	copy(old[slotApart:], slot(7, paper{term: 3, voteTerm: 3, voteFor: []byte("a")}))
	must(t, os.WriteFile(filepath.Join(dir, ballotName), old, 0o600))
	for range 2 {
		b, err := openBallot(dir, raft.NewInmemStore(), newHealth(dir, quiet()))
		must(t, err)
		if p := b.get(); p.term != 3 || p.voteTerm != 3 || string(p.voteFor) != "a" {
			t.Errorf("%+v", p)
		}
		must(t, b.close())
	}
}

func FuzzBallot(f *testing.F) {
	f.Add(paper{term: 3, voteTerm: 2, voteFor: []byte("10.0.0.1:7950")}.slot(7))
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, p, ok := parseSlot(b, ballotMagic)
		if ok && !bytes.HasPrefix(b, p.slot(seq)[:len(ballotMagic)+25+len(p.voteFor)]) {
			t.Errorf("%x is %d %+v", b, seq, p)
		}
	})
}
