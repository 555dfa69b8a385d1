package vip

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

var links = []link{
	{Index: 1, Name: "lo"},
	{Index: 2, Name: "eth0", Ethernet: true, Up: true, Carrier: true},
	{Index: 3, Name: "eth1", Ethernet: true, Up: true, Carrier: true},
	{Index: 4, Name: "tun0", Up: true, Carrier: true},
}

func own(index int, s string) present {
	return present{Link: index, Prefix: prefix(s), Valid: forever, Preferred: forever}
}

func ourOwn(index int, s string, valid uint32) present {
	return present{Link: index, Prefix: prefix(s), Proto: proto, Valid: valid}
}

func TestInterfaceOfAddress(t *testing.T) {
	base := []present{own(1, "127.0.0.1/8"), own(2, "10.0.0.11/24"), own(2, "2001:db8::11/64"), own(3, "10.1.0.11/24"), own(4, "10.8.0.1/24")}
	for _, c := range []struct {
		name string
		vip  Address
		have []present
		want string
		err  string
	}{
		{"the one with the subnet", Address{Prefix: prefix("10.0.0.10/24")}, base, "eth0", ""},
		{"the other", Address{Prefix: prefix("10.1.0.10/24")}, base, "eth1", ""},
		{"IPv6", Address{Prefix: prefix("2001:db8::10/64")}, base, "eth0", ""},
		{"named", Address{Prefix: prefix("10.0.0.10/24"), Link: "eth1"}, base, "eth1", ""},
		{"named, without an address of its own", Address{Prefix: prefix("192.0.2.1/24"), Link: "eth1"}, nil, "eth1", ""},
		{"written as a host", Address{Prefix: prefix("10.0.0.10/32")}, base, "eth0", ""},
		{"longest subnet", Address{Prefix: prefix("10.0.0.10/24")}, append(base, own(3, "10.0.0.12/28")), "eth1", ""},
		{"nowhere", Address{Prefix: prefix("10.2.0.10/24")}, base, "", "no interface has a subnet with this address; say dev INTERFACE"},
		{"twice", Address{Prefix: prefix("10.0.0.10/24")}, append(base, own(3, "10.0.0.12/24")), "", "eth0 and eth1 have a subnet with this address; say dev INTERFACE"},
		{"not by another virtual address", Address{Prefix: prefix("10.2.0.10/24")}, append(base, ourOwn(2, "10.2.0.9/24", 8)), "", "no interface"},
		{"a tunnel has no neighbours", Address{Prefix: prefix("10.8.0.10/24")}, base, "", "no interface has"},
		{"a named tunnel", Address{Prefix: prefix("10.8.0.10/24"), Link: "tun0"}, base, "", "tun0 has no neighbours to tell"},
		{"a named one that is not there", Address{Prefix: prefix("10.8.0.10/24"), Link: "eth9"}, base, "", "no interface eth9"},
	} {
		got, err := resolve([]Address{c.vip}, links, c.have)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.HasPrefix(err.Error(), "vip "+c.vip.String()) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil || got[0] != (target{Addr: c.vip.Prefix.Addr(), Link: c.want}) {
			t.Errorf("%s: %v, %v, want %s", c.name, got, err, c.want)
		}
	}
}

func TestDecide(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("2001:db8::10")
	targets := []target{{Addr: a, Link: "eth0"}, {Addr: b, Link: "eth1"}}
	for _, c := range []struct {
		name string
		have []present
		hold bool
		want plan
	}{
		{"nothing there, nothing wanted", nil, false, plan{}},
		{"nothing there, wanted", []present{own(2, "10.0.0.11/24")}, true, plan{Add: []placed{{a, links[1]}, {b, links[2]}}}},
		{"fresh", []present{ourOwn(2, "10.0.0.10/32", 10), ourOwn(3, "2001:db8::10/128", 9)}, true, plan{}},
		{"old", []present{ourOwn(2, "10.0.0.10/32", 8), ourOwn(3, "2001:db8::10/128", 9)}, true, plan{Renew: []placed{{a, links[1]}}}},
		{"made permanent by somebody", []present{ourOwn(2, "10.0.0.10/32", forever), ourOwn(3, "2001:db8::10/128", 9)}, true, plan{Renew: []placed{{a, links[1]}}}},
		{
			"no longer wanted",
			[]present{ourOwn(2, "10.0.0.10/32", 8), ourOwn(3, "2001:db8::10/128", 9)},
			false,
			plan{Remove: []present{ourOwn(2, "10.0.0.10/32", 8), ourOwn(3, "2001:db8::10/128", 9)}},
		},
		{"one is missing", []present{ourOwn(2, "10.0.0.10/32", 10)}, true, plan{Add: []placed{{b, links[2]}}}},
		{
			"on the wrong interface",
			[]present{ourOwn(3, "10.0.0.10/32", 10), ourOwn(3, "2001:db8::10/128", 9)},
			true,
			plan{Remove: []present{ourOwn(3, "10.0.0.10/32", 10)}, Add: []placed{{a, links[1]}}},
		},
		{
			"in the wrong form",
			[]present{ourOwn(2, "10.0.0.10/24", 10), ourOwn(3, "2001:db8::10/128", 9)},
			true,
			plan{Remove: []present{ourOwn(2, "10.0.0.10/24", 10)}, Add: []placed{{a, links[1]}}},
		},
		{"of others", []present{own(2, "10.0.0.10/24"), own(3, "2001:db8::10/64")}, false, plan{}},
		{"of another cluster", []present{ourOwn(2, "10.0.0.77/32", 9)}, false, plan{}},
	} {
		if diff := cmp.Diff(c.want, decide(targets, links, c.have, c.hold), cmp.Comparer(func(x, y netip.Addr) bool { return x == y }), cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
			t.Errorf("%s: want -, got +\n%s", c.name, diff)
		}
	}
	if got := decide(targets, links[:2], nil, true).Lost; len(got) != 1 || got[0].Addr != b {
		t.Errorf("an interface is gone: %v", got)
	}
}

func TestOurs(t *testing.T) {
	for _, c := range []struct {
		name string
		p    present
		want bool
	}{
		{"our mark", present{Prefix: prefix("10.0.0.10/32"), Proto: proto, Valid: forever}, true},
		{"the mark of others", present{Prefix: prefix("10.0.0.10/32"), Proto: 3, Label: "eth0:pen", Valid: 5}, false},
		{"our label, old kernel", present{Prefix: prefix("10.0.0.10/32"), Label: "eth0:pen", Valid: 5}, true},
		{"no mark, old kernel, IPv6", present{Prefix: prefix("2001:db8::10/128"), Valid: 5}, true},
		{"permanent", present{Prefix: prefix("2001:db8::10/128"), Valid: forever, Preferred: forever}, false},
		{"leased by DHCP, about to end", present{Prefix: prefix("10.0.0.10/24"), Valid: 5, Preferred: 5}, false},
		{"leased by DHCPv6, about to end", present{Prefix: prefix("2001:db8::10/128"), Valid: 5, Preferred: 5}, false},
	} {
		if got := c.p.ours(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestForeignAddress(t *testing.T) {
	targets := []target{{Addr: netip.MustParseAddr("10.0.0.10"), Link: "eth0"}}
	dhcp := own(3, "10.0.0.10/24")
	dhcp.Valid = 3600
	for want, have := range map[string]present{
		"":                             ourOwn(2, "10.0.0.10/32", 4),
		"eth0 has 10.0.0.10/24 perman": own(2, "10.0.0.10/24"),
		"lo has 10.0.0.10/32 perman":   own(1, "10.0.0.10/32"),
		"eth1 has 10.0.0.10/24 for 3600 s, not by pen": dhcp,
	} {
		err := foreign(targets, links, []present{own(2, "10.0.0.11/24"), have})
		if text(err) != "" != (want != "") || !strings.Contains(text(err), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestKernelTimeout(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct{ left, lease, tick, want time.Duration }{
		{time.Second, 100 * ms, 4 * ms, 96 * ms},
		{50 * ms, 100 * ms, 4 * ms, 46 * ms},
		{50*ms + 999*time.Microsecond, 100 * ms, 4 * ms, 46 * ms},
		{4 * ms, 100 * ms, 4 * ms, 0},
		{3 * ms, 100 * ms, 4 * ms, 0},
		{0, 100 * ms, 4 * ms, 0},
		{-time.Hour, 100 * ms, 4 * ms, 0},
	} {
		if got := timeout(c.left, c.lease, c.tick); got != c.want {
			t.Errorf("timeout(%v, %v, %v) = %v, want %v", c.left, c.lease, c.tick, got, c.want)
		}
	}
}

func TestConflicts(t *testing.T) {
	var s State
	now := time.Now()
	a := netip.MustParseAddr("10.0.0.10")
	if !s.conflict("eth0", a, "02:00:00:00:00:01", now) || s.conflict("eth0", a, "02:00:00:00:00:01", now.Add(time.Second)) {
		t.Error("the first is news, the second is not")
	}
	if !s.conflict("eth0", a, "02:00:00:00:00:01", now.Add(2*time.Minute)) {
		t.Error("after a minute of peace it is news")
	}
	if c := s.Conflicts; len(c) != 1 || c[0].Count != 3 || !c[0].First.Equal(now) || !c[0].Last.Equal(now.Add(2*time.Minute)) {
		t.Errorf("%+v", c)
	}
	for i := range byte(100) {
		s.conflict("eth0", netip.AddrFrom4([4]byte{10, 0, 0, i + 20}), "02:00:00:00:00:02", now)
	}
	if n := len(s.Conflicts); n != maxConflicts || s.Conflicts[n-1].Addr != netip.MustParseAddr("10.0.0.119") {
		t.Errorf("%d conflicts, last %+v", n, s.Conflicts[n-1])
	}
}
