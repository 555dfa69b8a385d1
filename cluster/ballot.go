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

// ballot is raft's term and its vote in a file of two pairs of slots, which are
// written in turn: one sync for each change. In an election all wait for these, so
// they count; a database takes three times as many.
//
// A write that is cut short by a power loss spoils the older pair only. Both slots
// of a pair say the same, so that a slot that is damaged later is no reason to fall
// back to an older vote. Raft writes a vote in two steps, the term and for whom;
// they go to the disk together, at the second: a vote leaves only after that.
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
	ballotMagic = "pen ballot 2\n"
	ballotFirst = "pen ballot 1\n" // two slots, no pairs
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
func openBallot(dir string, log raft.LogStore, h *health) (*ballot, error) {
	path := filepath.Join(dir, ballotName)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b := &ballot{disk: &disk{root: root}}
	if err := b.renew(path); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
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
	b.disk.step = h.step
	return b, nil
}

var errNoBallot = errors.New("the last vote is gone: take the cluster's directory away, and this node joins as a new one")

// renew brings a ballot of the first format to the present one.
func (b *ballot) renew(path string) error {
	old, err := b.disk.read(path)
	if err != nil || len(old) != slotApart+slotSize {
		return ignoreMissing(err)
	}
	found := false
	for i := range 2 {
		if seq, p, ok := parseSlot(old[i*slotApart:][:slotSize], ballotFirst); ok && (!found || seq > b.seq) {
			b.seq, b.paper, found = seq, p, true
		}
	}
	if !found {
		return errNoBallot
	}
	return b.write(path)
}

// write makes a file of all slots.
func (b *ballot) write(path string) error {
	return b.disk.create(path, func(w io.Writer) error {
		all := make([]byte, 3*slotApart+slotSize)
		for i := range 4 {
			copy(all[i*slotApart:], b.paper.slot(b.seq))
		}
		_, err := w.Write(all)
		return err
	})
}

func (b *ballot) begin(path string, log raft.LogStore) error {
	if last, err := log.LastIndex(); err != nil || last > 0 {
		return cmp.Or(err, errNoBallot)
	}
	return b.write(path)
}

func (b *ballot) read() error {
	damaged := 0
	for pair := range int64(2) {
		found := false
		for i := range int64(2) {
			at := (2*pair + i) * slotApart
			raw := make([]byte, slotSize)
			if _, err := b.file.ReadAt(raw, at); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			seq, p, ok := parseSlot(raw, ballotMagic)
			if !ok {
				damaged++
				continue
			}
			if found = true; seq >= b.seq {
				b.seq, b.paper = seq, p
			}
		}
		if !found {
			return fmt.Errorf("bytes %d and %d: both copies are damaged: %w", 2*pair*slotApart, (2*pair+1)*slotApart, errNoBallot)
		}
	}
	if damaged == 0 {
		return nil
	}
	// Two copies of everything again.
	return errors.Join(b.keep(b.paper), b.keep(b.paper))
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

func parseSlot(b []byte, magic string) (seq uint64, p paper, ok bool) {
	if len(b) != slotSize || string(b[:len(magic)]) != magic {
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
	slot, pair := p.slot(seq), int64(seq%2)*2
	// Each attempt writes all of it: a sync means something only after that.
	err := b.disk.do("write", b.file.Name(), func() error {
		for i := range int64(2) {
			if _, err := b.put(slot, (pair+i)*slotApart); err != nil {
				return err
			}
		}
		return b.file.Sync()
	})
	if err != nil {
		return fmt.Errorf("keep the vote: %w", err)
	}
	b.seq, b.paper = seq, p
	return nil
}

func (b *ballot) put(slot []byte, at int64) (int, error) {
	if b.disk.write != nil {
		return b.disk.write(b.file, slot, at)
	}
	return b.file.WriteAt(slot, at)
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
