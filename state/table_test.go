package state

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// naive is a client table as simple as it can be: a list, the newest first.
type naive struct {
	max     int
	horizon int64
	list    []Entry
}

func (n *naive) known(a netip.Addr) (Entry, bool) {
	i := n.index(a)
	if i < 0 || n.dead(n.list[i]) {
		return Entry{}, false
	}
	return n.list[i], true
}

func (n *naive) index(a netip.Addr) int {
	return slices.IndexFunc(n.list, func(e Entry) bool { return e.Client == a.Unmap().WithZone("") })
}

func (n *naive) dead(e Entry) bool { return int64(e.Used/1000) < n.horizon }

func (n *naive) free() int {
	taken := map[int]bool{}
	for _, e := range n.list {
		taken[e.Slot] = true
	}
	for i := range n.max {
		if !taken[i] {
			return i
		}
	}
	last := n.list[len(n.list)-1]
	n.list = n.list[:len(n.list)-1]
	return last.Slot
}

func (n *naive) advance(now Time, tracking int) {
	if tracking > 0 {
		n.horizon = max(n.horizon, int64(now/1000)-int64(tracking))
	}
}

func (n *naive) reap(count int) {
	for ; count > 0 && len(n.list) > 0 && n.dead(n.list[len(n.list)-1]); count-- {
		n.list = n.list[:len(n.list)-1]
	}
}

func (n *naive) visit(v Visit, now Time) {
	e := Entry{Client: v.Client.Unmap().WithZone(""), Server: v.Server, Used: max(0, now/1000-Time(v.Ago)) * 1000}
	if n.dead(e) {
		return
	}
	i := n.index(v.Client)
	old := Entry{Server: None, Slot: -1}
	if i >= 0 {
		if !n.dead(n.list[i]) {
			old = n.list[i]
		}
		n.list = slices.Delete(n.list, i, i+1)
	}
	if v.Server == Keep {
		e.Server = old.Server
	}
	e.Used = max(e.Used, old.Used)
	if e.Slot = old.Slot; e.Slot < 0 {
		e.Slot = n.free()
	}
	n.list = slices.Insert(n.list, 0, e)
	n.reap(reapVisit)
}

func (n *naive) all() []Entry {
	live := slices.DeleteFunc(slices.Clone(n.list), n.dead)
	slices.SortFunc(live, func(a, b Entry) int { return a.Slot - b.Slot })
	return live
}

// recent returns everything in the table, the forgotten included, the newest
// first. It checks the links in both directions.
func recent(t interface{ Fatalf(string, ...any) }, table *Table) []Entry {
	var list []Entry
	var newer link
	for at := table.newest; at != 0; {
		r, o := table.pages.own(at.slot())
		if o.newer != newer {
			t.Fatalf("slot %d: newer leads to %d, want %d", at.slot(), o.newer, newer)
		}
		list = append(list, entryOf(at.slot(), r.key(), r.data))
		newer, at = at, o.older
	}
	if table.oldest != newer {
		t.Fatalf("oldest is %d, want %d", table.oldest, newer)
	}
	return list
}

func client(i int) netip.Addr {
	switch {
	case i == 0:
		return netip.Addr{}
	case i == 1:
		return netip.IPv6Unspecified()
	case i%3 == 0:
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// same reports a difference; client tables are left out.
func same(t interface{ Fatalf(string, ...any) }, what string, got, want any) {
	if reflect.DeepEqual(got, want) {
		return // cmp is thorough and slow
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.AllowUnexported(View{}, Value{}, outcome{}, Change{}),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".clients" }, cmp.Ignore())); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func sameEntries(t interface{ Fatalf(string, ...any) }, what string, got, want []Entry) {
	if !slices.Equal(got, want) {
		same(t, what, got, want)
	}
}

func TestTableIsLikeAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.IntRange(1, 700).Draw(t, "slots")
		table, model := newTable(slots), &naive{max: slots}
		now, tracking := Time(1_000_000), rapid.IntRange(0, 60).Draw(t, "tracking")
		visit := func(v Visit) {
			table.visit(v, now)
			model.visit(v, now)
		}
		t.Repeat(map[string]func(*rapid.T){
			"visit": func(t *rapid.T) {
				visit(Visit{
					Client: client(rapid.IntRange(0, 50).Draw(t, "client")),
					Server: rapid.IntRange(Keep, 5).Draw(t, "server"),
					Ago:    uint32(rapid.IntRange(0, 3).Draw(t, "ago")),
				})
			},
			"crowd": func(t *rapid.T) {
				from, n := rapid.IntRange(0, 1000).Draw(t, "from"), rapid.IntRange(1, 400).Draw(t, "n")
				for i := range n {
					visit(Visit{Client: client(from + i), Server: i % 7})
				}
			},
			"ancient":  func(*rapid.T) { visit(Visit{Client: client(3), Server: 1, Ago: 5000}) },
			"mapped":   func(*rapid.T) { visit(Visit{Client: netip.MustParseAddr("::ffff:10.0.0.2"), Server: 3}) },
			"zoned":    func(*rapid.T) { visit(Visit{Client: netip.MustParseAddr("fe80::1%eth0"), Server: 3}) },
			"tracking": func(t *rapid.T) { tracking = rapid.IntRange(-1, 60).Draw(t, "tracking") },
			"time": func(t *rapid.T) {
				now += Time(rapid.IntRange(0, 30_000).Draw(t, "ms"))
				table.advance(now, tracking)
				model.advance(now, tracking)
				table.reap(reapCommand)
				model.reap(reapCommand)
			},
			"resize": func(t *rapid.T) {
				model.max = rapid.IntRange(1, 3000).Draw(t, "slots")
				model.list = slices.DeleteFunc(model.list, func(e Entry) bool { return e.Slot >= model.max })
				table.resize(model.max)
			},
			"": func(t *rapid.T) {
				sameEntries(t, "recent", recent(t, table), model.list)
				sameEntries(t, "all", slices.Collect(table.All()), model.all())
				if table.Len() != len(model.list) || table.Max() != model.max {
					t.Fatalf("got %d of %d, want %d of %d", table.Len(), table.Max(), len(model.list), model.max)
				}
				for i := range 60 {
					got, ok := table.Lookup(client(i))
					want, known := model.known(client(i))
					if got != want || ok != known {
						t.Fatalf("client %d: got %v %v, want %v %v", i, got, ok, want, known)
					}
				}
			},
		})
	})
}

// TestTableOfManyClients goes far enough that the index and the pages grow.
func TestTableOfManyClients(t *testing.T) {
	const n = 50_000
	table := newTable(n)
	for i := range n {
		table.visit(Visit{Client: client(i), Server: i % 100}, 1000)
	}
	for i := range n {
		e, ok := table.Lookup(client(i))
		if want := (Entry{client(i), i, i % 100, 1000}); !ok || e != want {
			t.Fatalf("got %v %v, want %v", e, ok, want)
		}
	}
	if _, ok := table.Lookup(client(n)); ok {
		t.Errorf("found client %v that never came", client(n))
	}
	for i := range n {
		table.visit(Visit{Client: client(n + i), Server: 1}, 2000)
		if _, ok := table.Lookup(client(i)); ok {
			t.Fatalf("client %d is still there", i)
		}
		if e, _ := table.Lookup(client(n + i)); e.Slot != i {
			t.Fatalf("client %d: got slot %d, want that of the oldest, %d", n+i, e.Slot, i)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	table := newTable(100)
	table.visit(Visit{Client: client(2), Server: 1}, 1000)
	known, unknown := client(2), client(3)
	if n := testing.AllocsPerRun(100, func() { table.Lookup(known); table.Lookup(unknown) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func TestBitmap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m bitmap
		var model []bool
		t.Repeat(map[string]func(*rapid.T){
			"extend": func(t *rapid.T) {
				n := len(model) + rapid.IntRange(1, 5000).Draw(t, "n")
				m.extend(len(model), n)
				for len(model) < n {
					model = append(model, true)
				}
			},
			"take lowest": func(t *rapid.T) {
				for range rapid.IntRange(1, 300).Draw(t, "n") {
					if i := slices.Index(model, true); i >= 0 {
						model[i] = false
						m.take(uint32(i))
					}
				}
			},
			"give": func(t *rapid.T) {
				if len(model) > 0 {
					i := rapid.IntRange(0, len(model)-1).Draw(t, "slot")
					model[i] = true
					m.give(uint32(i))
				}
			},
			"": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				got, ok := m.lowest()
				if i := slices.Index(model, true); ok != (i >= 0) || ok && int(got) != i {
					t.Fatalf("got %d %v, want %d", got, ok, i)
				}
			},
		})
	})
}
