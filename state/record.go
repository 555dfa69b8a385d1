package state

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
)

// A record is one slot of a client table as readers see it: 32 bytes without
// pointers, two to a cache line. The machine alone writes; readers use atomic
// loads.
type record struct {
	hi, lo uint64 // the key, see keyOf
	data   data
	// version is odd while key and data do not belong together.
	version uint32
	chain   link // the next record of the same bucket
}

// order is the place of a slot in the list of all that are taken, by how
// recently they were used. Only the machine looks at it.
type order struct{ newer, older link }

// link leads to a slot; the zero link leads nowhere.
type link uint32

func linkTo(slot uint32) link { return link(slot + 1) }
func (l link) slot() uint32   { return uint32(l - 1) }

func (l *link) load() link   { return link(atomic.LoadUint32((*uint32)(l))) }
func (l *link) store(v link) { atomic.StoreUint32((*uint32)(l), uint32(v)) }

// key is a client as the table knows it: the 16 bytes of its address, mapped if
// it is IPv4. All clients without an address are one.
type key struct {
	hi, lo uint64
	none   bool
}

func keyOf(a netip.Addr) key {
	if !a.IsValid() {
		return key{none: true}
	}
	hi, lo := words(a)
	return key{hi: hi, lo: lo}
}

func (k key) addr() netip.Addr {
	if k.none {
		return netip.Addr{}
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.AddrFrom16(b).Unmap()
}

// data is the rest of a record in one word, so that it changes at once: the
// second of the last use, the server, and what kind of record it is. A free
// slot has the zero data.
type data uint64

const (
	dataTaken data = 1 << 63
	dataNone  data = 1 << 62 // the key is that of clients without an address
)

func dataOf(k key, server int, used uint32) data {
	d := dataTaken
	if k.none {
		d |= dataNone
	}
	return d.with(server, used)
}

func (d data) with(server int, used uint32) data {
	return d&(dataTaken|dataNone) | data(uint16(int16(server)))<<32 | data(used)
}

func (d data) used() uint32 { return uint32(d) }
func (d data) server() int  { return int(int16(d >> 32)) }

func (r *record) load() data   { return data(atomic.LoadUint64((*uint64)(&r.data))) }
func (r *record) store(d data) { atomic.StoreUint64((*uint64)(&r.data), uint64(d)) }

// key is for the machine, which needs no atomic loads.
func (r *record) key() key {
	return key{hi: r.hi, lo: r.lo, none: r.data&dataNone != 0}
}

// holds tells whether the record is about k.
func (r *record) holds(k key) bool {
	return atomic.LoadUint64(&r.lo) == k.lo && atomic.LoadUint64(&r.hi) == k.hi &&
		r.load()&(dataTaken|dataNone) == dataOf(k, 0, 0)
}

// write makes the record one about another client.
func (r *record) write(k key, d data) {
	atomic.StoreUint32(&r.version, r.version+1)
	atomic.StoreUint64(&r.hi, k.hi)
	atomic.StoreUint64(&r.lo, k.lo)
	r.store(d)
	atomic.StoreUint32(&r.version, r.version+1)
}

func (r *record) clear() { r.write(key{}, 0) }

// read returns key and data as they belonged together at one moment; ok tells
// whether the slot is taken.
func (r *record) read() (k key, d data, ok bool) {
	for {
		before := atomic.LoadUint32(&r.version)
		k.hi, k.lo = atomic.LoadUint64(&r.hi), atomic.LoadUint64(&r.lo)
		d = r.load()
		if before&1 == 0 && atomic.LoadUint32(&r.version) == before {
			k.none = d&dataNone != 0
			return k, d, d&dataTaken != 0
		}
	}
}
