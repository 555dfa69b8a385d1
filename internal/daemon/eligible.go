package daemon

import (
	"errors"

	"pen/vip"
)

// readiness is what this node's fitness to hold the addresses depends on, as
// far as only the node itself can see it.
type readiness struct {
	stopping  bool
	leaving   bool   // its last term is being undone
	settled   bool   // the settings of the cluster are known here
	behind    uint64 // commands that are agreed on and not applied here
	listeners error  // why not all listeners are open
	direct    error  // why packets can not be sent on
	address   vip.State
	disk      error // why nothing can be kept here
}

// behindMax is how far a node may be behind: it catches up in the time of one
// round trip.
const behindMax = 1024

// eligible tells whether a node could hold the addresses, and if not, why.
func (r readiness) eligible() (ok bool, why string) {
	switch {
	case r.stopping:
		why = "stopping"
	case r.leaving:
		why = "ending its last term"
	case !r.settled:
		why = "it does not know the settings yet"
	case r.listeners != nil:
		why = r.listeners.Error()
	case r.direct != nil:
		why = r.direct.Error()
	case !r.address.Carrier:
		why = "no carrier"
	case !r.address.Held && r.address.Err != nil:
		why = r.address.Err.Error()
	case r.address.Unsteady != nil:
		why = r.address.Unsteady.Error()
	case r.behind > behindMax:
		why = "catching up"
	case r.disk != nil:
		why = r.disk.Error()
	default:
		return true, ""
	}
	return false, why
}

// in tells whether a node may take the addresses, drained or not, when it is its turn.
//
// One whose only fault is its disk may if nobody else can: it can agree on nothing
// new, and serves. One whose carrier has flapped may at once if nobody else is there
// at all. Where others are, and only have to wait as it has to, it waits: a switch
// that is ill would make the address go round with its ports.
func (r readiness) in(alternative, peers bool) bool {
	if !alternative {
		r.disk = nil
	}
	if !peers {
		r.address.Unsteady = nil
	}
	ok, _ := r.eligible()
	return ok
}

var errNotOpen = errors.New("the listeners are not open yet")
