package proxy

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"pen/state"
)

// drawEntry draws entries that meet often: few bits differ.
func drawEntry(t *rapid.T) state.ACLEntry {
	e := state.ACLEntry{Permit: rapid.Bool().Draw(t, "permit")}
	switch rapid.IntRange(-1, 9).Draw(t, "kind") {
	case -1, 0:
		e.Country = rapid.SampledFrom([]string{"SE", "NO", "DE", "FR", "XX"}).Draw(t, "country")
		return e
	case 1: // a mask with holes
		e.Addr = drawAddr(t, false)
		e.Mask = netip.AddrFrom4([4]byte{255, byte(rapid.IntRange(0, 255).Draw(t, "hole")), 0, 3})
	case 2, 3, 4:
		e.Addr = drawAddr(t, true)
		n := rapid.SampledFrom([]int{0, 1, 16, 31, 32, 33, 64, 127, 128}).Draw(t, "len")
		e.Mask = prefixMask(n, 128)
	default:
		e.Addr = drawAddr(t, false)
		e.Mask = prefixMask(rapid.IntRange(0, 32).Draw(t, "len"), 32)
	}
	e.Addr = masked(e.Addr, e.Mask)
	return e
}

func drawAddr(t *rapid.T, six bool) netip.Addr {
	bit := rapid.ByteRange(0, 3)
	if six {
		return netip.AddrFrom16([16]byte{0x20, bit.Draw(t, "a"), 4: bit.Draw(t, "b"), 15: bit.Draw(t, "c")})
	}
	return netip.AddrFrom4([4]byte{10, bit.Draw(t, "a") << 6, bit.Draw(t, "b"), bit.Draw(t, "c")})
}

func prefixMask(n, of int) netip.Addr {
	b := make([]byte, of/8)
	for i := range n {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func TestCompiledListsAnswerLikeTheWalk(t *testing.T) {
	world := known(t)
	country := func(a netip.Addr) string { return world.land(a).String() }
	rapid.Check(t, func(t *rapid.T) {
		v := &state.View{}
		n := state.Numbered(3)
		var compiled *lists
		// The list grows, so that what is extended is tried like what is new.
		for range rapid.IntRange(1, 3).Draw(t, "steps") {
			more := rapid.SliceOfN(rapid.Custom(drawEntry), 0, 12).Draw(t, "entries")
			if rapid.IntRange(0, 5).Draw(t, "clear") == 0 {
				v.ACL[n.Number].Entries = nil
			}
			v.ACL[n.Number].Entries = append(v.ACL[n.Number].Entries[:len(v.ACL[n.Number].Entries):len(v.ACL[n.Number].Entries)], more...)
			compiled = compiled.compile(v, world)
			for range 30 {
				a := drawAddr(t, rapid.Bool().Draw(t, "six"))
				if got, want := compiled.permits(n, a), v.Permits(n, a, country); got != want {
					t.Fatalf("%v: got %v, want %v for\n%v", a, got, want, v.ACL[n.Number].Entries)
				}
			}
		}
	})
}

func TestAListInUseIsNotChangedByItsExtension(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.1")
	entry := func(permit bool, cidr string) state.ACLEntry {
		p := netip.MustParsePrefix(cidr)
		return state.ACLEntry{Permit: permit, Addr: p.Addr(), Mask: prefixMask(p.Bits(), p.Addr().BitLen())}
	}
	v := &state.View{}
	v.ACL[1].Entries = []state.ACLEntry{entry(true, "192.168.0.0/16"), entry(true, "10.9.0.0/16")}
	var none *lists
	old := none.compile(v, nil)
	w := &state.View{}
	w.ACL[1].Entries = append(v.ACL[1].Entries[:2:2], entry(true, "10.0.0.0/8"))
	extended := old.compile(w, nil)
	if old.permits(state.Numbered(1), a) || !extended.permits(state.Numbered(1), a) {
		t.Errorf("old %v, extended %v, want false, true", old.permits(state.Numbered(1), a), extended.permits(state.Numbered(1), a))
	}
	if extended.list[0] != old.list[0] {
		t.Error("a list that did not change was compiled again")
	}
}

// TestNamedListsAnswerLikeTheWalk: also one that is not there, and one that grows.
func TestNamedListsAnswerLikeTheWalk(t *testing.T) {
	m := state.New()
	home, office := state.List{Name: "home"}, state.List{Name: "office"}
	var compiled *lists
	for _, o := range []state.Op{
		state.AppendNamedACL{Name: "office", Entry: state.ACLEntry{Permit: true, Addr: netip.MustParseAddr("10.0.0.0"), Mask: prefixMask(8, 32)}},
		state.AppendNamedACL{Name: "home", Entry: state.ACLEntry{Addr: netip.MustParseAddr("10.1.0.0"), Mask: prefixMask(16, 32)}},
		state.AppendNamedACL{Name: "office", Entry: state.ACLEntry{Permit: true, Addr: netip.MustParseAddr("11.0.0.0"), Mask: prefixMask(8, 32)}},
		state.RemoveNamedACL{Name: "office"},
	} {
		m.Apply(state.Command{Ops: []state.Op{o}})
		compiled = compiled.compile(m.View(), nil)
		for _, a := range []string{"10.0.0.1", "10.1.0.1", "11.0.0.1"} {
			for _, l := range []state.List{home, office} {
				addr := netip.MustParseAddr(a)
				if got, want := compiled.permits(l, addr), m.View().Permits(l, addr, nil); got != want {
					t.Errorf("after %v: list %v, %s: got %v, want %v", o, l, a, got, want)
				}
			}
		}
	}
}

func TestListNumbersOutsideTheRangeAnswerAsTheOriginal(t *testing.T) {
	var none *lists
	l := none.compile(&state.View{}, nil)
	a := netip.MustParseAddr("10.0.0.1")
	for n, want := range map[int]bool{0: true, 9: true, 10: true, 11: false, -1: false} {
		if got := l.permits(state.Numbered(n), a); got != want {
			t.Errorf("list %d: got %v, want %v", n, got, want)
		}
		if !l.permits(state.Numbered(n), netip.Addr{}) {
			t.Errorf("list %d denies a client on a Unix socket", n)
		}
	}
}

// BenchmarkPermits: what a look-up costs does not depend on the length of the list,
// whatever it consists of. Clients differ, so that not one path through the tree is
// all that is measured.
func BenchmarkPermits(b *testing.B) {
	world := known(b)
	holes := netip.MustParseAddr("255.255.0.255")
	kinds := []struct {
		name  string
		entry func(i int) state.ACLEntry
	}{
		{"prefixes", func(i int) state.ACLEntry {
			return state.ACLEntry{Addr: netip.AddrFrom4([4]byte{byte(i), byte(i >> 16), byte(i >> 8), 0}), Mask: prefixMask(24, 32)}
		}},
		{"ipv6", func(i int) state.ACLEntry {
			return state.ACLEntry{Addr: netip.AddrFrom16([16]byte{0x20, byte(i), byte(i >> 8), byte(i >> 16)}), Mask: prefixMask(48, 128)}
		}},
		{"masks with holes", func(i int) state.ACLEntry {
			return state.ACLEntry{Addr: netip.AddrFrom4([4]byte{byte(i), byte(i >> 8), 0, byte(i >> 16)}), Mask: holes}
		}},
		{"prefixes and countries", func(i int) state.ACLEntry {
			if i%10 == 3 {
				return state.ACLEntry{Country: string([]byte{'A' + byte(i/10%26), 'A' + byte(i/260%26)})}
			}
			return state.ACLEntry{Addr: netip.AddrFrom4([4]byte{byte(i), byte(i >> 16), byte(i >> 8), 0}), Mask: prefixMask(24, 32)}
		}},
	}
	clients := make([]netip.Addr, 1024)
	for i := range clients {
		clients[i] = netip.AddrFrom4([4]byte{10, byte(i * 7), byte(i * 13), byte(i)})
		if i%4 == 0 {
			clients[i] = netip.AddrFrom16([16]byte{0x20, byte(i), byte(i >> 3), 0, 0, byte(i)})
		}
	}
	for _, kind := range kinds {
		for _, n := range []int{10, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", kind.name, n), func(b *testing.B) {
				v := &state.View{}
				for i := range n {
					v.ACL[0].Entries = append(v.ACL[0].Entries, kind.entry(i))
				}
				var none *lists
				l := none.compile(v, world)
				i := 0
				for b.Loop() {
					l.permits(state.Numbered(0), clients[i&1023])
					i++
				}
			})
		}
	}
}
