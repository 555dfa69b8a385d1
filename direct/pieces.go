package direct

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// pieces remembers where the first piece of a datagram went, so that the others, which
// have no ports, follow it. A place holds one datagram; another one that falls on the
// same place takes it, and pieces that find nothing are dropped and counted: what
// can be retransmitted will be, and nobody can fill more memory than this.
type pieces struct {
	seed  maphash.Seed
	table []whole
}

const (
	pieceSlots = 1024
	pieceAge   = 5 * time.Second // the last piece follows the first within moments
)

type datagram struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
}

type whole struct {
	datagram
	to  *server
	was time.Time
}

func newPieces() *pieces {
	return &pieces{seed: maphash.MakeSeed(), table: make([]whole, pieceSlots)}
}

func (t *pieces) slot(p *packet) (*whole, datagram) {
	d := datagram{p.src, p.dst, p.id, p.proto}
	return &t.table[maphash.Comparable(t.seed, d)%pieceSlots], d
}

// first notes where a datagram goes whose first piece p is.
func (t *pieces) first(p *packet, to *server, now time.Time) {
	w, d := t.slot(p)
	*w = whole{d, to, now}
}

// follow tells where the datagram goes of which p is a later piece; nil: not known.
func (t *pieces) follow(p *packet, now time.Time) *server {
	if w, d := t.slot(p); w.datagram == d && now.Sub(w.was) < pieceAge {
		return w.to
	}
	return nil
}
