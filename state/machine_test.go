package state

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type fatal interface{ Fatalf(string, ...any) }

func saved(t fatal, m *Machine) []byte {
	s := m.Snapshot()
	defer s.Release()
	var b bytes.Buffer
	if n, err := s.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d: %v", n, b.Len(), err)
	}
	return b.Bytes()
}

func restored(t fatal, b []byte) *Machine {
	m := New()
	if err := m.Restore(bytes.NewReader(b)); err != nil {
		t.Fatalf("restore: %v", err)
	}
	return m
}

// equal compares all that two machines hold, the forgotten clients included.
func equal(t fatal, got, want *Machine) {
	same(t, "view", got.View(), want.View())
	for i, s := range want.View().Services {
		a, b := got.View().Services[i].clients, s.clients
		sameEntries(t, "clients of "+s.Name, recent(t, a), recent(t, b))
		if a.horizon.Load() != b.horizon.Load() || a.Max() != b.Max() || a.Len() != b.Len() {
			t.Fatalf("table of %s: got horizon %d, %d of %d, want %d, %d of %d", s.Name,
				a.horizon.Load(), a.Len(), a.Max(), b.horizon.Load(), b.Len(), b.Max())
		}
	}
	if !bytes.Equal(saved(t, got), saved(t, want)) {
		t.Fatalf("the snapshots differ")
	}
}

func TestReplicasAreEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := anyHistory.Draw(t, "history")
		straight, encoded, restarted := New(), New(), New()
		for _, c := range history {
			want := straight.Apply(c)
			b, err := c.Append(nil)
			if err != nil {
				t.Fatalf("%v", err)
			}
			got := encoded.ApplyBytes(b)
			if got.Index != want.Index || (got.Err == nil) != (want.Err == nil) {
				t.Fatalf("got %v, want %v", got, want)
			}
			restarted.Apply(c)
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				restarted = restored(t, saved(t, restarted))
			}
		}
		equal(t, encoded, straight)
		equal(t, restarted, straight)
	})
}

func TestRefusedCommandsOnlyCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		with, without := New(), New()
		for _, c := range anyHistory.Draw(t, "history") {
			if _, request := c.request(); request {
				continue // those are remembered when they are refused, too
			}
			if with.Apply(c).Err == nil {
				without.Apply(c)
			}
		}
		v := *with.View()
		v.Index = without.View().Index
		with.view.Store(&v)
		equal(t, with, without)
	})
}

func TestWithIsApply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New()
		for _, c := range anyHistory.Draw(t, "history") {
			dry, err := m.View().With(c)
			r := m.Apply(c)
			if (r.Err == nil) != (err == nil) || err != nil && err.Error() != r.Err.Error() {
				t.Fatalf("with: %v, apply: %v", err, r.Err)
			}
			if err == nil {
				same(t, "view", dry, m.View())
			}
		}
	})
}

// TestViewsNeverChange writes down every view when it is new, and looks at all
// of them at the end.
func TestViewsNeverChange(t *testing.T) {
	written := func(v *View) string { return fmt.Sprintf("%+v %v %v", headOf(v), Ops(v), marksOf(v)) }
	rapid.Check(t, func(t *rapid.T) {
		m := New()
		views := map[*View]string{m.View(): written(m.View())}
		for _, c := range anyHistory.Draw(t, "history") {
			if dry, err := m.View().With(c); err == nil {
				views[dry] = written(dry)
			}
			m.Apply(c)
			views[m.View()] = written(m.View())
		}
		for v, want := range views {
			if got := written(v); got != want {
				t.Fatalf("view %d: got %s, want %s", v.Index, got, want)
			}
		}
	})
}

func TestWithTouchesNoOtherView(t *testing.T) {
	m := New()
	deny := func(a string) Command {
		return Command{Ops: []Op{AppendACL{1, ACLEntry{Addr: netip.MustParseAddr(a)}}}}
	}
	for range 5 { // so that the list has room to append
		m.Apply(deny("10.0.0.1"))
	}
	dry, _ := m.View().With(deny("10.0.0.2"))
	m.Apply(deny("10.0.0.3"))
	if got := dry.ACL[1].Entries[5].Addr.String(); got != "10.0.0.2" {
		t.Errorf("got %s, want 10.0.0.2", got)
	}
	if got := m.View().ACL[1].Entries[5].Addr.String(); got != "10.0.0.3" {
		t.Errorf("got %s, want 10.0.0.3", got)
	}
}

func TestDiffLeadsFromOneViewToAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := New(), New()
		for _, c := range anyHistory.Draw(t, "a") {
			a.Apply(c)
		}
		for _, c := range anyHistory.Draw(t, "b") {
			b.Apply(c)
		}
		if d := Diff(a.View(), a.View()); d != nil {
			t.Fatalf("difference of a view to itself: %v", d)
		}
		if r := a.Apply(Command{Ops: Diff(a.View(), b.View())}); r.Err != nil {
			t.Fatalf("%v", r.Err)
		}
		same(t, "settings", comparable(a.View()), comparable(b.View()))
		built := New()
		built.Apply(Command{Ops: Ops(b.View())})
		same(t, "settings from nothing", comparable(built.View()), comparable(b.View()))
	})
}

// comparable leaves out what Diff does.
func comparable(v *View) *View {
	c := View{ACL: v.ACL, Named: v.Named, Global: v.Global}
	for i := range c.ACL {
		if len(c.ACL[i].Entries) == 0 {
			c.ACL[i].Entries = nil
		}
	}
	for _, s := range v.Services {
		s := *s
		s.ID = 0
		s.Servers = slices.Clone(s.Servers)
		for i := range s.Servers {
			s.Servers[i].Mark = 0
		}
		for _, p := range []**Server{&s.Emergency, &s.Abuse} {
			if *p != nil {
				*p = copyOf(*p)
				(*p).Mark = 0
			}
		}
		c.Services = append(c.Services, &s)
	}
	slices.SortFunc(c.Services, func(a, b *Service) int { return strings.Compare(a.Name, b.Name) })
	return &c
}

func TestWatch(t *testing.T) {
	m := New()
	closed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	for _, c := range []struct {
		what string
		op   Op
		want bool
	}{
		{"a setting", Set{"", OptTimeout, Int(7)}, true},
		{"a global setting", Set{"", OptControlACL, Int(7)}, true},
		{"a new server", SetServer{Service: "", Index: 0}, true},
		{"visits", Visits{1, []Visit{{client(2), 0, 0}}}, false},
		{"a refused command", Set{"nowhere", OptTimeout, Int(7)}, false},
		{"late news", Fail{Index: 5}, false},
		{"an access list", AppendACL{1, ACLEntry{Country: "SE"}}, true},
		{"a seed", SeedWith{[]byte{1}}, true},
	} {
		w := m.Watch()
		m.Apply(Command{Ops: []Op{c.op}})
		if got := closed(w); got != c.want {
			t.Errorf("%s: closed %v, want %v", c.what, got, c.want)
		}
	}
	w := m.Watch()
	if err := m.Restore(bytes.NewReader(saved(t, m))); err != nil || !closed(w) {
		t.Errorf("restore: %v, closed %v", err, closed(w))
	}
}

func TestRestoreLeavesAllOrNothing(t *testing.T) {
	m := New()
	m.Apply(Command{Time: 5000, Ops: []Op{
		AddService{"web"},
		Set{"web", OptTracking, Int(9)},
		SetServer{"web", 2, FieldPort, Server{Port: 80}},
		AppendACL{1, ACLEntry{Country: "SE"}},
		Visits{1, []Visit{{client(0), 1, 0}, {client(7), -1, 2}}},
	}})
	good := saved(t, m)
	other := New()
	other.Apply(Command{Ops: []Op{Set{"", OptTimeout, Int(8)}}})
	before := saved(t, other)
	refused := func(what string, b []byte) {
		t.Helper()
		err := other.Restore(bytes.NewReader(b))
		if err == nil || !strings.HasPrefix(err.Error(), "snapshot: ") {
			t.Fatalf("%s: got %v, want an error", what, err)
		}
		if !bytes.Equal(saved(t, other), before) {
			t.Fatalf("%s changed the state", what)
		}
	}
	for i := range good {
		refused("a shorter snapshot", good[:i])
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[i] ^= 1 << bit
			refused("a flipped bit", bad)
		}
	}
	refused("a longer snapshot", append(slices.Clone(good), 0))
	refused("two snapshots", append(slices.Clone(good), good...))
	if err := other.Restore(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	equal(t, other, m)
}
