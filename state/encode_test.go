package state

import (
	"bytes"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// examples has every operation and every kind of value.
func examples() []Command {
	listen := Listen{"[fe80::1%eth0]:80", netip.MustParseAddrPort("[fe80::1%eth0]:80")}
	server := Server{Address: Address{"www1", netip.MustParseAddr("10.0.0.1")}, Port: 80, Soft: 1, Hard: -2, Weight: 3, Prio: 4, ACL: Numbered(5), Mark: 6}
	return []Command{
		{},
		{Time: -5, By: "control 127.0.0.1:4711"},
		{Time: math.MaxInt64, Ops: []Op{
			AddService{"web"},
			RemoveService{""},
			Set{"web", OptListen, Bind(listen)},
			Set{"", OptTimeout, Int(-7)},
			Set{"", OptNoDelay, Bool(true)},
			Set{"", OptSource, Text("10.0.0.9")},
			Set{"", OptControlACL, Int(3)},
			SetServer{"web", Emergency, allFields, server},
			RemoveServer{"web", 4095},
			Fail{"web", 1, server.Address, 80, 78},
			Recover{"web", 1, server.Address, 80, 77},
			AppendACL{1, ACLEntry{Permit: true, Addr: netip.MustParseAddr("::ffff:10.0.0.1"), Mask: netip.MustParseAddr("ffff::")}},
			AppendACL{1, ACLEntry{Country: "SE"}},
			ClearACL{9},
			SetServer{"web", 1, FieldACLName, Server{ACL: List{Name: "office"}}},
			Set{"web", OptClientList, Text("office")},
			AppendNamedACL{"office", ACLEntry{Permit: true, Addr: netip.MustParseAddr("10.0.0.0"), Mask: netip.MustParseAddr("255.0.0.0")}},
			RemoveNamedACL{"office"},
			Visits{7, []Visit{{netip.Addr{}, Keep, 0}, {netip.MustParseAddr("10.0.0.1"), 4095, math.MaxUint32}, {netip.MustParseAddr("::1"), 0, 1}}},
			SeedWith{[]byte{1, 2, 3}},
			SetLevel{Newest},
			Stamp{-5},
			RotateTickets{77, [32]byte{1, 31: 2}},
			Move{"web", 1, server.Address, netip.MustParseAddr("2001:db8::7")},
			SetClients{"web", []Visit{{netip.Addr{}, None, 0}, {netip.MustParseAddr("10.0.0.1"), 4095, math.MaxUint32}}},
		}},
	}
}

func encoded(t fatal, c Command) []byte {
	b, err := c.Append([]byte("before"))
	if err != nil || !bytes.HasPrefix(b, []byte("before")) {
		t.Fatalf("append: %v", err)
	}
	return b[len("before"):]
}

func TestEncodeDecode(t *testing.T) {
	check := func(t fatal, c Command) {
		b := encoded(t, c)
		got, err := Decode(b)
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
		same(t, "command", got, c)
		if again := encoded(t, got); !bytes.Equal(again, b) {
			t.Fatalf("encoded again: got %x, want %x", again, b)
		}
	}
	for _, c := range examples() {
		check(t, c)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := anyCommand.Draw(t, "command")
		if len(c.Ops) == 0 {
			c.Ops = nil
		}
		for i, o := range c.Ops {
			switch o := o.(type) {
			case SetServer: // only the named fields are encoded
				var named Server
				for _, f := range serverFields {
					if o.Fields&f.bit != 0 {
						f.set(&named, &o.Server)
					}
				}
				o.Server = named
				c.Ops[i] = o
			case SeedWith:
				c.Ops[i] = SeedWith{append([]byte(nil), o.Seed...)}
			}
		}
		check(t, c)
	})
}

// TestEncodingStays pins the bytes: other programs of this version have
// written them to disks.
func TestEncodingStays(t *testing.T) {
	c := Command{Time: 1000, By: "me", Ops: []Op{
		Set{"web", OptTimeout, Int(3)},
		SetServer{"web", 1, FieldPort, Server{Port: 80}},
		Visits{1, []Visit{{netip.MustParseAddr("10.0.0.1"), 2, 5}}},
	}}
	want := "\x01\xd0\x0f\x02me\x03" + "\x03\x03web\x08\x06" + "\x04\x03web\x02\x02\x50" + "\x0a\x01\x01\x04\x0a\x00\x00\x01\x04\x05"
	if got := encoded(t, c); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	names := map[Option]string{1: "listen", 8: "timeout", 11: "clients_max", 18: "tcp_fastclose", 22: "control_acl", 23: "drain_timeout"}
	for o, want := range names {
		if o.String() != want {
			t.Errorf("option %d: got %v, want %s", uint16(o), o, want)
		}
	}
	if n := len(Options()); n != 47 {
		t.Errorf("got %d options, want 47: is there a row for the new one?", n)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := encoded(t, examples()[2])
	for i := range good {
		if _, err := Decode(good[:i]); err == nil {
			t.Fatalf("decoded the first %d of %d bytes", i, len(good))
		}
	}
	for _, c := range []struct{ name, b, want string }{
		{"nothing", "", "ends too early"},
		{"another version", "\x02\x00\x00\x00", "version 2"},
		{"trailing bytes", "\x01\x00\x00\x00\x00", "1 bytes too many"},
		{"unknown operation", "\x01\x00\x00\x01\x63", "unknown operation 99"},
		{"operation zero", "\x01\x00\x00\x01\x00", "unknown operation 0"},
		{"unknown option", "\x01\x00\x00\x01\x03\x00\x63", "unknown option 99"},
		{"unknown fields", "\x01\x00\x00\x01\x04\x00\x00\x80\x04", "unknown fields 0x200"},
		{"padded number", "\x01\x80\x00\x00\x00", "malformed number"},
		{"endless number", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "malformed number"},
		{"neither yes nor no", "\x01\x00\x00\x01\x03\x00\x03\x02", "neither yes nor no"},
		{"unknown address", "\x01\x00\x00\x01\x0a\x01\x01\x05", "unknown kind 5"},
		{"too many operations", "\x01\x00\x00\x81\x80\x40", "more than 1048576"},
		{"long text", "\x01\x00\x81\x20", "more than 4096"},
		{"too long", "\x01" + strings.Repeat("\x00", MaxCommand), "are more than"},
	} {
		if _, err := Decode([]byte(c.b)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		m := New()
		if r := m.ApplyBytes([]byte(c.b)); r.Err == nil || r.Index != 1 || m.View().Index != 1 {
			t.Errorf("%s: applied: %+v", c.name, r)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Command
		want string
	}{
		{"a text that is too long", Command{By: strings.Repeat("x", MaxText+1)}, "longer than"},
		{"a wrong kind of value", Command{Ops: []Op{Set{"", OptTimeout, Bool(true)}}}, "got yes or no, want a number"},
		{"no value", Command{Ops: []Op{Set{"", OptTimeout, Value{}}}}, "got nothing"},
		{"an unknown option", Command{Ops: []Op{Set{"", 99, Int(1)}}}, "unknown option 99"},
		{"no operation", Command{Ops: []Op{nil}}, "no operation"},
		{"a command that is too long", Command{Ops: []Op{SeedWith{make([]byte, MaxCommand)}}}, "more than"},
	} {
		b, err := c.c.Append([]byte("x"))
		if err == nil || !strings.Contains(err.Error(), c.want) || string(b) != "x" {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if c.name == "no operation" || c.name == "a text that is too long" {
			continue // only the encoding minds
		}
		if r := New().Apply(c.c); r.Err == nil && !strings.Contains(c.name, "too long") {
			t.Errorf("%s: applied", c.name)
		}
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzDecode(f *testing.F) {
	for _, c := range examples() {
		b, _ := c.Append(nil)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Command
		var err error
		if n := allocated(func() { c, err = Decode(b) }); n > 1<<20+uint64(len(b))*400 {
			t.Errorf("%d bytes made it allocate %d", len(b), n)
		}
		if err != nil {
			return
		}
		again, err := c.Append(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("encoded again: got %x, %v, want %x", again, err, b)
		}
		m := New()
		_ = c.String()
		dry, err := m.View().With(c)
		if r := m.Apply(c); (r.Err == nil) != (err == nil) {
			t.Errorf("with: %v, apply: %v", err, r.Err)
		}
		if err == nil {
			same(t, "view", dry, m.View())
		}
		equal(t, restored(t, saved(t, m)), m)
	})
}

// FuzzRestore gives Restore snapshots with good checksums and any content: the
// input is blocks, each behind its length.
func FuzzRestore(f *testing.F) {
	m := New()
	for _, c := range examples() {
		c.Time = 1_000_000
		m.Apply(c)
	}
	m.Apply(Command{Time: 5_000_000, Ops: []Op{AddService{"web"}, Set{"", OptTracking, Int(5)}, Visits{1, []Visit{{client(0), 1, 0}, {client(7), -1, 2}, {client(9), 0, 90}}}}})
	f.Add(blocksOf(f, saved(f, m)), false)
	f.Add(blocksOf(f, saved(f, New())), false)
	f.Add(saved(f, m), true)
	f.Fuzz(func(t *testing.T, b []byte, raw bool) {
		if !raw {
			b = snapshotOf(b)
		}
		m := New()
		var err error
		if n := allocated(func() { err = m.Restore(bytes.NewReader(b)) }); n > 16<<20+uint64(len(b))*20_000 {
			t.Errorf("%d bytes made it allocate %d", len(b), n)
		}
		if err != nil {
			equal(t, m, New())
			return
		}
		equal(t, restored(t, saved(t, m)), m)
		m.Apply(Command{Time: m.View().Time + 5000, Ops: []Op{Visits{1, []Visit{{client(3), 0, 0}}}}})
		recent(t, m.View().Services[0].clients)
	})
}

// blocksOf takes the lengths and sums out of a snapshot, snapshotOf puts them
// in.
func blocksOf(t fatal, snapshot []byte) []byte {
	r, err := newBlockReader(bytes.NewReader(snapshot))
	if err != nil {
		t.Fatalf("%v", err)
	}
	c := &coder{}
	for {
		b, err := r.block()
		if err != nil {
			t.Fatalf("%v", err)
		}
		if len(b) == 0 {
			return c.buf
		}
		c.bytes(&b, maxBlock)
	}
}

func snapshotOf(blocks []byte) []byte {
	var out bytes.Buffer
	w := newBlockWriter(&out)
	c := &coder{buf: slices.Clone(blocks), reading: true}
	for {
		var b []byte
		if c.bytes(&b, maxBlock); len(b) == 0 {
			break
		}
		w.block(b)
	}
	w.block(nil)
	return out.Bytes()
}
