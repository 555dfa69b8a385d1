package cluster

import (
	"strings"
	"testing"
	"time"
)

func TestFallback(t *testing.T) {
	// A challenger that may take the address, and a holder that may keep it.
	free := Evidence{
		Eligible: true, Carrier: true, Gateway: true, GatewayText: "the gateway", Free: true,
		Sighting: Sighting{Pair: true, Path: "gossip", Silence: 3 * time.Second},
	}
	kept := free
	kept.Holds, kept.Free = HoldsIncumbent, false
	rival := func(incumbent, gateway bool) *Alone {
		return &Alone{Since: t0, Incumbent: incumbent, Gateway: gateway}
	}
	for _, c := range []struct {
		name string
		from Evidence
		do   func(e *Evidence)
		want Act
		why  string
	}{
		{"challenger: all is as it should be", free, func(*Evidence) {}, ActTake, "silent"},
		{"challenger: heard a moment ago", free, func(e *Evidence) { e.Silence = 499 * ms }, ActWait, "heard by gossip"},
		{"challenger: not silent for long enough", free, func(e *Evidence) { e.Silence = 2999 * ms }, ActWait, "not been silent for 3s"},
		{"challenger: second in rank", free, func(e *Evidence) { e.Before = true }, ActWait, "4s"},
		{"challenger: second in rank, later", free, func(e *Evidence) { e.Before, e.Silence = true, 4*time.Second }, ActTake, ""},
		{"challenger: never heard", free, func(e *Evidence) { e.Path, e.Silence = "", 29*time.Second }, ActWait, "never heard"},
		{"challenger: never heard, later", free, func(e *Evidence) { e.Path, e.Silence = "", 30*time.Second }, ActTake, ""},
		{"challenger: a leader", free, func(e *Evidence) { e.Leader = true }, ActWait, "leader"},
		{"challenger: no gateway", free, func(e *Evidence) { e.Gateway = false }, ActWait, "no answer of the gateway"},
		{"challenger: no carrier", free, func(e *Evidence) { e.Carrier = false }, ActWait, "carrier"},
		{"challenger: not eligible", free, func(e *Evidence) { e.Eligible = false }, ActWait, "eligible"},
		{"challenger: claimed", free, func(e *Evidence) { e.Claimed = true }, ActWait, "claims"},
		{"challenger: not probed", free, func(e *Evidence) { e.Free = false }, ActProbe, "asking"},
		{"challenger: three voters", free, func(e *Evidence) { e.Pair = false }, ActWait, "two voters"},

		{"lease: it would go on", kept, func(e *Evidence) { e.Holds, e.Silence = HoldsQuorum, 0 }, ActKeep, "lease"},
		{"lease: it would not, without a gateway", kept, func(e *Evidence) { e.Holds, e.Gateway = HoldsQuorum, false }, ActRelease, "gateway"},
		{"lease: nor when another claims", kept, func(e *Evidence) { e.Holds, e.Claimed = HoldsQuorum, true }, ActRelease, "claims"},
		{"lease: nor of three", kept, func(e *Evidence) { e.Holds, e.Pair = HoldsQuorum, false }, ActRelease, "two voters"},

		{"incumbent: the other is silent", kept, func(*Evidence) {}, ActKeep, "silent"},
		{"incumbent: the other is heard", kept, func(e *Evidence) { e.Silence = ms }, ActKeep, "heard by gossip"},
		{"incumbent: no gateway", kept, func(e *Evidence) { e.Gateway = false }, ActRelease, "gateway"},
		{"incumbent: no carrier", kept, func(e *Evidence) { e.Carrier = false }, ActRelease, "carrier"},
		{"incumbent: drained", kept, func(e *Evidence) { e.Eligible = false }, ActRelease, "eligible"},
		{"incumbent: another leads", kept, func(e *Evidence) { e.Leader = true }, ActRelease, "leads"},
		{"incumbent: the other has a lease", kept, func(e *Evidence) { e.Leased = true }, ActRelease, "lease"},
		{"incumbent: a claim by nobody known", kept, func(e *Evidence) { e.Claimed = true }, ActKeep, ""},
		{"incumbent: the other needs the vote", kept, func(e *Evidence) { e.Wanted = true }, ActRelease, "knows more"},

		{"conflict: incumbent and challenger", kept, func(e *Evidence) { e.Rival, e.Before = rival(false, true), true }, ActKeep, ""},
		{"conflict: challenger and incumbent", kept, func(e *Evidence) { e.Holds, e.Rival = HoldsTaken, rival(true, true) }, ActRelease, "comes first"},
		{"conflict: the other has no gateway", kept, func(e *Evidence) { e.Holds, e.Rival, e.Before = HoldsTaken, rival(true, false), true }, ActKeep, ""},
		{"conflict: two challengers, first in rank", kept, func(e *Evidence) { e.Holds, e.Rival = HoldsTaken, rival(false, true) }, ActKeep, ""},
		{"conflict: two challengers, second in rank", kept, func(e *Evidence) { e.Holds, e.Rival, e.Before = HoldsTaken, rival(false, true), true }, ActRelease, ""},
		{"conflict: only ARP passes, challenger", kept, func(e *Evidence) { e.Holds, e.Claimed = HoldsTaken, true }, ActRelease, "claims"},
	} {
		e := c.from
		c.do(&e)
		if got := Decide(e, 200*ms); got.Act != c.want || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s: got %v, want %v and %q", c.name, got, c.want, c.why)
		}
	}
}

// Of two that hold and see each other exactly one keeps the address, whatever they
// are.
func TestFallbackHasOneWinner(t *testing.T) {
	for n := range 64 {
		bit := func(i int) bool { return n>>i&1 == 1 }
		side := func(gateway, incumbent, before bool, other Alone) Evidence {
			e := Evidence{Holds: HoldsTaken, Eligible: true, Carrier: true, Gateway: gateway, Sighting: Sighting{Pair: true, Before: before, Rival: &other}}
			if incumbent {
				e.Holds = HoldsIncumbent
			}
			return e
		}
		if !bit(0) || !bit(1) || bit(5) {
			continue // without a gateway it lets go in any case
		}
		a := side(bit(0), bit(2), bit(4), Alone{Since: t0, Gateway: bit(1), Incumbent: bit(3)})
		b := side(bit(1), bit(3), !bit(4), Alone{Since: t0, Gateway: bit(0), Incumbent: bit(2)})
		x, y := Decide(a, 200*ms).Act, Decide(b, 200*ms).Act
		if (x == ActKeep) == (y == ActKeep) {
			t.Errorf("%+v: %v, and %+v: %v", a, x, b, y)
		}
	}
}

func TestWhenANodeMayHoldAlone(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *rules)
		at   int
		want bool
	}{
		{"after a start, while it may have helped to a lease", func(*rules) {}, 199, false},
		{"later", func(*rules) {}, 200, true},
		{"a leader was heard: its lease may stand", func(r *rules) { r.hear(at(500), "a", 3, 3) }, 605, false},
		{"a leader was heard: its lease is over", func(r *rules) { r.hear(at(500), "a", 3, 3) }, 606, true},
		{"it was released", func(r *rules) { r.hear(at(500), "a", 3, 3); r.release(at(510), 3, "", "me") }, 511, true},
		{"a vote has just left", func(r *rules) { r.vote(at(500)) }, 899, false},
		{"a vote has left, and nothing came of it", func(r *rules) { r.vote(at(500)) }, 900, true},
		{"a yes has just left", func(r *rules) { r.answer(at(500), "a", false) }, 899, false},
	} {
		r := testRules()
		if c.do(r); r.fall(at(c.at)) != c.want {
			t.Errorf("%s: at %d it is %t, want %t", c.name, c.at, !c.want, c.want)
		}
	}
}

// Who holds alone helps nobody: that is why a lease of another can not begin
// meanwhile, since of two voters it needs both.
func TestWhoHoldsAloneHelpsNobody(t *testing.T) {
	r := testRules()
	if !r.fall(at(300)) {
		t.Fatal("it can not hold alone")
	}
	if r.vote(at(400)) || r.answer(at(400), "a", false) || r.hear(at(400), "a", 3, 3) {
		t.Error("a vote, a yes or an acknowledgement has left")
	}
	r.rise()
	if !r.vote(at(500)) {
		t.Error("it does not vote although it has let go")
	}
}
