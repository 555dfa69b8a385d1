package daemon

import (
	"errors"
	"testing"

	"pen/vip"
)

func TestEligible(t *testing.T) {
	ready := readiness{settled: true, address: vip.State{Clear: true, Carrier: true}}
	with := func(change func(*readiness)) readiness {
		r := ready
		change(&r)
		return r
	}
	for why, r := range map[string]readiness{
		"":                                  ready,
		"stopping":                          with(func(r *readiness) { r.stopping = true }),
		"ending its last term":              with(func(r *readiness) { r.leaving = true }),
		"it does not know the settings yet": with(func(r *readiness) { r.settled = false }),
		"listen on :80: in use":             with(func(r *readiness) { r.listeners = errors.New("listen on :80: in use") }),
		"no carrier":                        with(func(r *readiness) { r.address.Carrier = false }),
		"the address is on eth1":            with(func(r *readiness) { r.address.Err = errors.New("the address is on eth1") }),
		"lost 2 times":                      with(func(r *readiness) { r.address.Unsteady = errors.New("lost 2 times") }),
		"catching up":                       with(func(r *readiness) { r.behind = behindMax + 1 }),
		"disk: a sync takes 3 s":            with(func(r *readiness) { r.disk = errors.New("disk: a sync takes 3 s") }),
	} {
		if ok, got := r.eligible(); got != why || ok != (why == "") {
			t.Errorf("got %t %q, want %q", ok, got, why)
		}
	}
	// What is wrong while the address is here is for the reconciler to mend.
	held := with(func(r *readiness) { r.address.Held, r.address.Err = true, errors.New("an address is missing") })
	if ok, why := held.eligible(); !ok {
		t.Errorf("a holder is not eligible: %s", why)
	}
}

// Of two evils the smaller one: some faults do not count where nobody else is.
func TestMayTakeWhereNobodyElseCan(t *testing.T) {
	sick := readiness{settled: true, address: vip.State{Carrier: true}, disk: errors.New("disk: a sync takes 3 s")}
	shaky := readiness{settled: true, address: vip.State{Carrier: true, Unsteady: errors.New("lost 2 times")}}
	dark := readiness{settled: true, disk: errors.New("disk: a sync takes 3 s")}
	for _, c := range []struct {
		name               string
		r                  readiness
		alternative, peers bool
		want               bool
	}{
		{"a disk, and another can", sick, true, true, false},
		{"a disk, and the others can not", sick, false, true, true},
		{"a carrier that flaps, and another can", shaky, true, true, false},
		{"all carriers flap", shaky, false, true, false},
		{"a carrier that flaps, and nobody is there", shaky, false, false, true},
		{"no carrier, and nobody is there", dark, false, false, false},
	} {
		if got := c.r.in(c.alternative, c.peers); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
}
