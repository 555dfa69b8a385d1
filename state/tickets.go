package state

import "slices"

// MaxTickets is how many keys of session tickets are kept.
const MaxTickets = 4

// TicketKey is a key with which session tickets of TLS are sealed. With it a
// client that has met one node resumes its session with another. Who has it reads
// such tickets: it is in the log and in snapshots, and nowhere else.
type TicketKey struct {
	Since Time // the state's, when it came; no two keys have the same
	Key   [32]byte
}

// RotateTickets puts a new key before those that there are; the oldest goes if
// there are too many. It does nothing if the newest is no longer the one of that
// time (zero: there was none), so that two nodes that do it at once do it once.
type RotateTickets struct {
	Was Time
	Key [32]byte // random, from the sender
}

func (RotateTickets) op() opcode { return opRotateTickets }

// String does not tell the key.
func (o RotateTickets) String() string { return "new key for session tickets" }

// Tickets returns the keys for session tickets, the newest first. The newest
// seals, all of them open.
func (v *View) Tickets() []TicketKey { return slices.Clip(v.tickets) }

func (d *draft) rotateTickets(o RotateTickets) error {
	newest := Time(0)
	if len(d.view.tickets) > 0 {
		newest = d.view.tickets[0].Since
	}
	if o.Was != newest {
		return nil
	}
	keys := append([]TicketKey{{max(d.view.Time, newest+1), o.Key}}, d.view.tickets...)
	d.view.tickets = keys[:min(len(keys), MaxTickets)]
	d.changed = true
	return nil
}

// codeTickets codes the keys; a state without ends before.
func (h *head) codeTickets(c *coder) {
	n := uint64(len(h.tickets))
	if c.err != nil || c.reading && len(c.buf) == 0 || !c.reading && n == 0 {
		return
	}
	c.uint64(&n, MaxTickets)
	for i := uint64(0); i < n && c.err == nil; i++ {
		if c.reading {
			h.tickets = append(h.tickets, TicketKey{})
		}
		k := &h.tickets[i]
		c.int64((*int64)(&k.Since))
		c.key(&k.Key)
		if i > 0 && k.Since >= h.tickets[i-1].Since {
			c.fail("keys of session tickets out of order")
		}
	}
	if n == 0 {
		c.fail("no keys of session tickets are not written")
	}
}

func (c *coder) key(k *[32]byte) {
	if c.reading {
		copy(k[:], c.take(len(k)))
	} else if c.err == nil {
		c.buf = append(c.buf, k[:]...)
	}
}
