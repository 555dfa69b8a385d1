package proxy

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"pen/state"
)

// drawEntry draws entries that meet often: few bits differ.
func drawEntry(t *rapid.T) state.ACLEntry {
	e := state.ACLEntry{Permit: rapid.Bool().Draw(t, "permit")}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		e.Country = "SE"
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
	rapid.Check(t, func(t *rapid.T) {
		v := &state.View{}
		const n = 3
		var compiled *lists
		// The list grows, so that what is extended is tried like what is new.
		for range rapid.IntRange(1, 3).Draw(t, "steps") {
			more := rapid.SliceOfN(rapid.Custom(drawEntry), 0, 12).Draw(t, "entries")
			if rapid.IntRange(0, 5).Draw(t, "clear") == 0 {
				v.ACL[n].Entries = nil
			}
			v.ACL[n].Entries = append(v.ACL[n].Entries[:len(v.ACL[n].Entries):len(v.ACL[n].Entries)], more...)
			compiled = compiled.compile(v)
			for range 30 {
				a := drawAddr(t, rapid.Bool().Draw(t, "six"))
				if got, want := compiled.permits(n, a), v.Permits(n, a); got != want {
					t.Fatalf("%v: got %v, want %v for\n%v", a, got, want, v.ACL[n].Entries)
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
	old := none.compile(v)
	w := &state.View{}
	w.ACL[1].Entries = append(v.ACL[1].Entries[:2:2], entry(true, "10.0.0.0/8"))
	extended := old.compile(w)
	if old.permits(1, a) || !extended.permits(1, a) {
		t.Errorf("old %v, extended %v, want false, true", old.permits(1, a), extended.permits(1, a))
	}
	if extended.list[0] != old.list[0] {
		t.Error("a list that did not change was compiled again")
	}
}

func TestListNumbersOutsideTheRangeAnswerAsTheOriginal(t *testing.T) {
	var none *lists
	l := none.compile(&state.View{})
	a := netip.MustParseAddr("10.0.0.1")
	for n, want := range map[int]bool{0: true, 9: true, 10: true, 11: false, -1: false} {
		if got := l.permits(n, a); got != want {
			t.Errorf("list %d: got %v, want %v", n, got, want)
		}
		if !l.permits(n, netip.Addr{}) {
			t.Errorf("list %d denies a client on a Unix socket", n)
		}
	}
}

func BenchmarkPermitsOf100000(b *testing.B) {
	v := &state.View{}
	for i := range 100_000 {
		a := netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 0})
		v.ACL[0].Entries = append(v.ACL[0].Entries, state.ACLEntry{Addr: a, Mask: prefixMask(24, 32)})
	}
	var none *lists
	l := none.compile(v)
	a := netip.MustParseAddr("10.1.2.3")
	for b.Loop() {
		l.permits(0, a)
	}
}
