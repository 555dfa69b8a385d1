package state

import (
	"iter"
	"sync/atomic"
)

// pages holds the records of a table in pages that are made when they are
// first needed. A snapshot shares the pages with the table; the machine copies
// a shared page before it writes to it. A reader that still has the old page
// sees it as it was a moment ago.
type pages struct {
	dir atomic.Pointer[[]atomic.Pointer[page]]
	// snapshots counts those that have not been released.
	snapshots atomic.Int32

	// epochs tells for each page in which epoch it became the table's own; a
	// snapshot begins a new epoch. Only the machine looks at them.
	epochs []uint32
	epoch  uint32
}

const pageSize = 1024

// page is 40 KiB, a whole number of the runtime's pages.
type page struct {
	records [pageSize]record
	orders  [pageSize]order
}

func (p *page) at(slot uint32) (*record, *order) {
	return &p.records[slot%pageSize], &p.orders[slot%pageSize]
}

// extend makes room in the directory for so many slots.
func (p *pages) extend(slots int) {
	n := (slots + pageSize - 1) / pageSize
	if n <= len(p.epochs) {
		return
	}
	dir := make([]atomic.Pointer[page], n)
	if old := p.dir.Load(); old != nil {
		for i := range *old {
			dir[i].Store((*old)[i].Load())
		}
	}
	p.dir.Store(&dir)
	p.epochs = append(p.epochs, make([]uint32, n-len(p.epochs))...)
}

// at returns the record of a slot for reading. The slot has been written to.
func (p *pages) at(slot uint32) *record {
	return &(*p.dir.Load())[slot/pageSize].Load().records[slot%pageSize]
}

// look returns what there is of a slot, for the machine to read.
func (p *pages) look(slot uint32) (*record, *order) {
	return (*p.dir.Load())[slot/pageSize].Load().at(slot)
}

// own returns what there is of a slot for writing, and for it alone: the next call
// for a slot of the same page gives the same page.
func (p *pages) own(slot uint32) (*record, *order) {
	i := slot / pageSize
	d := &(*p.dir.Load())[i]
	switch mine := d.Load(); {
	case mine == nil:
		d.Store(new(page))
	case p.epochs[i] != p.epoch && p.snapshots.Load() > 0:
		c := *mine
		d.Store(&c)
	}
	p.epochs[i] = p.epoch
	return d.Load().at(slot)
}

// slots goes over all slots that may have been used, in order.
func (p *pages) slots() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		dir := *p.dir.Load()
		for i := range dir {
			if dir[i].Load() == nil {
				continue
			}
			for n := range uint32(pageSize) {
				if !yield(uint32(i)*pageSize + n) {
					return
				}
			}
		}
	}
}

// frozen are the pages of a table at one moment.
type frozen []*page

// freeze shares the pages with a snapshot, until it calls release.
func (p *pages) freeze() frozen {
	dir := *p.dir.Load()
	f := make(frozen, len(dir))
	for i := range dir {
		f[i] = dir[i].Load()
	}
	p.epoch++
	p.snapshots.Add(1)
	return f
}

func (p *pages) release() { p.snapshots.Add(-1) }

func (f frozen) at(slot uint32) (*record, *order) { return f[slot/pageSize].at(slot) }
