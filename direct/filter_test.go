package direct

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
)

// TestFilter runs the filter without its head, which asks the kernel about the packet and not
// the frame; TestDirectServerReturn has the rest.
func TestFilter(t *testing.T) {
	const head = 6
	addrs := []netip.Addr{netip.MustParseAddr("10.9.0.9"), vip4, netip.MustParseAddr("fd09::11"), vip6, netip.MustParseAddr("fd09:1::10")}
	const other4 = "020000000001 020000000002 0800 45000028 00070000 40060000 0a090001 0a09000b 0fa0 0050 000003e8 00000000 5002faf0 00000000"
	six := func(to, rest string) string {
		return "020000000001 020000000002 86dd 60000000 0014 " + rest[:5] + "fd090000000000000000000000000001" + to + rest[5:]
	}
	const toVIP6, toOther6, tcp6 = "fd090000000000000000000000000010", "fd090000000000000000000000000012", "06 400fa0 0050 000003e8 00000000 5002faf0 00000000"
	for _, c := range []struct {
		name, frame    string
		plain, tarpits bool
	}{
		{"ARP", arpForVIP, true, true},
		{"for the address", synToVIP, true, true},
		{"for another", other4, false, true},
		{"the middle of another's connection", other4[:len(other4)-17] + "5010faf0 00000000", false, false},
		{"an answer", other4[:len(other4)-17] + "5012faf0 00000000", false, false},
		{"a piece", datagram2, true, true},
		{"IPv6 for the address", six(toVIP6, tcp6), true, true},
		{"IPv6 for another", six(toOther6, tcp6), false, true},
		{"a question about a neighbour", six("ff0200000000000000000001ff000010", "3a ff8700 0000 00000000"+toVIP6), true, true},
		{"a ping", six(toOther6, "3a ff8000 0000 00000000 00000000 00000000 00000000"), false, false},
		{"a ping to the address", six(toVIP6, "3a ff8000 0000 00000000 00000000 00000000 00000000"), true, true},
		{"another protocol", "020000000001 020000000002 88cc 0000 0000", false, false},
	} {
		for _, tarpit := range []bool{false, true} {
			want := c.plain
			if tarpit {
				want = c.tarpits
			}
			program := filter(addrs, tarpit)
			if _, err := bpf.Assemble(program); err != nil {
				t.Fatal(err)
			}
			vm, err := bpf.NewVM(program[head:])
			if err != nil {
				t.Fatal(err)
			}
			if n, err := vm.Run(bytesOf(t, c.frame)); err != nil || (n > 0) != want {
				t.Errorf("%s, tarpit %v: let through %v, %v; want %v", c.name, tarpit, n > 0, err, want)
			}
		}
	}
}

// A filter of as many addresses as there can be is one that the kernel takes.
func TestLongestFilter(t *testing.T) {
	var addrs []netip.Addr
	for i := range 300 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	const most = 4096
	if n := len(filter(addrs, true)); n > most {
		t.Errorf("%d instructions, at most %d", n, most)
	}
}
