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
