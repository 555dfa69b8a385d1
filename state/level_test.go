//go:build !pen_level1

package state

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestNothingNewBeforeItsLevel(t *testing.T) {
	m := New()
	timeout := Command{By: "somebody", Ops: []Op{Set{"", OptTimeout, Int(7)}}}
	m.Apply(timeout)
	if v := m.View(); v.Level() != 1 || len(v.Changes()) != 0 {
		t.Errorf("a new state: got level %d and %d changes, want 1 and none", v.Level(), len(v.Changes()))
	}
	r := m.Apply(Command{Ops: []Op{SetClients{}}})
	if want := "state level 2, and the state is at 1"; r.Err == nil || !strings.Contains(r.Err.Error(), want) {
		t.Errorf("got %v, want %q", r.Err, want)
	}
	// As the first version wrote it: nothing follows the services.
	c := &coder{}
	h := headOf(m.View())
	h.code(c)
	first := *c
	h.drained, h.requests, h.level, h.changes = nil, nil, 0, nil
	c = &coder{}
	h.code(c)
	if !bytes.Equal(first.buf, c.buf) {
		t.Errorf("head of level 1: got %x, want %x", first.buf, c.buf)
	}
	for _, level := range []Level{2, 1} {
		if r := m.Apply(Command{By: "the leader", Ops: []Op{SetLevel{level}}}); r.Err != nil {
			t.Fatal(r.Err)
		}
		if got := m.View().Level(); got != 2 {
			t.Errorf("after %d: got level %d, want 2: it never goes down", level, got)
		}
	}
	r = m.Apply(Command{Ops: []Op{SetLevel{Newest + 1}}})
	if want := "this program knows up to 2; install a newer one"; r.Err == nil || !strings.Contains(r.Err.Error(), want) {
		t.Errorf("got %v, want %q", r.Err, want)
	}
	if got := restored(t, saved(t, m)).View(); got.Level() != 2 || len(got.Changes()) != 2 {
		t.Errorf("restored: got level %d and %d changes, want 2 and 2", got.Level(), len(got.Changes()))
	}
}

func TestSnapshotOfALaterLevel(t *testing.T) {
	v := *New().View()
	v.level = Newest + 1
	var b bytes.Buffer
	s := &Snapshot{view: &v, tables: make([]frozenTable, 1)}
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	err := New().Restore(&b)
	if want := "state level 3: this program knows up to 2; install a newer one"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestChangesAreRemembered(t *testing.T) {
	m := New()
	m.Apply(Command{By: "the leader", Ops: []Op{SetLevel{2}}})
	server := Address{"10.0.0.1", netip.MustParseAddr("10.0.0.1")}
	for _, c := range []Command{
		{By: "nobody", Ops: []Op{Visits{1, []Visit{{client(1), 0, 0}}}}},
		{By: "nobody", Ops: []Op{Fail{"", 0, server, 80, 5}}},
		{By: "refused", Ops: []Op{Set{"", OptClientsMax, Int(0)}}},
		{By: "reload that finds nothing", Ops: []Op{Seeded{m.View().SeedSum()}}},
		{Time: 5000, By: "control 127.0.0.1:4711 at 10.0.0.11", Ops: []Op{Request{RequestID{1}}, Set{"", OptTimeout, Int(7)}, RemoveService{DefaultService}, Stamp{7000}}},
	} {
		m.Apply(c)
	}
	all := restored(t, saved(t, m)).View().Changes()
	if len(all) != 2 {
		t.Fatalf("got %d changes, want 2: %v", len(all), all)
	}
	got := fmt.Sprintf("%d %s %v %d", all[1].Time, all[1].By, all[1].Ops(), all[1].More)
	if want := "7000 control 127.0.0.1:4711 at 10.0.0.11 [timeout 7 no service default] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestKnownClientsThatAreSetAreAChange: a backup that differs in its clients only is
// restored like any other.
func TestKnownClientsThatAreSetAreAChange(t *testing.T) {
	m := New()
	m.Apply(Command{By: "the leader", Ops: []Op{SetLevel{2}}})
	clients := SetClients{"", []Visit{{client(1), None, 0}, {client(2), None, 0}}}
	m.Apply(Command{By: "restore of /b: 2 clients", Ops: []Op{clients, Stamp{7000}}})
	m.Apply(Command{By: "a reload that finds nothing", Ops: []Op{Stamp{8000}}})
	all := restored(t, saved(t, m)).View().Changes()
	if len(all) != 2 {
		t.Fatalf("got %d changes, want 2: %v", len(all), all)
	}
	if c := all[1]; c.By != "restore of /b: 2 clients" || c.Time != 7000 || len(c.Ops())+c.More != 0 {
		t.Errorf("got %d by %s: %v and %d more", c.Time, c.By, c.Ops(), c.More)
	}
}

func TestChangesHaveABound(t *testing.T) {
	m := New()
	m.Apply(Command{Ops: []Op{SetLevel{2}}})
	before := m.View()
	for i := range 2 * MaxChanges {
		m.Apply(Command{By: "somebody", Ops: []Op{Set{"", OptTimeout, Int(i)}}})
	}
	all := m.View().Changes()
	if len(all) != MaxChanges || all[0].Ops()[0] != (Set{"", OptTimeout, Int(MaxChanges)}) {
		t.Errorf("got %d, the first %v", len(all), all[0].Ops())
	}
	if got := before.Changes(); len(got) != 1 || got[0].Ops()[0] != (SetLevel{2}) {
		t.Errorf("an earlier view has changed: %v", got)
	}
	var many []Op
	for range 1000 {
		many = append(many, AppendACL{0, ACLEntry{Permit: true, Country: "se"}})
	}
	for range MaxChanges {
		m.Apply(Command{By: "a large file", Ops: many})
	}
	all = m.View().Changes()
	size := 0
	for _, c := range all {
		size += c.size()
	}
	if size > maxChangesSize || size < maxChangesSize/2 {
		t.Errorf("%d changes have %d bytes, want at most %d", len(all), size, maxChangesSize)
	}
	if last := all[len(all)-1]; len(last.Ops())+last.More != 1000 || last.More == 0 {
		t.Errorf("%d operations and %d more, want 1000 together", len(last.Ops()), last.More)
	}
}

func TestSetClients(t *testing.T) {
	m := New()
	m.Apply(Command{Time: 100_000, Ops: []Op{SetLevel{2}, AddService{"web"}}})
	m.Apply(Command{Time: 100_000, Ops: []Op{Visits{1, []Visit{{client(1), 0, 0}, {client(2), 0, 0}}}}})
	m.Apply(Command{Time: 100_000, Ops: []Op{Set{"", OptTracking, Int(1)}}}) // so that all older ones are forgotten
	m.Apply(Command{Time: 100_000, Ops: []Op{
		Set{"", OptTracking, Int(60)},
		SetServer{Index: 1, Fields: FieldPort, Server: Server{Port: 80}},
		SetClients{"", []Visit{{client(3), 1, 9}, {client(2), 0, 4}}},
		SetClients{"web", []Visit{{client(3), None, 0}}},
	}})
	for service, want := range map[string]string{
		"":    fmt.Sprint([]Entry{{client(3), 0, 1, 91_000}, {client(2), 1, 0, 96_000}}),
		"web": fmt.Sprint([]Entry{{client(3), 0, None, 100_000}}),
	} {
		var all []Entry
		for e := range m.View().Service(service).Clients().All() {
			all = append(all, e)
		}
		if got := fmt.Sprint(all); got != want {
			t.Errorf("clients of %q: got %s, want %s", service, got, want)
		}
	}
	var b bytes.Buffer
	s := m.Snapshot()
	defer s.Release()
	if _, err := s.WriteSettings(&b); err != nil {
		t.Fatal(err)
	}
	bare := New()
	if err := bare.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if n := bare.View().Services[0].Clients().Len(); n != 0 || len(Diff(m.View(), bare.View())) != 0 {
		t.Errorf("settings alone have %d clients and differ by %v", n, Diff(m.View(), bare.View()))
	}
}
