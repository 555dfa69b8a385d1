package state

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestMergeOfRandomViews(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		view := func(name string) *View {
			m := New()
			for _, c := range anyHistory.Draw(t, name) {
				m.Apply(c)
			}
			return m.View()
		}
		base, want, have := view("base"), view("want"), view("have")
		merged, err := have.With(Command{Ops: Merge(base, want, have)})
		if err != nil {
			t.Fatalf("the operations do not fit: %v", err)
		}
		if again := Merge(base, want, merged); len(again) > 0 {
			t.Fatalf("merged twice: %v", again)
		}
		if ops := Merge(base, base, have); len(ops) > 0 {
			t.Fatalf("nothing changed, but: %v", ops)
		}
		same(t, "into base", comparable(must(base.With(Command{Ops: Merge(base, want, base)}))), comparable(want))
		if ops := Merge(base, want, want); len(ops) > 0 {
			t.Fatalf("all is there, but: %v", ops)
		}
	})
}

func must(v *View, err error) *View {
	if err != nil {
		panic(err)
	}
	return v
}

// The same change was made by hand and in the file, or one that has nothing to
// do with it.
func TestMergeKeepsWhatWasChangedElsewhere(t *testing.T) {
	server := func(service string, i int, port uint16) Op {
		ip := netip.MustParseAddr("10.0.0.1")
		return SetServer{
			Service: service, Index: i, Fields: FieldAddress | FieldPort,
			Server: Server{Address: Address{Host: ip.String(), IP: ip}, Port: port},
		}
	}
	weight := func(i, n int) Op {
		return SetServer{Service: "default", Index: i, Fields: FieldWeight, Server: Server{Weight: n}}
	}
	permit := AppendACL{List: 1, Entry: ACLEntry{Permit: true, Addr: netip.MustParseAddr("10.0.0.0"), Mask: netip.MustParseAddr("255.0.0.0")}}
	base := []Op{
		server("default", 0, 80), server("default", 1, 81), server("default", 2, 82),
		AddService{"web"},
		server("web", 0, 90),
	}
	for _, c := range []struct {
		name             string
		file, hand, want []Op // beyond base
	}{
		{"both remove a server", []Op{RemoveServer{"default", 2}}, []Op{RemoveServer{"default", 2}}, []Op{RemoveServer{"default", 2}}},
		{"both remove a service", []Op{RemoveService{"web"}}, []Op{RemoveService{"web"}}, []Op{RemoveService{"web"}}},
		{"a removed service gets another server", []Op{server("web", 1, 91)}, []Op{RemoveService{"web"}}, []Op{server("web", 1, 91)}},
		{"a removed service stays so", nil, []Op{RemoveService{"web"}}, []Op{RemoveService{"web"}}},
		{"a drained server stays so", []Op{weight(1, 5)}, []Op{weight(0, 9)}, []Op{weight(0, 9), weight(1, 5)}},
		{"both add the same entry", []Op{permit}, []Op{permit}, []Op{permit}},
		{"a server that was added stays", []Op{weight(0, 1)}, []Op{server("default", 3, 83)}, []Op{server("default", 3, 83), weight(0, 1)}},
		{"a removed server is changed", []Op{weight(2, 7)}, []Op{RemoveServer{"default", 2}}, []Op{weight(2, 7)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			view := func(ops []Op) *View { return must(New().View().With(Command{Ops: slices.Concat(base, ops)})) }
			have := view(c.hand)
			got, err := have.With(Command{Ops: Merge(view(nil), view(c.file), have)})
			if err != nil {
				t.Fatal(err)
			}
			if a, b := fmt.Sprint(Ops(got)), fmt.Sprint(Ops(view(c.want))); a != b {
				t.Errorf("got  %s\nwant %s", a, b)
			}
		})
	}
}
