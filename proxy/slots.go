package proxy

import (
	"math/bits"
	"sync"
)

// slots are the numbers of connections, 0 to max-1. A new connection takes the
// number that was taken last if it is free again, else the next free one above
// it, going round. That is the original's order.
//
// It is safe for all loops at once. The zero value has no numbers; see grow.
type slots struct {
	mu   sync.Mutex // guards the rest
	max  int
	used int
	last int
	busy []uint64 // a bit for each number, set when it is taken
	full []uint64 // a bit for each word of busy, set when no bit of it is clear
}

// grow makes it max numbers. A smaller number than before changes nothing.
func (s *slots) grow(max int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if max <= s.max {
		return
	}
	words := (max + 63) / 64
	busy := make([]uint64, words)
	copy(busy, s.busy)
	if s.max%64 != 0 { // numbers beyond the old end were kept as taken
		busy[s.max/64] &= 1<<(s.max%64) - 1
	}
	if max%64 != 0 {
		busy[words-1] |= ^uint64(0) << (max % 64)
	}
	s.busy, s.max = busy, max
	s.full = make([]uint64, (words+63)/64)
	for w := range s.full { // words that do not exist are full
		s.full[w] = ^uint64(0)
	}
	for w := range busy {
		s.note(w)
	}
}

// take takes a number. False: all are taken.
func (s *slots) take() (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used >= s.max {
		return 0, false
	}
	n, ok := s.free(s.last)
	if !ok {
		n, _ = s.free(0)
	}
	s.busy[n/64] |= 1 << (n % 64)
	s.note(n / 64)
	s.used++
	s.last = n
	return n, true
}

// give gives number n back, which was taken.
func (s *slots) give(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[n/64] &^= 1 << (n % 64)
	s.note(n / 64)
	s.used--
}

// figures returns how many numbers there are, how many of them are taken, and
// which was taken last.
func (s *slots) figures() (max, used, last int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.max, s.used, s.last
}

// free finds the first free number from n on.
func (s *slots) free(n int) (int, bool) {
	w := n / 64
	if rest := ^s.busy[w] &^ (1<<(n%64) - 1); rest != 0 {
		return w*64 + bits.TrailingZeros64(rest), true
	}
	w++
	below := uint64(1)<<(w%64) - 1 // words already looked at
	for f := w / 64; f < len(s.full); f++ {
		if rest := ^s.full[f] &^ below; rest != 0 {
			w = f*64 + bits.TrailingZeros64(rest)
			return w*64 + bits.TrailingZeros64(^s.busy[w]), true
		}
		below = 0
	}
	return 0, false
}

func (s *slots) note(w int) {
	if ^s.busy[w] == 0 {
		s.full[w/64] |= 1 << (w % 64)
	} else {
		s.full[w/64] &^= 1 << (w % 64)
	}
}
