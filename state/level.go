package state

import "fmt"

// Level says which operations, and which parts of the state, are in use. The
// nodes of a cluster may be of different versions for a while: nothing that is new
// is proposed, kept or written to a snapshot before all of them understand it. At
// level 1 all encodings are those of the first version, to the byte.
//
// Level 2 keeps the last changes, see View.Changes, knows SetClients, has TLS (its
// settings and the keys of its session tickets), the PROXY protocol, access lists
// with names, names of servers that are looked up again, see Move, and the heads of HTTP.
type Level uint32

// SetLevel raises the level. It never goes down: a lower one changes nothing.
// Whoever proposes it has made sure that all nodes know that level.
type SetLevel struct{ Level Level }

func (SetLevel) op() opcode { return opSetLevel }

func (o SetLevel) String() string { return fmt.Sprintf("state level %d", o.Level) }

// Level returns the level of the state, 1 at least.
func (v *View) Level() Level { return max(v.level, 1) }

// levelOf is the level from which on there is such an operation.
func (o opcode) level() Level {
	switch o {
	case opSetLevel, opSetClients, opStamp, opRotateTickets, opAppendNamedACL, opRemoveNamedACL, opMove:
		return 2
	}
	return 1
}

// Needs is the level that operations need. Options and access lists are not looked
// at when they are applied, because what files ask for is worked out apart from any
// cluster: who proposes a change to a cluster asks here first.
func Needs(ops []Op) Level {
	need := Level(1)
	for _, o := range ops {
		need = max(need, o.op().level())
		switch o := o.(type) {
		case Set:
			if o.Option >= OptTLSCertificate {
				need = max(need, 2)
			}
		case SetServer:
			if o.Fields&FieldACLName != 0 {
				need = max(need, 2)
			}
		}
	}
	return need
}

// allowed tells why an operation can not be applied at this level. What raises the
// level comes before what needs it.
func (v *View) allowed(o Op) error {
	switch o.(type) {
	case nil, SetLevel, AppendNamedACL, RemoveNamedACL:
		return nil
	}
	if need := o.op().level(); need > v.Level() {
		return fmt.Errorf("that is of state level %d, and the state is at %d: not all nodes are new enough", need, v.Level())
	}
	return nil
}

func (d *draft) setLevel(o SetLevel) error {
	if o.Level > Newest {
		return tooNew(o.Level)
	}
	if o.Level > d.view.Level() {
		d.view.level = o.Level
		d.changed = true
	}
	return nil
}

func tooNew(l Level) error {
	return fmt.Errorf("state level %d: this program knows up to %d; install a newer one", l, Newest)
}
