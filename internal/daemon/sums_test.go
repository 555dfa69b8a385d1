package daemon

import (
	"bufio"
	"bytes"
	"net/netip"
	"testing"

	"pen/state"
)

// machine has carried out the operations, one command each.
func machine(t *testing.T, ops ...state.Op) *state.Machine {
	t.Helper()
	m := state.New()
	for i, o := range ops {
		if r := m.Apply(state.Command{Time: state.Time(i+1) * 1000, Ops: []state.Op{o}}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return m
}

func digestText(t *testing.T, v *state.View) string {
	t.Helper()
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	if err := writeDigest(v, w); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	return b.String()
}

func TestDigestTellsStatesApart(t *testing.T) {
	visit := func(last byte, server int) state.Op {
		return state.Visits{Service: 1, Clients: []state.Visit{{Client: netip.AddrFrom4([4]byte{10, 0, 2, last}), Server: server}}}
	}
	acl := func(list int) state.Op {
		return state.AppendACL{List: list, Entry: state.ACLEntry{Permit: true, Addr: netip.MustParseAddr("10.1.2.3")}}
	}
	server := state.SetServer{Index: 1}
	ops := []state.Op{acl(1), server, visit(1, 0), visit(2, 1)}
	base := machine(t, ops...)
	text := digestText(t, base.View())
	var snapshot bytes.Buffer
	s := base.Snapshot()
	if _, err := s.WriteTo(&snapshot); err != nil {
		t.Fatal(err)
	}
	s.Release()
	restored := state.New()
	if err := restored.Restore(&snapshot); err != nil {
		t.Fatal(err)
	}
	if got := digestText(t, restored.View()); got != text {
		t.Errorf("restored: got %s, want %s", got, text)
	}
	for name, other := range map[string]*state.Machine{
		"fewer changes":   machine(t, ops[:3]...),
		"another server":  machine(t, ops[0], ops[1], ops[2], visit(2, 0)),
		"another client":  machine(t, ops[0], ops[1], ops[2], visit(3, 1)),
		"another setting": machine(t, acl(2), server, ops[2], ops[3]),
	} {
		if got := digestText(t, other.View()); got == text {
			t.Errorf("%s: got the same digest %s", name, got)
		}
	}
}
