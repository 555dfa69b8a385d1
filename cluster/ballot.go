package cluster

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"
)

// ballot is raft's term and its vote in a file of two slots, which are written in
// turn: one write and one sync for each change. In an election all wait for
// these, so they count; a database takes three times as many.
//
// A write that is cut short by a power loss spoils the older slot only. Raft
// writes a vote in two steps, the term and for whom; they go to the disk
// together, at the second: a vote leaves only after that.
type ballot struct {
	disk *disk
	file *os.File

	mu     sync.Mutex // guards what follows
	seq    uint64     // of the slot that counts
	paper  paper
	voting uint64 // the term of a vote whose second step has not come
}

// paper is what a slot holds.
type paper struct {
	term     uint64 // raft's current one
	voteTerm uint64 // the last one in which this node has voted
	voteFor  []byte
}

const (
	ballotName  = "ballot"
	ballotMagic = "pen ballot 1\n"
	slotSize    = 512
	slotApart   = 4096 // so that no sector has both
	voteForMax  = 255
)

// The keys that raft uses.
const (
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVoteFor  = "LastVoteCand"
)

// openBallot opens the ballot in a directory. Only a directory whose log is empty
// may be without one: who has forgotten its vote must not vote.
func openBallot(dir string, log raft.LogStore) (*ballot, error) {
	path := filepath.Join(dir, ballotName)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b := &ballot{disk: &disk{root: root}}
	if b.file, err = b.disk.open(path, os.O_RDWR); errors.Is(err, fs.ErrNotExist) {
		if err = b.begin(path, log); err == nil {
			b.file, err = b.disk.open(path, os.O_RDWR)
		}
	}
	if err == nil {
		err = b.read()
	}
	if err != nil {
		_ = b.close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return b, nil
}

var errNoBallot = errors.New("the last vote is gone: take the cluster's directory away, and this node joins as a new one")

func (b *ballot) begin(path string, log raft.LogStore) error {
	if last, err := log.LastIndex(); err != nil || last > 0 {
		return cmp.Or(err, errNoBallot)
	}
	return b.disk.create(path, func(w io.Writer) error {
		_, err := w.Write(append(paper{}.slot(0), make([]byte, slotApart)...))
		return err
	})
}

func (b *ballot) read() error {
	found := false
	for i := range int64(2) {
		raw := make([]byte, slotSize)
		if _, err := b.file.ReadAt(raw, i*slotApart); err != nil {
			return err
		}
		if seq, p, ok := parseSlot(raw); ok && (!found || seq > b.seq) {
			b.seq, b.paper, found = seq, p, true
		}
	}
	if !found {
		return errNoBallot
	}
	return nil
}

// slot is the bytes of a paper, a whole slot.
func (p paper) slot(seq uint64) []byte {
	b := append(make([]byte, 0, slotSize), ballotMagic...)
	for _, n := range []uint64{seq, p.term, p.voteTerm} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(append(b, byte(len(p.voteFor))), p.voteFor...)
	b = append(b, make([]byte, slotSize-4-len(b))...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseSlot(b []byte) (seq uint64, p paper, ok bool) {
	if len(b) != slotSize || string(b[:len(ballotMagic)]) != ballotMagic {
		return 0, p, false
	}
	if crc32.Checksum(b[:slotSize-4], castagnoli) != binary.BigEndian.Uint32(b[slotSize-4:]) {
		return 0, p, false
	}
	r := reader{b: b[len(ballotMagic):]}
	seq, p.term, p.voteTerm = r.u64(), r.u64(), r.u64()
	if n := int(r.u8()); n > 0 {
		p.voteFor = append([]byte(nil), r.b[:n]...)
	}
	return seq, p, true
}

// keep makes p what counts, on the disk first. It is called with mu held.
func (b *ballot) keep(p paper) error {
	seq := b.seq + 1
	if err := b.disk.writeAt(b.file, p.slot(seq), int64(seq%2)*slotApart); err != nil {
		return fmt.Errorf("keep the vote: %w", err)
	}
	if err := b.disk.sync(b.file); err != nil {
		return fmt.Errorf("keep the vote: %w", err)
	}
	b.seq, b.paper = seq, p
	return nil
}

// vote is the first step of one: it is not kept before the second.
func (b *ballot) vote(term uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.voting = term
}

// set is the second step: for whom.
func (b *ballot) set(v []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(v) > voteForMax {
		return fmt.Errorf("keep the vote: for %d bytes", len(v))
	}
	p := b.paper
	p.voteTerm, p.voteFor = max(p.voteTerm, b.voting), append([]byte(nil), v...)
	return b.keep(p)
}

func (b *ballot) setTerm(term uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.paper
	p.term = term
	return b.keep(p)
}

func (b *ballot) get() paper {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.paper
}

func (b *ballot) close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}
