//go:build !pen_level1

package state

import (
	"strings"
	"testing"
)

func TestTicketKeys(t *testing.T) {
	m := New()
	if r := m.Apply(Command{Ops: []Op{RotateTickets{}}}); r.Err == nil || !strings.Contains(r.Err.Error(), "state level 2") {
		t.Errorf("before level 2: got %v", r.Err)
	}
	rotate := func(was Time, key byte) {
		t.Helper()
		if r := m.Apply(Command{Time: 1000, Ops: []Op{SetLevel{2}, RotateTickets{was, [32]byte{key}}}}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	rotate(0, 1)
	rotate(0, 2) // another node, at the same time
	before := m.View()
	for key := byte(3); key < 7; key++ {
		rotate(m.View().Tickets()[0].Since, key)
	}
	var got []byte
	for i, k := range m.View().Tickets() {
		got = append(got, k.Key[0])
		if want := Time(1004 - i); k.Since != want {
			t.Errorf("key %d is since %d, want %d", i, k.Since, want)
		}
	}
	if want := "\x06\x05\x04\x03"; string(got) != want {
		t.Errorf("keys %v, want %v: the newest first, and only so many", got, []byte(want))
	}
	if all := before.Tickets(); len(all) != 1 || all[0].Key[0] != 1 {
		t.Errorf("an earlier view has %v", all)
	}
	same(t, "keys", restored(t, saved(t, m)).View().Tickets(), m.View().Tickets())
	if text := (RotateTickets{1, [32]byte{'s', 'e', 'c'}}).String(); strings.Contains(text, "sec") || strings.Contains(text, "115") {
		t.Errorf("%q tells the key", text)
	}
	for _, c := range m.View().Changes() {
		for _, o := range c.Ops() {
			if _, ok := o.(RotateTickets); ok {
				t.Error("the record of changes has a key")
			}
		}
	}
}

func TestWhatTLSNeeds(t *testing.T) {
	for _, c := range []struct {
		op   Op
		want Level
	}{
		{Set{"", OptTimeout, Int(1)}, 1},
		{Set{"", OptTLSCertificate, Text("/a")}, 2},
		{RotateTickets{}, 2},
	} {
		if got := Needs([]Op{AddService{"a"}, c.op}); got != c.want {
			t.Errorf("%v needs %d, want %d", c.op, got, c.want)
		}
	}
}
