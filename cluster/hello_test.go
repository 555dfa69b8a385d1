package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/memberlist"
)

var sameAddr = cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})

func testHello(node byte) Hello {
	return Hello{
		Min: ProtocolMin, Max: ProtocolMax, Cluster: "shop", Formation: ID{9}, Generation: 3, Node: ID{node}, Boot: ID{node, 1}, Name: "lb1",
		Addr: netip.MustParseAddrPort("10.0.0.11:7950"), Purpose: PurposeRaft, Heartbeat: 200 * time.Millisecond, Priority: -5, Witness: true, StateVersion: 7,
	}
}

func TestHelloCrosses(t *testing.T) {
	h := testHello(1)
	h.Addr = netip.MustParseAddrPort("[2001:db8::1]:7950")
	got, err := decodeHello(h.appendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(h, got, sameAddr); d != "" {
		t.Error(d)
	}
}

// The bytes are what other versions see.
func TestHelloBytesStay(t *testing.T) {
	got := hex.EncodeToString(testHello(1).appendTo(nil))
	want := "0001" + "0002" + // protocols
		"04" + hex.EncodeToString([]byte("shop")) +
		"09" + strings.Repeat("00", 15) + "0000000000000003" + // formation, generation
		"01" + strings.Repeat("00", 15) + "0101" + strings.Repeat("00", 14) + // node, boot
		"03" + hex.EncodeToString([]byte("lb1")) +
		"06" + "0a00000b" + "0e1f" + // address, the port with its low byte last
		"01" + "000000c8" + "fffffffb" + "01" + "00000007" + // purpose, heartbeat, priority, witness, state version
		"00000000" // state level in use
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHelloOfLaterVersionIsRead(t *testing.T) {
	h := testHello(1)
	got, err := decodeHello(append(h.appendTo(nil), "something new"...))
	if err != nil || !cmp.Equal(h, got, sameAddr) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestHelloCutShortIsRefused(t *testing.T) {
	b := testHello(1).appendTo(nil)
	for n := range b {
		if n == len(b)-4 {
			continue // as the first version says it
		}
		if h, err := decodeHello(b[:n]); err == nil {
			t.Errorf("%d of %d bytes: got %+v", n, len(b), h)
		}
	}
}

func TestHelloIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Hello){
		"no protocol":            func(h *Hello) { h.Min, h.Max = 0, 0 },
		"empty range":            func(h *Hello) { h.Min, h.Max = 3, 2 },
		"no cluster":             func(h *Hello) { h.Cluster = "" },
		"line break in cluster":  func(h *Hello) { h.Cluster = "a\nb" },
		"long cluster":           func(h *Hello) { h.Cluster = strings.Repeat("a", NameMax+1) },
		"escape in name":         func(h *Hello) { h.Name = "\x1b[31m" },
		"name is not utf-8":      func(h *Hello) { h.Name = "\xff" },
		"no node":                func(h *Hello) { h.Node = ID{} },
		"no boot":                func(h *Hello) { h.Boot = ID{} },
		"unknown purpose":        func(h *Hello) { h.Purpose = 99 },
		"no purpose":             func(h *Hello) { h.Purpose = 0 },
		"heartbeat of some days": func(h *Hello) { h.Heartbeat = 48 * time.Hour },
		"zone":                   func(h *Hello) { h.Addr = netip.MustParseAddrPort("[fe80::1%eth0]:1") },
	} {
		h := testHello(1)
		spoil(&h)
		if _, err := decodeHello(h.appendTo(nil)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestWhoFits(t *testing.T) {
	ours := testHello(1)
	for _, c := range []struct {
		name string
		peer func(*Hello)
		want Reason // 0: fits
		text string
	}{
		{name: "like us", peer: func(*Hello) {}},
		{name: "wider range", peer: func(h *Hello) { h.Max = 9 }},
		{name: "not formed yet", peer: func(h *Hello) { h.Formation, h.Generation = ID{}, 0 }},
		{name: "other cluster", peer: func(h *Hello) { h.Cluster = "dev" }, want: OtherCluster, text: "ours shop, theirs dev"},
		{name: "other case", peer: func(h *Hello) { h.Cluster = "Shop" }, want: OtherCluster},
		{name: "newer", peer: func(h *Hello) { h.Min, h.Max = 3, 4 }, want: OtherVersion, text: "ours 1 to 2, theirs 3 to 4"},
		{name: "at a level that we know", peer: func(h *Hello) { h.StateVersion, h.Level = 9, 7 }},
		{name: "at a level beyond us", peer: func(h *Hello) { h.StateVersion, h.Level = 9, 8 }, want: OtherVersion, text: "state level 8 is in use, lb1 knows up to 7: install a newer version there"},
		{name: "other formation", peer: func(h *Hello) { h.Formation = ID{8} }, want: OtherFormation},
		{name: "left behind", peer: func(h *Hello) { h.Generation = 2 }, want: OtherFormation, text: "generation 3 here, 2 there: it is from before the cluster was recovered; stop pen there, remove the directory cluster in its data_dir, start it again"},
		{name: "ourselves", peer: func(h *Hello) { h.Node, h.Boot = ours.Node, ours.Boot }, want: Itself},
		{name: "our copy", peer: func(h *Hello) { h.Node = ours.Node }, want: DuplicateNode},
	} {
		peer := testHello(2)
		c.peer(&peer)
		for side, refused := range map[string]*RefusedError{"here": ours.fits(peer), "there": peer.fits(ours)} {
			var got Reason
			if refused != nil {
				got = refused.Reason
			}
			if got != c.want || refused != nil && side == "here" && !strings.Contains(refused.Error(), c.text) {
				t.Errorf("%s, %s: got %v, want %v %q", c.name, side, refused, c.want, c.text)
			}
		}
	}
}

func TestEveryReasonAndPurposeHasAName(t *testing.T) {
	for r := WrongKey; r < reasonEnd; r++ {
		if strings.HasPrefix(r.String(), "reason") {
			t.Error(r)
		}
	}
	for p := PurposeRaft; p <= purposeProbe; p++ {
		if strings.HasPrefix(p.String(), "purpose") {
			t.Error(p)
		}
	}
	if Reason(200).String() != "reason 200" || Purpose(200).String() != "purpose 200" {
		t.Error("names of what is unknown")
	}
}

func TestIDHasOneSpelling(t *testing.T) {
	id := NewID()
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", id.String()[1:], strings.ToUpper(ID{0xab}.String()), strings.Repeat("g", 32)} {
		if got, err := ParseID(bad); err == nil {
			t.Errorf("%q: got %v", bad, got)
		}
	}
}

func TestMetadataFitsAndCrosses(t *testing.T) {
	d := metadata{hello: testHello(1), meta: Meta{Version: "v2.0.1", Applied: 1 << 60, Digest: 5, Eligible: true, Reason: "no"}}
	got, err := decodeMetadata(d.encode())
	if err != nil {
		t.Fatal(err)
	}
	want := d // what is not in it comes from elsewhere
	want.hello.Node, want.hello.Addr, want.hello.Cluster, want.hello.Min, want.hello.Max, want.hello.Purpose = ID{}, netip.AddrPort{}, "", 0, 0, 0
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(metadata{}), sameAddr); diff != "" {
		t.Error(diff)
	}
	d.hello.Name = strings.Repeat("n", NameMax)
	d.meta.Version, d.meta.Reason = strings.Repeat("v", 400), strings.Repeat("ä", 400)
	b := d.encode()
	if len(b) > memberlist.MetaMaxSize {
		t.Errorf("%d bytes", len(b))
	}
	if got, err := decodeMetadata(b); err != nil || got.meta.Reason != strings.Repeat("ä", reasonMax/2) {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := range b {
		if _, err := decodeMetadata(b[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(b))
		}
	}
}

func FuzzHello(f *testing.F) {
	f.Add(testHello(1).appendTo(nil))
	f.Add(append(testHello(2).appendTo(nil), 1, 2, 3))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHello(b)
		if err != nil {
			return
		}
		again, err := decodeHello(h.appendTo(nil))
		if err != nil || !cmp.Equal(h, again, sameAddr) {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
		ours := testHello(1)
		if r := ours.fits(h); r != nil {
			for _, c := range r.Error() {
				if c < ' ' {
					t.Fatalf("%q can not be logged", r.Error())
				}
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(answer{hello: testHello(1)}.appendTo(nil))
	f.Add(answer{reason: DuplicateNode, detail: "lives", hello: testHello(1)}.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAnswer(b)
		if err != nil {
			return
		}
		if again, err := decodeAnswer(a.appendTo(nil)); err != nil || again.reason != a.reason || again.detail != a.detail {
			t.Fatalf("%+v became %+v, %v", a, again, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	if err := writeFrame(&b, testHello(1).appendTo(nil)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte(helloMagic + "\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		body, err := readFrame(r)
		if err != nil {
			return
		}
		if cap(body) > 2*helloMax || len(b)-r.Len() != helloHead+len(body) {
			t.Fatalf("%d bytes, %d of %d left", len(body), r.Len(), len(b))
		}
		var out bytes.Buffer
		if err := writeFrame(&out, body); err != nil || !bytes.Equal(out.Bytes(), b[:helloHead+len(body)]) {
			t.Fatalf("%x became %x, %v", b, out.Bytes(), err)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add(metadata{hello: testHello(1), meta: Meta{Version: "v1", Reason: "no"}}.encode())
	f.Add([]byte{metaFormat})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeMetadata(b)
		if err != nil {
			return
		}
		out := d.encode()
		if len(out) > memberlist.MetaMaxSize {
			t.Fatalf("%d bytes", len(out))
		}
		if again, err := decodeMetadata(out); err != nil || again.meta != (metadata{meta: d.meta}).meta.fit() {
			t.Fatalf("%+v became %+v, %v", d, again, err)
		}
	})
}

// A frame that promises much costs nothing until it is there.
func TestLongFrameIsNotAllocated(t *testing.T) {
	long := helloMagic + "\xff\xff"
	n := testing.AllocsPerRun(100, func() {
		_, _ = readFrame(strings.NewReader(long))
	})
	if _, err := readFrame(strings.NewReader(long)); err == nil || n > 8 {
		t.Errorf("got %v, %v allocations", err, n)
	}
	if _, err := readFrame(strings.NewReader(helloMagic + "\x00\x10short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}
