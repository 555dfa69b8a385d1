package daemon

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"pen/cluster"
	"pen/internal/config"
)

func TestAMemberThatWasSilentHasReturned(t *testing.T) {
	now := time.Now()
	heard := map[cluster.ID]time.Time{}
	at := func(since time.Duration) bool {
		return returned(heard, []cluster.MemberStatus{
			{ID: cluster.ID{1}, Self: true, Heard: now.Add(since)},
			{ID: cluster.ID{2}, Heard: now.Add(since)},
			{ID: cluster.ID{3}}, // never heard of
		})
	}
	for _, step := range []struct {
		since time.Duration
		want  bool
	}{
		{0, false}, // the first word is no return
		{500 * time.Millisecond, false},
		{500 * time.Millisecond, false}, // nothing new
		{3 * time.Second, true},
		{3500 * time.Millisecond, false},
	} {
		if got := at(step.since); got != step.want {
			t.Errorf("after %v: got %t, want %t", step.since, got, step.want)
		}
	}
}

func TestADoubtIsAboutTheAddressThatItNames(t *testing.T) {
	l := &config.Local{}
	for _, text := range []string{"10.0.0.10/24", "10.0.9.10/24", "fd00::10/64"} {
		l.VIPs = append(l.VIPs, config.VIP{Prefix: netip.MustParsePrefix(text)})
	}
	for text, want := range map[string]int{
		"vip 10.0.9.10: eth0 has 10.0.9.10/24 permanently":  1,
		"vip fd00::10/64: IPv6 is switched off on eth0":     2,
		"vip 10.0.0.10/24, 10.0.9.10/24: needs a privilege": 0,
		"read interfaces: no":                               0,
	} {
		if got := aboutWhich(l, errors.New(text)); got != want {
			t.Errorf("%s: about the address %d, want %d", text, got, want)
		}
	}
}

func TestSelfMustBeAnAddressOfThisMachine(t *testing.T) {
	l := &config.Local{}
	if err := notHere(l); err != nil {
		t.Errorf("nothing was said: %v", err)
	}
	l.Self = netip.MustParseAddrPort("192.0.2.77:7950")
	if err := notHere(l); err == nil {
		t.Error("192.0.2.77 is taken for an address of this machine")
	}
	l.Self = netip.MustParseAddrPort("127.0.0.1:7950")
	if err := notHere(l); err != nil {
		t.Error(err)
	}
}
