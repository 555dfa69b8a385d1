package state

import "math/bits"

// bitmap is a set of slots that finds its lowest member in a few steps: each
// word of a level above tells which words of the level below are not empty.
type bitmap [][]uint64

// extend adds all of from..to-1, of which none is a member.
func (m *bitmap) extend(from, to int) {
	for level, n := 0, to; ; level++ {
		n = (n + 63) / 64
		if level == len(*m) {
			*m = append(*m, nil)
		}
		l := &(*m)[level]
		*l = append(*l, make([]uint64, max(0, n-len(*l)))...)
		if n == 1 {
			break
		}
	}
	for i := from; i < to; {
		if n := min(to-i, 64-i%64); n == 64 {
			(*m)[0][i/64] = ^uint64(0)
			i += n
			continue
		}
		(*m)[0][i/64] |= 1 << (i % 64)
		i++
	}
	for level := 1; level < len(*m); level++ {
		for i, w := range (*m)[level-1] {
			if w != 0 {
				(*m)[level][i/64] |= 1 << (i % 64)
			}
		}
	}
}

// lowest returns the smallest member.
func (m bitmap) lowest() (uint32, bool) {
	top := m[len(m)-1][0]
	if top == 0 {
		return 0, false
	}
	at := 0
	for level := len(m) - 1; level >= 0; level-- {
		at = at*64 + bits.TrailingZeros64(m[level][at])
	}
	return uint32(at), true
}

// has tells whether a slot is a member.
func (m bitmap) has(slot uint32) bool { return m[0][slot/64]&(1<<(slot%64)) != 0 }

// give makes a slot a member.
func (m bitmap) give(slot uint32) {
	for level := range m {
		w := &m[level][slot/64]
		full := *w != 0
		*w |= 1 << (slot % 64)
		if full {
			return
		}
		slot /= 64
	}
}

// take makes a slot no member.
func (m bitmap) take(slot uint32) {
	for level := range m {
		w := &m[level][slot/64]
		*w &^= 1 << (slot % 64)
		if *w != 0 {
			return
		}
		slot /= 64
	}
}
