package vip

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What others do to us has a pace: the carrier that comes and goes, claims, and
// what is logged of it.

func TestCarrierThatFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c carrier
		flap := func() { c.see(time.Now(), false); time.Sleep(100 * time.Millisecond); c.see(time.Now(), true) }
		steadyAfter := func(want time.Duration) {
			t.Helper()
			from := time.Now()
			for c.unsteady(time.Now()) != nil {
				time.Sleep(10 * time.Millisecond)
			}
			if got := time.Since(from); got != want {
				t.Errorf("after %d losses: of use again after %v, want %v", c.total, got, want)
			}
		}
		if c.see(time.Now(), false) || c.see(time.Now(), true) {
			t.Error("a carrier that was not there at the start is not one that was lost")
		}
		for _, want := range []time.Duration{0, time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second} {
			flap()
			steadyAfter(want)
		}
		flap()
		flap()
		if got, want := c.unsteady(time.Now()).Error(), "the carrier was lost 6 times within a minute: it must stand for 2s first"; got != want {
			t.Errorf("error %q, want %q", got, want)
		}
		// A minute of peace, and the past is forgotten.
		time.Sleep(time.Minute)
		flap()
		steadyAfter(0)
		if c.total != 10 {
			t.Errorf("%d losses counted, want 10", c.total)
		}
		// What lies is not unsteady: there are other words for it.
		c.see(time.Now(), false)
		c.see(time.Now(), true)
		c.see(time.Now(), false)
		if err := c.unsteady(time.Now()); err != nil {
			t.Errorf("without a carrier: %v", err)
		}
	})
}

func TestDefence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d defence
		run := func(for_ time.Duration, claimEvery time.Duration) (sent int) {
			for end := time.Now().Add(for_); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				if claimEvery > 0 && time.Now().UnixMilli()%claimEvery.Milliseconds() == 0 {
					d.claim(time.Now())
				}
				if d.take(time.Now()) {
					sent++
				}
			}
			return sent
		}
		d.claim(time.Now())
		if !d.take(time.Now()) {
			t.Error("the first claim is answered at once")
		}
		if got := run(10*time.Second, 0); got != 1 {
			t.Errorf("%d more for one claim, want 1", got)
		}
		if got := run(10*time.Second, 10*time.Millisecond); got != 10 {
			t.Errorf("%d announcements against 1000 claims in ten seconds, want 10", got)
		}
		d.stop()
		if got := run(10*time.Second, 0); got != 0 {
			t.Errorf("%d announcements after the end", got)
		}
		d.claim(time.Now())
		d.take(time.Now())
		d.stop()
		d.claim(time.Now())
		if d.take(time.Now()) {
			t.Error("a stop is no reason to be loud")
		}
	})
}

func TestPaceOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		lines, reasons := 0, 0
		for range 1001 {
			if times, ok := p.allow(time.Now()); ok {
				lines++
				reasons += times
			}
			time.Sleep(10 * time.Millisecond)
		}
		if lines != 11 || reasons != 1001 {
			t.Errorf("%d lines told %d reasons, want 11 and 1001", lines, reasons)
		}
	})
}

func TestInterfaceIsFoundAgain(t *testing.T) {
	vip := netip.MustParseAddr("10.0.0.10")
	at := func(name string, index int) target { return target{Addr: vip, Link: name, index: index} }
	eth := func(index int, name string) link { return link{Index: index, Name: name, Ethernet: true} }
	subnet := func(index int) []present { return []present{own(index, "10.0.0.11/24")} }
	for _, c := range []struct {
		name  string
		named string
		was   target
		links []link
		have  []present
		want  target
	}{
		{"for the first time", "", at("eth0", 0), []link{eth(2, "eth0")}, subnet(2), at("eth0", 2)},
		{"as it was", "", at("eth0", 2), []link{eth(2, "eth0")}, subnet(2), at("eth0", 2)},
		{"another name", "", at("eth0", 2), []link{eth(2, "lan0")}, subnet(2), at("lan0", 2)},
		{"another name, and no subnet", "", at("eth0", 2), []link{eth(2, "lan0")}, nil, at("lan0", 2)},
		{"names exchanged", "", at("eth0", 2), []link{eth(2, "eth1"), eth(3, "eth0")}, subnet(2), at("eth1", 2)},
		{"made again", "", at("eth0", 2), []link{eth(7, "eth0")}, subnet(7), at("eth0", 7)},
		{"made again, without addresses yet", "", at("eth0", 2), []link{eth(7, "eth0")}, nil, at("eth0", 7)},
		{"made again under another name", "", at("eth0", 2), []link{eth(7, "lan0")}, subnet(7), at("lan0", 7)},
		{"gone", "", at("eth0", 2), []link{eth(3, "eth1")}, nil, at("eth0", 2)},
		{"the subnet elsewhere, too", "", at("eth0", 2), []link{eth(2, "eth0"), eth(3, "eth1")}, append(subnet(2), own(3, "10.0.0.12/28")), at("eth0", 2)},
		{"named, another name", "eth0", at("eth0", 2), []link{eth(2, "lan0")}, subnet(2), at("eth0", 2)},
		{"named, made again", "eth0", at("eth0", 2), []link{eth(7, "eth0")}, nil, at("eth0", 7)},
		{"named, names exchanged", "eth0", at("eth0", 2), []link{eth(2, "eth1"), eth(3, "eth0")}, subnet(2), at("eth0", 3)},
	} {
		got := refind([]Address{{Prefix: netip.PrefixFrom(vip, 24), Link: c.named}}, []target{c.was}, c.links, c.have)
		if got[0] != c.want {
			t.Errorf("%s: %v, want %v", c.name, got[0], c.want)
		}
	}
}

// A standby without its interface says so, although it takes nothing away.
func TestMissingInterfaceIsLost(t *testing.T) {
	p := decide([]target{{Addr: netip.MustParseAddr("10.0.0.10"), Link: "eth9"}}, links, nil, false)
	if len(p.Lost) != 1 || p.Lost[0].Link != "eth9" || len(p.Add)+len(p.Remove) > 0 {
		t.Errorf("%+v", p)
	}
}

func TestLoglineNamesWhatToDo(t *testing.T) {
	c := carrier{seen: true, up: true}
	for range 3 {
		c.see(time.Now(), false)
		c.see(time.Now(), true)
	}
	if err := c.unsteady(time.Now()); err == nil || !strings.Contains(err.Error(), "must stand for 2s") {
		t.Errorf("error %v", err)
	}
}
