package state

import (
	"encoding/binary"
	"testing"
)

func requestNumber(i int) Command {
	var id RequestID
	binary.BigEndian.PutUint64(id[:], uint64(i))
	return Command{Ops: []Op{Request{id}, AppendACL{0, ACLEntry{Permit: true, Country: "se"}}}}
}

func TestOldRequestsAreForgotten(t *testing.T) {
	m := New()
	for i := range MaxRequests + 10 {
		m.Apply(requestNumber(i))
	}
	entries := func() int { return len(m.View().ACL[0].Entries) }
	n := entries()
	if r := m.Apply(requestNumber(10)); r.Index != 11 || entries() != n {
		t.Errorf("the oldest that is remembered: index %d and %d entries, want 11 and %d", r.Index, entries(), n)
	}
	if m.Apply(requestNumber(9)); entries() != n+1 {
		t.Errorf("one that is forgotten: %d entries, want %d", entries(), n+1)
	}
	if got := restored(t, saved(t, m)); len(got.View().requests) != MaxRequests {
		t.Errorf("restored %d requests, want %d", len(got.View().requests), MaxRequests)
	}
}
