package vip

import (
	"net/netip"
	"testing"
	"time"
)

func TestGatewayAnswersTwoOfThree(t *testing.T) {
	for _, c := range []struct {
		answers string // of each question; the last one is open
		want    bool
	}{
		{"", false}, {"y", false}, {"yy", true}, {"yn", false}, {"yny", true}, {"ynn", false}, {"ynnn", false}, {"yyn", true}, {"yynn", true}, {"yynnn", false},
	} {
		var a asking
		for _, r := range c.answers {
			a.next()
			if r == 'y' {
				a.answered()
			}
		}
		if a.good() != c.want {
			t.Errorf("%q: got %t, want %t", c.answers, a.good(), c.want)
		}
	}
}

func TestSeriesOfProbes(t *testing.T) {
	begin := time.Unix(1000, 0)
	var s series
	var sent []int
	free := -1
	for ms := 0; ms < 2000 && free < 0; ms += 10 {
		now := begin.Add(time.Duration(ms) * time.Millisecond)
		if s.due(now) {
			sent = append(sent, ms)
		}
		if s.free(now, time.Time{}) {
			free = ms
		}
	}
	if len(sent) != 3 || sent[0] != 0 || sent[1] != 500 || sent[2] != 1000 || free != 1500 {
		t.Errorf("sent at %v and free at %d, want 0, 500, 1000 and 1500", sent, free)
	}
	end := begin.Add(1500 * time.Millisecond)
	if s.free(end, begin.Add(700*time.Millisecond)) {
		t.Error("free although somebody has answered")
	}
	if s.free(end.Add(freeFor), time.Time{}) {
		t.Error("free, and that is too long ago")
	}
}

func TestWhichGateway(t *testing.T) {
	targets := []target{{Addr: netip.MustParseAddr("10.0.0.10"), Link: "eth0"}}
	routes := []route{
		{3, netip.MustParseAddr("10.1.0.1"), 0},
		{2, netip.MustParseAddr("10.0.0.2"), 200},
		{2, netip.MustParseAddr("10.0.0.1"), 100},
		{2, netip.MustParseAddr("fe80::1"), 0},
	}
	for _, c := range []struct {
		name   string
		g      Gateway
		routes []route
		want   string
		err    string
	}{
		{"the best default route on the interface", Gateway{}, routes, "10.0.0.1", ""},
		{"none there", Gateway{}, routes[:1], "", "gateway auto: no default route on the interface of the address: name a router with the word gateway"},
		{"named", Gateway{Addr: netip.MustParseAddr("10.0.0.99")}, nil, "10.0.0.99", ""},
	} {
		on, addr, err := gatewayOf(c.g, targets, links, c.routes)
		if text(err) != c.err || c.err == "" && (addr.String() != c.want || on.Name != "eth0") {
			t.Errorf("%s: got %v on %s, %v; want %s, %q", c.name, addr, on.Name, err, c.want, c.err)
		}
	}
}
