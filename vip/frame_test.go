package vip

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var ourMAC = net.HardwareAddr{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(net.HardwareAddr, netip.Addr) ([]byte, error)
		addr  string
		want  string
	}{
		{"gratuitous ARP in the form of a request", announcement, "10.0.0.10", `
			ffffffffffff 021122334455 0806
			0001 0800 06 04 0001
			021122334455 0a00000a
			000000000000 0a00000a`},
		{"ARP probe", probe, "10.0.0.10", `
			ffffffffffff 021122334455 0806
			0001 0800 06 04 0001
			021122334455 00000000
			000000000000 0a00000a`},
		{"unsolicited neighbour advertisement with override", announcement, "2001:db8::10", `
			333300000001 021122334455 86dd
			60000000 0020 3a ff
			20010db8000000000000000000000010
			ff020000000000000000000000000001
			88 00 9274 20000000
			20010db8000000000000000000000010
			02 01 021122334455`},
		{"neighbour solicitation without a sender", probe, "2001:db8::10", `
			3333ff000010 021122334455 86dd
			60000000 0018 3a ff
			00000000000000000000000000000000
			ff0200000000000000000001ff000010
			87 00 4ccf 00000000
			20010db8000000000000000000000010`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.build(ourMAC, netip.MustParseAddr(c.addr))
			if err != nil {
				t.Fatal(err)
			}
			want := unhex(t, c.want)
			if diff := cmp.Diff(hex.Dump(want), hex.Dump(got)); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
			if sum := checksum(got); len(got) > ethernetLen+ipv6Len && sum != 0 {
				t.Errorf("the checksum is wrong by %#x", sum)
			}
		})
	}
}

// checksum adds up an ICMPv6 packet with its pseudo header; 0 is right.
func checksum(frame []byte) uint16 {
	if len(frame) < ethernetLen+ipv6Len {
		return 0
	}
	ip := frame[ethernetLen:]
	b := append([]byte{}, ip[8:40]...)
	b = append(b, 0, 0, ip[4], ip[5], 0, 0, 0, ip[6])
	b = append(b, ip[40:]...)
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func TestClaims(t *testing.T) {
	const sender = "ffffffffffff 020000000066 "
	for _, c := range []struct {
		name, frame, addr, mac string
	}{
		{"ARP request by the owner", sender + "0806 0001 0800 06 04 0001 020000000077 0a00000a 000000000000 0a000001", "10.0.0.10", "02:00:00:00:00:77"},
		{"ARP reply, padded", sender + "0806 0001 0800 06 04 0002 020000000066 0a00000a 021122334455 0a000001 000000000000000000000000000000000000", "10.0.0.10", "02:00:00:00:00:66"},
		{"ARP probe", sender + "0806 0001 0800 06 04 0001 020000000066 00000000 000000000000 0a00000a", "", ""},
		{"ARP of other lengths", sender + "0806 0001 0800 08 04 0001 020000000066 0a00000a 000000000000 0a00000a 00000000", "", ""},
		{"ARP cut off", sender + "0806 0001 0800 06 04 0001 020000000066 0a00000a 0000", "", ""},
		{"advertisement with its option", sender + "86dd 60000000 0020 3a ff 20010db8000000000000000000000001 ff020000000000000000000000000001 88 00 0000 20000000 20010db8000000000000000000000010 02 01 020000000077", "2001:db8::10", "02:00:00:00:00:77"},
		{"advertisement without", sender + "86dd 60000000 0018 3a ff 20010db8000000000000000000000001 ff020000000000000000000000000001 88 00 0000 20000000 20010db8000000000000000000000010", "2001:db8::10", "02:00:00:00:00:66"},
		{"advertisement from afar", sender + "86dd 60000000 0018 3a fe 20010db8000000000000000000000001 ff020000000000000000000000000001 88 00 0000 20000000 20010db8000000000000000000000010", "", ""},
		{"advertisement cut off", sender + "86dd 60000000 0018 3a ff 20010db8000000000000000000000001 ff020000000000000000000000000001 88 00 0000 20000000 20010db8", "", ""},
		{"solicitation of a sender", sender + "86dd 60000000 0020 3a ff 20010db8000000000000000000000010 ff0200000000000000000001ff000001 87 00 0000 00000000 20010db8000000000000000000000001 01 01 020000000077", "2001:db8::10", "02:00:00:00:00:77"},
		{"solicitation of nobody", sender + "86dd 60000000 0018 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff000010 87 00 0000 00000000 20010db8000000000000000000000010", "", ""},
		{"an echo request", sender + "86dd 60000000 0008 3a ff 20010db8000000000000000000000010 ff020000000000000000000000000001 80 00 0000 00000000", "", ""},
		{"other protocol", sender + "0800 4500", "", ""},
		{"short", "ffff", "", ""},
	} {
		addr, mac, ok := claimOf(unhex(t, c.frame))
		if ok != (c.addr != "") {
			t.Errorf("%s: claims %v: %v", c.name, addr, ok)
			continue
		}
		if ok && (addr.String() != c.addr || mac.String() != c.mac) {
			t.Errorf("%s: %v is at %v, want %s at %s", c.name, addr, mac, c.addr, c.mac)
		}
	}
}

func FuzzClaimOf(f *testing.F) {
	for _, a := range []string{"10.0.0.10", "2001:db8::10"} {
		for _, build := range []func(net.HardwareAddr, netip.Addr) ([]byte, error){announcement, probe} {
			frame, err := build(ourMAC, netip.MustParseAddr(a))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(frame)
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		addr, mac, ok := claimOf(frame)
		if ok != addr.IsValid() || ok && (addr.IsUnspecified() || len(mac) == 0) {
			t.Errorf("%x: %v at %v, %v", frame, addr, mac, ok)
		}
	})
}
