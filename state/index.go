package state

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
)

// index finds the slot of a key: chains through the records, and linear
// hashing, which adds one bucket at a time, so that growing never stops
// anything.
//
// The hash is keyed with a seed of this process, against clients that choose
// their addresses to fall into one bucket. The order of a chain depends on it
// and nothing else does: the index is no part of the state, and not of a
// snapshot.
type index struct {
	seed    maphash.Seed
	buckets [maxBuckets / segmentSize]atomic.Pointer[segment]
	count   atomic.Uint32 // buckets there are

	// gates let readers find out that a chain changed under them: odd while it
	// does, and another number afterwards. All that ever share a bucket share
	// the gate.
	gates [gates]atomic.Uint32
}

const (
	gates       = 256 // no more than minBuckets, and a power of two
	minBuckets  = 256
	maxBuckets  = 1 << 22 // >= MaxClients
	segmentSize = 4096
)

type segment [segmentSize]link

func (x *index) hash(k key) uint32 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], k.hi)
	binary.LittleEndian.PutUint64(b[8:], k.lo)
	return uint32(maphash.Bytes(x.seed, b[:]))
}

func (x *index) gate(h uint32) *atomic.Uint32 { return &x.gates[h%gates] }

// bucket returns the head of the chain for a hash.
func (x *index) bucket(h uint32) *link {
	n := x.count.Load()
	high := uint32(1) << (bits.Len32(n) - 1) // the largest power of two in n
	b := h & (2*high - 1)
	if b >= n {
		b = h & (high - 1)
	}
	return x.head(b)
}

func (x *index) head(b uint32) *link {
	return &x.buckets[b/segmentSize].Load()[b%segmentSize]
}

// change announces to readers that the chain of a hash is being changed.
func (x *index) change(h uint32) change {
	g := x.gate(h)
	g.Add(1)
	return change{g}
}

type change struct{ gate *atomic.Uint32 }

func (c change) end() { c.gate.Add(1) }

// before returns the link that leads to a slot, which must be there, for
// writing.
func (x *index) before(t *Table, h uint32, slot uint32) *link {
	l := x.bucket(h)
	for l.load() != linkTo(slot) {
		r, _ := t.pages.own(l.load().slot())
		l = &r.chain
	}
	return l
}

// resize makes the buckets of an empty table that is about to be filled.
func (x *index) resize(n int) {
	n = max(n, minBuckets)
	for b := uint32(0); b < uint32(n); b += segmentSize {
		if x.buckets[b/segmentSize].Load() == nil {
			x.buckets[b/segmentSize].Store(new(segment))
		}
	}
	x.count.Store(uint32(n))
}

// keepUp adds a bucket if there are more clients than buckets.
func (x *index) keepUp(t *Table) {
	n := x.count.Load()
	if t.size.Load() <= int64(n) || n == maxBuckets {
		return
	}
	if x.buckets[n/segmentSize].Load() == nil {
		x.buckets[n/segmentSize].Store(new(segment))
	}
	high := uint32(1) << (bits.Len32(n) - 1)
	done := x.change(n)
	x.split(t, n-high, n, 2*high-1)
	x.count.Store(n + 1)
	done.end()
}

// due appends the heads of at most n chains that keepUp will split next.
func (x *index) due(heads []link, t *Table, n int) []link {
	count := x.count.Load()
	if t.size.Load()+int64(n) <= int64(count) || count == maxBuckets {
		return heads
	}
	high := uint32(1) << (bits.Len32(count) - 1)
	for from := count - high; from < min(count-high+uint32(n), high); from++ {
		heads = append(heads, x.head(from).load())
	}
	return heads
}

// split moves what belongs to the new bucket out of the old one, keeping the
// order of both.
func (x *index) split(t *Table, from, to, mask uint32) {
	left, moved := x.head(from), x.head(to)
	for at := left.load(); at != 0; {
		r, _ := t.pages.own(at.slot())
		next := r.chain.load()
		if x.hash(r.key())&mask == to {
			moved.store(at)
			moved = &r.chain
			left.store(next)
		} else {
			left = &r.chain
		}
		at = next
	}
	moved.store(0)
}
