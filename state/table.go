package state

import (
	"hash/maphash"
	"iter"
	"net/netip"
	"runtime"
	"sync/atomic"
)

// Table is the table of a service's known clients: which server each was sent
// to, and when it was last seen. Look-ups come from any goroutine while the
// machine changes the table, and wait for nobody.
//
// Slots are stable: a client keeps its slot until it is forgotten. A new client
// takes the lowest free slot. If there is none, the client that was seen least
// recently, in the order of the log, makes room. All of this follows from the
// log alone, so it is the same on every node.
type Table struct {
	pages pages
	index index

	size    atomic.Int64  // slots in use
	max     atomic.Int64  // slots there are
	horizon atomic.Uint32 // clients last seen before this second are forgotten

	// The rest belongs to the machine.
	free   bitmap
	newest link
	oldest link
}

// Entry is what a table knows about one client.
type Entry struct {
	Client netip.Addr // invalid: the clients on Unix sockets
	Slot   int
	Server int  // index of the server, or Emergency, Abuse, None
	Used   Time // when the client was last seen, to the second
}

// How much forgetting one step pays for: some at each command, and more than
// one client for each new one, so that the forgotten never pile up.
const (
	reapCommand = 256
	reapVisit   = 2
)

func newTable(slots int) *Table {
	t := &Table{}
	t.index.seed = maphash.MakeSeed()
	t.index.resize(minBuckets)
	t.resize(slots)
	return t
}

// Lookup returns what is known about a client. One that has not been seen for
// the tracking time of the service is not known. It allocates nothing, takes no
// lock, and its cost does not depend on the size of the table.
func (t *Table) Lookup(client netip.Addr) (Entry, bool) {
	k := keyOf(client)
	h := t.index.hash(k)
	for try := 1; ; try++ {
		slot, d, found, sure := t.find(k, h)
		switch {
		case !sure && try%16 == 0:
			runtime.Gosched()
		case !sure:
		case !found || d.used() < t.horizon.Load():
			return Entry{}, false
		default:
			return entryOf(slot, k, d), true
		}
	}
}

// find looks for a key. It is not sure when the chain changed meanwhile.
func (t *Table) find(k key, h uint32) (slot uint32, d data, found, sure bool) {
	gate := t.index.gate(h)
	before := gate.Load()
	if before&1 != 0 {
		return 0, 0, false, false
	}
	steps := 0
	for at := t.index.bucket(h).load(); at != 0; steps++ {
		r := t.pages.at(at.slot())
		if r.holds(k) {
			slot, d, found = at.slot(), r.load(), true
			break
		}
		at = r.chain.load()
		// A chain that changes under our feet may lead in circles.
		if steps%64 == 63 && gate.Load() != before {
			return 0, 0, false, false
		}
	}
	return slot, d, found, gate.Load() == before
}

// Len returns the number of slots in use. Clients whose tracking time has just
// run out are among them until their slot is cleared.
func (t *Table) Len() int { return int(t.size.Load()) }

// Max returns the number of slots.
func (t *Table) Max() int { return int(t.max.Load()) }

// All returns the clients in the order of their slots. It holds nothing up:
// each client is as it was when the loop came by.
func (t *Table) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for slot := range t.pages.slots() {
			k, d, ok := t.pages.at(slot).read()
			if ok && d.used() >= t.horizon.Load() && !yield(entryOf(slot, k, d)) {
				return
			}
		}
	}
}

func entryOf(slot uint32, k key, d data) Entry {
	return Entry{Client: k.addr(), Slot: int(slot), Server: d.server(), Used: Time(d.used()) * 1000}
}

// resize gives the table that many slots. Clients in slots beyond are forgotten.
func (t *Table) resize(slots int) {
	old := t.Max()
	if slots > old {
		t.free.extend(old, slots)
		t.pages.extend(slots)
	}
	if slots < old {
		for slot := range t.pages.slots() {
			if int(slot) >= slots && int(slot) < old && !t.free.has(slot) {
				t.remove(slot)
			}
		}
		for slot := slots; slot < old; slot++ {
			t.free.take(uint32(slot))
		}
	}
	t.max.Store(int64(slots))
}

// advance forgets what is older than the tracking time. What has been forgotten
// stays so, also when the tracking time is made longer.
func (t *Table) advance(now Time, tracking int) {
	if tracking > 0 {
		if h := int64(now/1000) - int64(tracking); h > int64(t.horizon.Load()) {
			t.horizon.Store(uint32(h))
		}
	}
}

// reap clears the slots of at most n forgotten clients.
func (t *Table) reap(n int) {
	for ; n > 0 && t.oldest != 0; n-- {
		slot := t.oldest.slot()
		if t.pages.at(slot).load().used() >= t.horizon.Load() {
			return
		}
		t.remove(slot)
	}
}

// visit records that a client came.
func (t *Table) visit(v Visit, now Time) {
	used := uint32(max(0, int64(now/1000)-int64(v.Ago)))
	if used < t.horizon.Load() {
		return // forgotten before it was known
	}
	k := keyOf(v.Client)
	h := t.index.hash(k)
	slot, d, found, _ := t.find(k, h)
	if found && d.used() < t.horizon.Load() {
		t.remove(slot)
		found = false
	}
	if found {
		t.touch(slot, d, v.Server, used)
	} else {
		t.add(k, h, v.Server, used)
	}
	t.reap(reapVisit)
}

// warm reads what is about to be read for the visits, and does nothing with it. A
// visit waits for memory most of its time, several times and each time for what it
// found the time before; for many at once the answers come side by side.
func (t *Table) warm(visits []Visit) (sum data) {
	var room [3 * visitsAtOnce]link // for them, for who makes room, for growing
	heads := room[:0]
	for _, v := range visits {
		heads = append(heads, t.index.bucket(t.index.hash(keyOf(v.Client))).load())
	}
	if t.Len()+len(visits) > t.Max() { // these may have to make room
		for at := t.oldest; at != 0 && len(heads) < 2*visitsAtOnce; {
			r, o := t.pages.look(at.slot())
			heads = append(heads, t.index.bucket(t.index.hash(r.key())).load())
			at = o.newer
		}
	}
	heads = t.index.due(heads, t, len(visits))
	for _, l := range heads {
		if l != 0 {
			sum ^= t.pages.at(l.slot()).load()
		}
	}
	return sum
}

func (t *Table) touch(slot uint32, d data, server int, used uint32) {
	if server == Keep {
		server = d.server()
	}
	r, o := t.pages.own(slot)
	r.store(d.with(server, max(used, d.used())))
	t.unlink(o)
	t.pushNewest(slot)
}

func (t *Table) add(k key, h uint32, server int, used uint32) {
	if server == Keep {
		server = None
	}
	slot, ok := t.free.lowest()
	if !ok {
		slot = t.oldest.slot()
		t.remove(slot)
	}
	t.put(slot, k, h, dataOf(k, server, used))
	t.pushNewest(slot)
	t.index.keepUp(t)
}

// put writes a record into a free slot and into the index.
func (t *Table) put(slot uint32, k key, h uint32, d data) {
	t.free.take(slot)
	r, _ := t.pages.own(slot)
	b := t.index.bucket(h)
	done := t.index.change(h)
	r.write(k, d)
	r.chain.store(b.load())
	b.store(linkTo(slot))
	done.end()
	t.size.Add(1)
}

// remove clears a slot.
func (t *Table) remove(slot uint32) {
	r, o := t.pages.own(slot)
	t.unlink(o)
	h := t.index.hash(r.key())
	done := t.index.change(h)
	t.index.before(t, h, slot).store(r.chain.load())
	r.clear()
	done.end()
	t.free.give(slot)
	t.size.Add(-1)
}

func (t *Table) order(slot uint32) *order {
	_, o := t.pages.own(slot)
	return o
}

func (t *Table) pushNewest(slot uint32) {
	*t.order(slot) = order{older: t.newest}
	if t.newest != 0 {
		t.order(t.newest.slot()).newer = linkTo(slot)
	} else {
		t.oldest = linkTo(slot)
	}
	t.newest = linkTo(slot)
}

// pushOldest is for restoring, which goes from the newest to the oldest.
func (t *Table) pushOldest(slot uint32) {
	*t.order(slot) = order{newer: t.oldest}
	if t.oldest != 0 {
		t.order(t.oldest.slot()).older = linkTo(slot)
	} else {
		t.newest = linkTo(slot)
	}
	t.oldest = linkTo(slot)
}

func (t *Table) unlink(o *order) {
	if o.newer != 0 {
		t.order(o.newer.slot()).older = o.older
	} else {
		t.newest = o.older
	}
	if o.older != 0 {
		t.order(o.older.slot()).newer = o.newer
	} else {
		t.oldest = o.newer
	}
}
