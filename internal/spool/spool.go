// Package spool writes lines down for those who must not wait.
//
// It promises that Put never waits for a disk, a reader or a network, that a line
// is written whole or not at all and in the order of Put, that memory stays within
// Room, and that every line that was not written is counted.
//
// It leaves out what the lines say.
package spool

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Room is how many bytes wait to be written at most.
	Room = 4 << 20

	// LineMost is how long a line may be, its end included. A pipe takes that much
	// whole or not at all.
	LineMost = 4096

	// gather is how long the first of several lines waits for the others: so a
	// busy log costs its writer fifty calls a second, and those who put lines
	// hardly ever a wake.
	gather = 20 * time.Millisecond

	// spare is how large a buffer may be that is kept for later.
	spare = 1 << 20
)

// Target is where lines go. One goroutine uses it, but for Hurry.
type Target interface {
	// Write writes lines, each with its end, and tells how many of them are lost
	// and why.
	Write(lines []byte) (lost int, err error)

	// Hurry gives a write that is under way, or comes yet, until end where it can be
	// interrupted.
	Hurry(end time.Time)

	Close() error
}

// Counts are what became of lines. Several spools may share them.
type Counts struct {
	Written atomic.Uint64
	Lost    atomic.Uint64
}

// Spool takes lines for one target.
type Spool struct {
	to     Target
	counts *Counts
	tell   func(error)
	news   chan struct{} // something was put; room for one
	ending chan struct{} // closed by Close
	done   chan struct{}
	once   sync.Once

	mu     sync.Mutex // guards the rest
	lines  []byte
	closed bool
}

// New returns a spool for a target, which is the spool's from then on. tell is
// called when writing fails, once until it succeeds again, and then with nil. Lines
// may be put at once; they are written when Run runs.
func New(to Target, counts *Counts, tell func(error)) *Spool {
	return &Spool{
		to: to, counts: counts, tell: tell,
		news: make(chan struct{}, 1), ending: make(chan struct{}), done: make(chan struct{}),
	}
}

// Put takes a line, which includes its end, or drops it and counts that. It never
// waits. False: the spool is closed, and has a successor or none.
func (s *Spool) Put(line []byte) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	if len(s.lines)+len(line) > Room || len(line) > LineMost {
		s.mu.Unlock()
		s.counts.Lost.Add(1)
		return true
	}
	first := len(s.lines) == 0
	s.lines = append(s.lines, line...)
	s.mu.Unlock()
	if first {
		select {
		case s.news <- struct{}{}:
		default:
		}
	}
	return true
}

// Run writes what is put until Close, and what is left then; after that the target
// is closed. It begins when its predecessor, if there is one, is done or has had
// the patience: so the lines of both are in order unless a disk hangs.
func (s *Spool) Run(before *Spool, patience time.Duration) {
	defer close(s.done)
	defer func() { _ = s.to.Close() }() // every write was looked at
	if before != nil {
		late := time.NewTimer(patience)
		select {
		case <-before.done:
		case <-late.C:
		}
		late.Stop()
	}
	var lines []byte
	var broken, over bool
	for !over {
		select {
		case <-s.news:
			s.pause()
		case <-s.ending:
		}
		lines, over = s.take(lines)
		if len(lines) == 0 {
			continue
		}
		lost, err := s.to.Write(lines)
		s.counts.Lost.Add(uint64(lost))
		s.counts.Written.Add(uint64(bytes.Count(lines, newline) - lost))
		if (err != nil) != broken {
			broken = err != nil
			s.tell(err)
		}
	}
}

var newline = []byte{'\n'}

// pause waits for more lines, unless the spool ends.
func (s *Spool) pause() {
	t := time.NewTimer(gather)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ending:
	}
}

// take returns what was put, and gives the buffer of before for what comes. When
// the spool ends and nothing is left, nothing more is taken.
func (s *Spool) take(before []byte) (lines []byte, over bool) {
	if cap(before) > spare {
		before = nil
	}
	ending := false
	select {
	case <-s.ending:
		ending = true
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, s.lines = s.lines, before[:0]
	s.closed = ending && len(lines) == 0
	return lines, s.closed
}

// Close has the spool write what was put, for until end where that can be
// interrupted, and close its target. It does not wait; see Done.
func (s *Spool) Close(end time.Time) {
	s.once.Do(func() {
		close(s.ending)
		s.to.Hurry(end)
	})
}

// Done is closed when Run has returned.
func (s *Spool) Done() <-chan struct{} { return s.done }
