package proxy

import (
	"iter"
	"net/netip"
	"slices"
	"sync"

	"pen/state"
)

// tally is what this node counts about a client.
type tally struct {
	connects uint64
	sent     uint64 // bytes written to the client
	received uint64 // bytes read from it
}

func (t *tally) add(d tally) {
	t.connects += d.connects
	t.sent += d.sent
	t.received += d.received
}

// tallies are the counters of the clients that have a slot in the client table,
// by slot. They are this node's alone and not replicated. A slot changes hands
// without notice here, so each tally carries a mark of its client; one that
// belongs to somebody else counts as empty. It grows with the slots in use, and
// a client costs 32 bytes.
type tallies struct {
	mu     sync.Mutex // guards chunks and what is in them
	chunks []*[tallyChunk]owned
}

const tallyChunk = 1024

type owned struct {
	owner uint64 // fingerprint of the client; 0: nobody
	tally
}

// fingerprint stands for a client in 64 bits.
func fingerprint(client netip.Addr) uint64 { return hashAddr(client) | 1 }

// add adds d to the tally of the client who has the slot. If fresh, the client
// is new in it and starts from nothing.
func (t *tallies) add(slot int, owner uint64, d tally, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.at(slot)
	if o.owner != owner || fresh {
		*o = owned{owner: owner}
	}
	o.add(d)
}

// addIf adds d if the slot's tally is the client's.
func (t *tallies) addIf(slot int, owner uint64, d tally) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := slot / tallyChunk
	if slot < 0 || c >= len(t.chunks) || t.chunks[c] == nil || t.chunks[c][slot%tallyChunk].owner != owner {
		return false
	}
	t.chunks[c][slot%tallyChunk].add(d)
	return true
}

// get returns the tally of the client who has the slot.
func (t *tallies) get(slot int, owner uint64) tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := slot / tallyChunk
	if c >= len(t.chunks) || t.chunks[c] == nil || t.chunks[c][slot%tallyChunk].owner != owner {
		return tally{}
	}
	return t.chunks[c][slot%tallyChunk].tally
}

func (t *tallies) at(slot int) *owned {
	c := slot / tallyChunk
	if c >= len(t.chunks) {
		t.chunks = slices.Grow(t.chunks, c+1-len(t.chunks))[:c+1]
	}
	if t.chunks[c] == nil {
		t.chunks[c] = new([tallyChunk]owned)
	}
	return &t.chunks[c][slot%tallyChunk]
}

// clientStats returns the known clients, those of the table in slot order, then
// those that have no slot yet (Slot is -1) in the order in which they came last.
// Of all clients it copies those that are in the overlay.
func (s *service) clientStats(now state.Time) iter.Seq[ClientStats] {
	return func(yield func(ClientStats) bool) {
		m := s.memory
		recent, order := m.copy()
		tracking := int(m.tracking.Load())
		for e := range m.table.Load().All() {
			c := ClientStats{Slot: e.Slot, Client: e.Client, Server: e.Server, Used: e.Used}
			r, changed := recent[e.Client]
			if changed {
				c.Server, c.Used = r.server, r.used
				delete(recent, e.Client)
			}
			if expired(c.Used, now, tracking) {
				continue
			}
			var t tally
			if !changed || !r.fresh {
				t = m.tallies.get(e.Slot, fingerprint(e.Client))
			}
			t.add(r.tally)
			if !yield(c.with(t)) {
				return
			}
		}
		for _, client := range order {
			r, ok := recent[client]
			if !ok || expired(r.used, now, tracking) {
				continue
			}
			c := ClientStats{Slot: -1, Client: client, Server: r.server, Used: r.used}
			if !yield(c.with(r.tally)) {
				return
			}
		}
	}
}

func (c ClientStats) with(t tally) ClientStats {
	c.Connects, c.Sent, c.Received = t.connects, t.sent, t.received
	return c
}
