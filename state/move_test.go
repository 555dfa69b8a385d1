//go:build !pen_level1

package state

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMove(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	named := Address{"www", a}
	for _, c := range []struct {
		name string
		op   Move
		want Address
		mark Time
		err  string
	}{
		{"the address is new", Move{"", 0, named, b}, Address{"www", b}, 0, ""},
		{"the emergency server", Move{"", Emergency, named, b}, named, 5, ""},
		{"mapped is unmapped", Move{"", 0, named, netip.MustParseAddr("::ffff:10.0.0.1")}, named, 5, ""},
		{"somebody else was quicker", Move{"", 0, Address{"www", b}, b}, named, 5, ""},
		{"another name by now", Move{"", 0, Address{"www2", a}, b}, named, 5, ""},
		{"no such slot", Move{"", 7, named, b}, named, 5, ""},
		{"no such service", Move{"web", 0, named, b}, named, 5, ""},
		{"nowhere", Move{"", 0, named, netip.Addr{}}, named, 5, "no address to move to"},
		{"not to retire", Move{"", 0, named, netip.IPv4Unspecified()}, named, 5, "no address to move to"},
	} {
		m := New()
		m.Apply(Command{Ops: []Op{
			SetLevel{2},
			SetServer{"", 0, FieldAddress | FieldPort | FieldSoft | FieldMark, Server{Address: named, Port: 80, Soft: 3, Mark: 5}},
			SetServer{"", Emergency, FieldAddress | FieldPort, Server{Address: named, Port: 80}},
			Visits{m.View().Services[0].ID, []Visit{{client(1), 0, 0}}},
		}})
		r := m.Apply(Command{Ops: []Op{c.op}})
		if (r.Err == nil) != (c.err == "") || r.Err != nil && !strings.Contains(r.Err.Error(), c.err) {
			t.Errorf("%s: got error %v, want %q", c.name, r.Err, c.err)
		}
		s := m.View().Services[0]
		if got := s.Servers[0]; got.Address != c.want || got.Mark != c.mark || got.Port != 80 || got.Soft != 3 {
			t.Errorf("%s: got %+v, want %v and mark %d", c.name, got, c.want, c.mark)
		}
		if e := s.Emergency.IP; c.op.Index == Emergency && e != b {
			t.Errorf("%s: emergency at %v, want %v", c.name, e, b)
		}
		if e, ok := s.Clients().Lookup(client(1)); !ok || e.Server != 0 {
			t.Errorf("%s: the client has %+v, %v; want server 0 as before", c.name, e, ok)
		}
	}
	if r := New().Apply(Command{Ops: []Op{Move{"", 0, named, b}}}); r.Err == nil || !strings.Contains(r.Err.Error(), "state level 2") {
		t.Errorf("at level 1: got %v", r.Err)
	}
}
