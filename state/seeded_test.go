package state

import "testing"

func TestACommandForAnotherSeedChangesNothing(t *testing.T) {
	m := New()
	merged := Command{Ops: []Op{Seeded{m.View().SeedSum()}, AppendACL{1, ACLEntry{Permit: true, Country: "se"}}, SeedWith{[]byte("file")}}}
	if r := m.Apply(merged); r.Err != nil {
		t.Fatal(r.Err)
	}
	// The same file, merged on another node at the same time.
	if r := m.Apply(merged); r.Err == nil {
		t.Error("it was merged with a seed that is not the last one, and nobody said so")
	}
	if got := len(m.View().ACL[1].Entries); got != 1 {
		t.Errorf("%d entries, want 1", got)
	}
	again := Command{Ops: []Op{Seeded{m.View().SeedSum()}, SeedWith{[]byte("next")}}}
	if r := m.Apply(again); r.Err != nil {
		t.Error(r.Err)
	}
}
