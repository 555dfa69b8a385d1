package direct

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func bytesOf(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	ours   = mac{2, 0, 0, 0, 0, 1}
	theirs = mac{2, 0, 0, 0, 0, 2}
	vip4   = netip.MustParseAddr("10.9.0.10")
	vip6   = netip.MustParseAddr("fd09::10")
)

// The frames of the original, as they were seen on a veth pair.
const (
	arpForVIP   = "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 0a090001 000000000000 0a09000a"
	arpFromVIP  = "020000000002 020000000001 0806 0001 0800 06 04 0002 020000000001 0a09000a 020000000002 0a090001"
	arpForMAC   = "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 00000000 000000000000 0a090003"
	arpFromMAC  = "020000000001 02000000000a 0806 0001 0800 06 04 0002 02000000000a 0a090003 020000000001 00000000"
	synToVIP    = "020000000001 020000000002 0800 45000028 00070000 40060000 0a090001 0a09000a 0fa0 0050 000003e8 00000000 5002faf0 00000000"
	synToServer = "02000000000a 020000000001 0800 45000028 00070000 40060000 0a090001 0a09000a 0fa0 0050 000003e8 00000000 5002faf0 00000000"
	synToNobody = "020000000001 020000000002 0800 45000028 00070000 40060000 0a090001 0a090046 0fa0 0016 000003e8 00000000 5002faf0 00000000"
)

func TestAnswersAreTheOriginals(t *testing.T) {
	asked := parse(bytesOf(t, arpForVIP))
	if asked.kind != arpAsk || asked.dst != vip4 || asked.from != theirs {
		t.Fatalf("parsed: %+v", asked)
	}
	if got, want := hex.EncodeToString(tell(nil, ours, asked.dst, asked.from, asked.src)), hex.EncodeToString(bytesOf(t, arpFromVIP)); got != want {
		t.Errorf("answer\n got %s\nwant %s", got, want)
	}
	if got, want := hex.EncodeToString(ask(nil, ours, netip.MustParseAddr("10.9.0.3"), mac{})), hex.EncodeToString(bytesOf(t, arpForMAC)); got != want {
		t.Errorf("question\n got %s\nwant %s", got, want)
	}
}

// TestTarpitAnswersASYN: as the original does, but for the options of the client's header, its
// identification, and the window, which is that of the client there.
func TestTarpitAnswersASYN(t *testing.T) {
	frame := bytesOf(t, synToNobody)
	got := swallow(nil, ours, frame, parse(frame))
	want := bytesOf(t, `020000000002 020000000001 0800 45000028 00004000 40062678 0a090046 0a090001
		0016 0fa0 0000002a 000003e9 5012 0003 87ae 0000`)
	if hex.EncodeToString(got) != hex.EncodeToString(want) {
		t.Errorf("answer\n got %x\nwant %x", got, want)
	}
	if k := parse(got); k.kind != segment || k.flags != flagSYN|flagACK || k.dport != 4000 {
		t.Errorf("parsed: %+v", k)
	}
	if sum := checksum(got[ethernetLen:ethernetLen+ipv4Len], 0); sum != 0 {
		t.Errorf("the header's checksum is wrong by %#x", sum)
	}
	if sum := checksum(got[ethernetLen+ipv4Len:], pseudo(netip.MustParseAddr("10.9.0.70"), netip.MustParseAddr("10.9.0.1"), tcp, tcpLen)); sum != 0 {
		t.Errorf("the checksum is wrong by %#x", sum)
	}
}

func TestNeighbourDiscovery(t *testing.T) {
	client := netip.MustParseAddr("fd09::1")
	question := discovery(ethernet(nil, groupMAC(solicitedNode(vip6)), theirs, etherTypeIPv6), solicitation, 0, client, solicitedNode(vip6), vip6, 1, theirs)
	want := bytesOf(t, `3333ff000010 020000000002 86dd 60000000 0020 3a ff fd090000000000000000000000000001 ff0200000000000000000001ff000010
		87 00 7d68 00000000 fd090000000000000000000000000010 0101 020000000002`)
	if hex.EncodeToString(question) != hex.EncodeToString(want) {
		t.Errorf("question\n got %x\nwant %x", question, want)
	}
	k := parse(question)
	if k.kind != ndAsk || k.src != client || k.dst != vip6 || k.from != theirs {
		t.Fatalf("parsed: %+v", k)
	}
	told := tell(nil, ours, k.dst, k.from, k.src)
	if a := parse(told); a.kind != ndTell || a.src != vip6 || a.from != ours {
		t.Errorf("answer: %+v", a)
	}
	if mac(told[:6]) != theirs || told[ethernetLen+ipv6Len+4] != 0x60 {
		t.Errorf("answer to one who has asked: %x", told)
	}
	everybody := tell(nil, ours, vip6, theirs, netip.IPv6Unspecified())
	if mac(everybody[:6]) != (mac{0x33, 0x33, 0, 0, 0, 1}) || everybody[ethernetLen+ipv6Len+4] != 0x20 {
		t.Errorf("answer to one without an address: %x", everybody)
	}
	for _, m := range [][]byte{question, told, everybody} {
		body := m[ethernetLen+ipv6Len:]
		from, to := netip.AddrFrom16([16]byte(m[22:38])), netip.AddrFrom16([16]byte(m[38:54]))
		if sum := checksum(body, pseudo(from, to, icmp6, len(body))); sum != 0 {
			t.Errorf("the checksum of %x is wrong by %#x", m, sum)
		}
	}
}

func TestParse(t *testing.T) {
	const ether4, ether6 = "020000000001 020000000002 0800", "020000000001 020000000002 86dd"
	const from6, to6 = "fd090000000000000000000000000001", "fd090000000000000000000000000010"
	client4, client6 := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")
	for _, c := range []struct {
		name, frame string
		want        packet
	}{
		{"nothing", "", packet{}},
		{"too short", "0102", packet{}},
		{"another protocol", "020000000001 020000000002 88cc 0000", packet{}},
		{"TCP", synToVIP, packet{kind: segment, proto: tcp, flags: flagSYN, src: client4, dst: vip4, sport: 4000, dport: 80, id: 7, payload: 34}},
		{"options", ether4 + "4600002c 00070000 40060000 0a090001 0a09000a 01010101 0fa0 0050 000003e8 00000000 5002faf0 00000000", packet{kind: segment, proto: tcp, flags: flagSYN, src: client4, dst: vip4, sport: 4000, dport: 80, id: 7, payload: 38}},
		{"UDP", ether4 + "4500001c 00070000 40110000 0a090001 0a09000a 0fa0 0035 0008 0000", packet{kind: segment, proto: udp, src: client4, dst: vip4, sport: 4000, dport: 53, id: 7, payload: 34}},
		{"first piece", ether4 + "4500001c 00072000 40110000 0a090001 0a09000a 0fa0 0035 0bb8 0000", packet{kind: segment, proto: udp, more: true, src: client4, dst: vip4, sport: 4000, dport: 53, id: 7, payload: 34}},
		{"another piece", ether4 + "4500001c 000720b9 40110000 0a090001 0a09000a 0fa0 0035 0bb8 0000", packet{kind: piece, proto: udp, more: true, src: client4, dst: vip4, id: 7, payload: 34}},
		{"shorter than it says", ether4 + "45000028 00070000 40060000 0a090001 0a09000a 0fa0 0050", packet{kind: broken}},
		{"a header of nothing", ether4 + "44000028 00070000 40060000 0a090001 0a09000a 0fa0 0050 000003e8 00000000 5002faf0 00000000", packet{kind: broken}},
		{"TCP without a header", ether4 + "4500001c 00070000 40060000 0a090001 0a09000a 0fa0 0050 000003e8", packet{kind: broken, proto: tcp, src: client4, dst: vip4, id: 7, payload: 34}},
		{"ping", ether4 + "4500001c 00070000 40010000 0a090001 0a09000a 0800 0000 0001 0001", packet{proto: icmp4, src: client4, dst: vip4, id: 7, payload: 34}},
		{
			"fragmentation needed", ether4 + "45000038 00070000 40010000 0a090063 0a09000a 0304 0000 0000 0578" +
				"450005dc 00014000 40060000 0a09000a 0a090001 0050 0fa0 00000001", packet{kind: report, proto: tcp, src: client4, dst: vip4, sport: 4000, dport: 80, id: 7, payload: 34},
		},
		{
			"an error about another's packet", ether4 + "45000038 00070000 40010000 0a090063 0a09000a 0304 0000 0000 0578" +
				"450005dc 00014000 40060000 0a09000b 0a090001 0050 0fa0 00000001", packet{proto: icmp4, src: netip.MustParseAddr("10.9.0.99"), dst: vip4, id: 7, payload: 34},
		},
		{"TCP by IPv6", ether6 + "60000000 0014 06 40" + from6 + to6 + "0fa0 0050 000003e8 00000000 5010faf0 00000000", packet{kind: segment, proto: tcp, flags: flagACK, src: client6, dst: vip6, sport: 4000, dport: 80, payload: 54}},
		{"behind options", ether6 + "60000000 0010 3c 40" + from6 + to6 + "1100 0104 0000 0000 0fa0 0035 0008 0000", packet{kind: segment, proto: udp, src: client6, dst: vip6, sport: 4000, dport: 53, payload: 62}},
		{"options without an end", ether6 + "60000000 0008 3c 40" + from6 + to6 + "1101 0104 0000 0000", packet{kind: broken, src: client6, dst: vip6}},
		{"first piece by IPv6", ether6 + "60000000 0010 2c 40" + from6 + to6 + "1100 0001 00000009 0fa0 0035 0008 0000", packet{kind: segment, proto: udp, more: true, src: client6, dst: vip6, sport: 4000, dport: 53, id: 9, payload: 62}},
		{"another piece by IPv6", ether6 + "60000000 0010 2c 40" + from6 + to6 + "1100 05a8 00000009 0fa0 0035 0008 0000", packet{kind: piece, proto: udp, src: client6, dst: vip6, id: 9}},
		{
			"packet too big", ether6 + "60000000 0034 3a 40" + from6 + to6 + "0200 0000 00000500" +
				"60000000 0014 06 40" + to6 + from6 + "0050 0fa0", packet{kind: report, proto: tcp, src: client6, dst: vip6, sport: 4000, dport: 80, payload: 54},
		},
		{"neighbours from elsewhere", ether6 + "60000000 0018 3a fe" + from6 + to6 + "8700 0000 00000000" + to6, packet{kind: broken, proto: icmp6, src: client6, dst: vip6, payload: 54}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := parse(bytesOf(t, c.frame))
			got.from, got.at = mac{}, 0
			if got != c.want {
				t.Errorf("\n got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// FuzzFrame feeds a whole link: whatever comes, what goes out is an answer in a form of
// ours, or the frame with other MACs.
func FuzzFrame(f *testing.F) {
	for _, s := range []string{arpForVIP, arpFromMAC, synToVIP, synToNobody} {
		f.Add(bytesOf(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(t)
		w.reach()
		before := append([]byte(nil), b...)
		v, reply := w.frame(b)
		switch v {
		case sendOn:
			copy(before, b[:12])
			if string(before) != string(b) {
				t.Errorf("more than the MACs was changed: %x, was %x", b, before)
			}
			if mac(b[6:12]) != ours || mac(b[:6]) == ours {
				t.Errorf("sent on from or to the wrong machine: %x", b)
			}
		case answer:
			k := parse(reply)
			if k.kind != arpTell && k.kind != ndTell && (k.kind != segment || k.flags != flagSYN|flagACK) {
				t.Errorf("answered %x by %x", before, reply)
			}
		}
	})
}
