package state

import (
	"errors"
	"fmt"
)

// Bounds of an encoded command. A larger one can be neither encoded nor
// decoded.
const (
	MaxCommand = 16 << 20 // bytes
	MaxOps     = 1 << 20
)

// commandVersion is the first byte of an encoded command.
const commandVersion = 1

// Append appends the encoding of the command to b: its version, time, author
// and operations. Of a SetServer only the named fields are encoded. What can
// not be encoded is an operation that does not exist, an option with a value of
// the wrong kind, and too much of anything.
func (c Command) Append(b []byte) ([]byte, error) {
	w := &coder{buf: b}
	version, n := uint8(commandVersion), uint64(len(c.Ops))
	w.byte(&version)
	time := int64(c.Time)
	w.int64(&time)
	w.text(&c.By)
	w.uint64(&n, MaxOps)
	for _, o := range c.Ops {
		w.op(&o)
	}
	if n := len(w.buf) - len(b); w.err == nil && n > MaxCommand {
		w.fail("%d bytes are more than %d", n, MaxCommand)
	}
	if w.err != nil {
		return b, fmt.Errorf("encode command: %w", w.err)
	}
	return w.buf, nil
}

// Decode reads what Append has made of a command, and nothing else: a command
// has one encoding. The result shares no memory with b. Whatever b is, there is
// an error at the worst, and memory is used in proportion to its length.
func Decode(b []byte) (Command, error) {
	c, err := decode(b)
	if err != nil {
		return Command{}, fmt.Errorf("decode command: %w", err)
	}
	return c, nil
}

func decode(b []byte) (c Command, err error) {
	if len(b) > MaxCommand {
		return c, fmt.Errorf("%d bytes are more than %d", len(b), MaxCommand)
	}
	r := &coder{buf: b, reading: true}
	var version uint8
	r.byte(&version)
	if r.err == nil && version != commandVersion {
		return c, fmt.Errorf("version %d, this program knows %d", version, commandVersion)
	}
	var time int64
	r.int64(&time)
	c.Time = Time(time)
	r.text(&c.By)
	var n uint64
	r.uint64(&n, MaxOps)
	for i := uint64(0); i < n && r.err == nil; i++ {
		var o Op
		r.op(&o)
		c.Ops = append(c.Ops, o)
	}
	if r.err == nil && len(r.buf) > 0 {
		r.fail("%d bytes too many", len(r.buf))
	}
	return c, r.err
}

// codes says for each operation what it consists of.
var codes = [...]func(*coder, Op) Op{
	opAddService:    codeOf(func(c *coder, o *AddService) { c.text(&o.Service) }),
	opRemoveService: codeOf(func(c *coder, o *RemoveService) { c.text(&o.Service) }),
	opSet: codeOf(func(c *coder, o *Set) {
		c.text(&o.Service)
		c.option(&o.Option)
		c.value(o.Option, &o.Value)
	}),
	opSetServer: codeOf(func(c *coder, o *SetServer) {
		c.text(&o.Service)
		c.int(&o.Index)
		c.fields(&o.Fields)
		for _, f := range serverFields {
			if o.Fields&f.bit != 0 {
				f.code(c, &o.Server)
			}
		}
	}),
	opRemoveServer: codeOf(func(c *coder, o *RemoveServer) {
		c.text(&o.Service)
		c.int(&o.Index)
	}),
	opFail: codeOf(func(c *coder, o *Fail) {
		c.text(&o.Service)
		c.int(&o.Index)
		c.address(&o.Was)
		c.uint16(&o.Port)
		c.int64((*int64)(&o.Mark))
	}),
	opRecover: codeOf(func(c *coder, o *Recover) {
		c.text(&o.Service)
		c.int(&o.Index)
		c.address(&o.Was)
		c.uint16(&o.Port)
		c.int64((*int64)(&o.Mark))
	}),
	opAppendACL: codeOf(func(c *coder, o *AppendACL) {
		c.int(&o.List)
		c.entry(&o.Entry)
	}),
	opClearACL: codeOf(func(c *coder, o *ClearACL) { c.int(&o.List) }),
	opAppendNamedACL: codeOf(func(c *coder, o *AppendNamedACL) {
		c.text(&o.Name)
		c.entry(&o.Entry)
	}),
	opRemoveNamedACL: codeOf(func(c *coder, o *RemoveNamedACL) { c.text(&o.Name) }),
	opVisits: codeOf(func(c *coder, o *Visits) {
		c.uint32(&o.Service)
		c.visits(&o.Clients)
	}),
	opSeedWith: codeOf(func(c *coder, o *SeedWith) { c.bytes(&o.Seed, MaxCommand) }),
	opRequest: codeOf(func(c *coder, o *Request) {
		if c.reading {
			copy(o.ID[:], c.take(len(o.ID)))
		} else {
			c.buf = append(c.buf, o.ID[:]...)
		}
	}),
	opSeeded: codeOf(func(c *coder, o *Seeded) {
		if c.reading {
			copy(o.Sum[:], c.take(len(o.Sum)))
		} else {
			c.buf = append(c.buf, o.Sum[:]...)
		}
	}),
	opSetNode: codeOf(func(c *coder, o *SetNode) {
		c.text(&o.Node)
		c.bool(&o.Drained)
	}),
	opRotateTickets: codeOf(func(c *coder, o *RotateTickets) {
		c.int64((*int64)(&o.Was))
		c.key(&o.Key)
	}),
	opMove: codeOf(func(c *coder, o *Move) {
		c.text(&o.Service)
		c.int(&o.Index)
		c.address(&o.Was)
		c.addr(&o.To)
	}),
	opSetLevel: codeOf(func(c *coder, o *SetLevel) { c.uint32((*uint32)(&o.Level)) }),
	opStamp:    codeOf(func(c *coder, o *Stamp) { c.int64((*int64)(&o.Wall)) }),
	opSetClients: codeOf(func(c *coder, o *SetClients) {
		c.text(&o.Service)
		c.visits(&o.Clients)
	}),
}

func codeOf[T Op](code func(*coder, *T)) func(*coder, Op) Op {
	return func(c *coder, o Op) Op {
		var t T
		if !c.reading {
			t = o.(T)
		}
		code(c, &t)
		return t
	}
}

func (c *coder) op(o *Op) {
	if !c.reading && *o == nil {
		c.err = errors.New("no operation")
		return
	}
	var code opcode
	if !c.reading {
		code = (*o).op()
	}
	c.byte((*uint8)(&code))
	if c.err == nil && (int(code) >= len(codes) || codes[code] == nil || code.level() > Newest) {
		c.fail("unknown operation %d", code)
	}
	if c.err == nil {
		*o = codes[code](c, *o)
	}
}

func (c *coder) option(o *Option) {
	c.uint16((*uint16)(o))
	if c.err == nil && !o.known() {
		c.fail("unknown %v", *o)
	}
}

func (c *coder) fields(f *ServerFields) {
	c.uint16((*uint16)(f))
	if c.err == nil && *f&^allFields != 0 {
		c.fail("unknown fields %#x", uint16(*f&^allFields))
	}
}

// value codes a value of the kind that the option has.
func (c *coder) value(o Option, v *Value) {
	if c.err != nil {
		return
	}
	kind := options[o].kind
	if c.reading {
		v.kind = kind
	}
	if v.kind != kind {
		c.fail("%v: got %v, want %v", o, v.kind, kind)
		return
	}
	switch kind {
	case kindInt:
		c.int(&v.num)
	case kindBool:
		yes := v.num != 0
		c.bool(&yes)
		*v = Bool(yes)
	case kindText:
		c.text(&v.text)
	case kindListen:
		c.listen(&v.listen)
	}
}

func (c *coder) listen(l *Listen) {
	c.text(&l.Text)
	c.addrPort(&l.Addr)
}

func (c *coder) entry(e *ACLEntry) {
	c.bool(&e.Permit)
	c.addr(&e.Addr)
	c.addr(&e.Mask)
	c.text(&e.Country)
}

func (c *coder) address(a *Address) {
	c.text(&a.Host)
	c.addr(&a.IP)
}
