package state

import (
	"slices"
	"time"
)

// Bounds of the record of changes. The oldest go first.
const (
	MaxChanges     = 256      // changes that are remembered
	MaxChangeBytes = 2 << 10  // of the operations of one, encoded; further ones are only counted
	maxChangesSize = 64 << 10 // of all of them
)

// Change is one command that has changed settings.
type Change struct {
	Time Time   // of the proposer's wall clock, or the state's where there was no Stamp
	By   string // who asked, see Command
	More int    // operations that there was no room for

	ops []byte // encoded, one after another
}

// Changes returns the last commands that have changed settings, the oldest first:
// those of people and files, not what comes by itself from traffic. They are kept
// from level 2 on.
func (v *View) Changes() []Change { return slices.Clip(v.changes) }

// Ops returns the operations of the change, without those that More counts. A change
// with neither has set known clients only.
func (c Change) Ops() []Op {
	r := &coder{buf: c.ops, reading: true}
	var all []Op
	for len(r.buf) > 0 {
		var o Op
		if r.op(&o); r.err != nil {
			return all // can not be: it was looked at when it came
		}
		all = append(all, o)
	}
	return all
}

// Stamp says what the proposer's wall clock showed, for the record: the state's
// time stands still while no node runs. It changes nothing.
type Stamp struct{ Wall Time }

func (Stamp) op() opcode { return opStamp }

func (o Stamp) String() string { return "at " + o.Wall.Time().UTC().Format(time.DateTime) }

// settles tells whether an operation is about settings: something that a person
// or a file has asked for, and that can be shown in one line.
func settles(o Op) bool {
	switch o.(type) {
	case AddService, RemoveService, Set, SetServer, RemoveServer, AppendACL, ClearACL, SetNode, SetLevel:
		return true
	}
	return false
}

// record remembers a command that was applied. Known clients that somebody sets have
// no room here, nor fit in a line: only that it was done is remembered, without
// operations, if there is a Stamp, and Command.By has to say how many. As with requests the array behind
// the changes is shared with earlier views.
func (v *View) record(c Command) {
	if v.Level() < 2 {
		return
	}
	change := Change{Time: v.Time, By: c.By}
	w := &coder{}
	stamped, clients := false, false
	for _, o := range c.Ops {
		switch o := o.(type) {
		case Stamp:
			change.Time, stamped = o.Wall, true
		case SetClients:
			clients = true
		}
		if !settles(o) {
			continue
		}
		before := len(w.buf)
		w.op(&o)
		if w.err != nil || len(w.buf) > MaxChangeBytes || change.More > 0 {
			w.buf, w.err = w.buf[:before], nil
			change.More++
		}
	}
	if len(w.buf)+change.More == 0 && (!clients || !stamped) {
		return
	}
	if len(w.buf) > 0 {
		change.ops = slices.Clip(w.buf)
	}
	v.changes = append(v.changes, change)
	size, first := 0, len(v.changes)
	for first > 0 && len(v.changes)-first < MaxChanges {
		if size += v.changes[first-1].size(); size > maxChangesSize {
			break
		}
		first--
	}
	v.changes = v.changes[first:]
}

func (c *Change) size() int { return len(c.By) + len(c.ops) }

func (c *Change) code(w *coder) {
	w.int64((*int64)(&c.Time))
	w.text(&c.By)
	w.int(&c.More)
	w.bytes(&c.ops, MaxChangeBytes)
	if !w.reading || w.err != nil {
		return
	}
	r := &coder{buf: c.ops, reading: true}
	for len(r.buf) > 0 && r.err == nil {
		var o Op
		r.op(&o)
	}
	if r.err != nil || c.More < 0 {
		w.fail("a change that can not be read: %v", r.err)
	}
}

// codeLevel codes what is there from level 2 on; a state of level 1 ends before.
func (h *head) codeLevel(c *coder) {
	if c.err != nil || c.reading && len(c.buf) == 0 || !c.reading && h.level < 2 {
		return
	}
	level := uint32(h.level)
	c.uint32(&level)
	if h.level = Level(level); c.err == nil && h.level > Newest {
		c.err = tooNew(h.level)
	}
	if h.level < 2 {
		c.fail("level %d is not written", h.level)
	}
	n := uint64(len(h.changes))
	c.uint64(&n, MaxChanges)
	for i := uint64(0); i < n && c.err == nil; i++ {
		if c.reading {
			h.changes = append(h.changes, Change{})
		}
		h.changes[i].code(c)
	}
	h.codeTickets(c)
}
