package cluster

import (
	"cmp"
	"fmt"
	"time"
)

// Two nodes have no majority when one of them is gone. Fallback decides then by
// evidence; DESIGN.md tells what that is worth. What is here is pure: no clock, no
// I/O. Node.Sighting gathers what the cluster knows, the caller what the network
// shows.

// Holding is by what right a node has the address.
type Holding uint8

// The rights.
const (
	HoldsNot       Holding = iota
	HoldsQuorum            // it has a lease
	HoldsIncumbent         // it had one when the quorum vanished, and has held since
	HoldsTaken             // it took the address from nobody: a challenger
)

// Evidence is what a node knows when it decides without a quorum.
type Evidence struct {
	Holds    Holding
	Eligible bool
	Carrier  bool // the interfaces of the address have one
	// Gateway tells that it answers, GatewayText what was asked, or why nothing is.
	Gateway     bool
	GatewayText string
	Claimed     bool // somebody else has lately claimed the address on its segment
	// Free tells that the address was asked for as RFC 5227 wants it, and that
	// nobody has answered.
	Free bool

	Sighting
}

// Sighting is what a node knows of the other one.
type Sighting struct {
	Pair    bool          // there are two voters, this node is one of them
	Leader  bool          // another node leads
	Silence time.Duration // since the other was heard on any path; since the start if never
	Path    string        // the path on which it was heard last; empty: never since the start
	Before  bool          // the other comes before this node: priority, then the lower id
	Wanted  bool          // the other needs this node's vote to lead, and knows more
	Rival   *Alone        // what the other says of itself while it holds without a quorum
	Leased  bool          // the other says that it has a lease
}

// Alone is what a node says of itself while it holds without a quorum. The zero
// value says nothing.
type Alone struct {
	Since     time.Time
	Term      uint64 // the last that it knew
	Incumbent bool
	Gateway   bool // its gateway answers
}

// How long a challenger waits.
const (
	FallbackSilence = 3 * time.Second
	FallbackSkew    = time.Second      // more, where the other comes first
	FallbackCold    = 30 * time.Second // where the other was never heard since the start
	// FallbackLapse is for how long a holder may have been unable to look, as in a
	// pause of the machine, and still go on: less than any challenger waits.
	FallbackLapse = 2 * time.Second
)

// Act is what to do.
type Act uint8

// The acts.
const (
	ActWait    Act = iota // stand by
	ActProbe              // all but the probes for the address say that it may be taken
	ActTake               // take the address
	ActKeep               // go on; with a lease: go on if it ends
	ActRelease            // let go, at once
)

func (a Act) String() string {
	return [...]string{"wait", "probe", "take", "keep", "release"}[a]
}

// Decision is what follows from evidence, and why.
type Decision struct {
	Act Act
	Why string
}

// Decide says what a node does that may hold without a quorum. hb is the
// heartbeat timeout.
func Decide(e Evidence, hb time.Duration) Decision {
	if e.Holds == HoldsNot {
		return e.challenge(hb)
	}
	no := func(why string) Decision { return Decision{ActRelease, why} }
	switch {
	case !e.Pair:
		return no("these are not two voters")
	case e.Leader:
		return no("another node leads")
	case !e.Eligible:
		return no("this node is not eligible")
	case !e.Carrier:
		return no("no carrier")
	case !e.Gateway:
		return no("no answer of " + e.GatewayText)
	case e.Holds == HoldsQuorum:
		if e.Claimed {
			return no("another machine claims the address")
		}
		return Decision{ActKeep, "it has a lease"}
	case e.Leased:
		return no("the other node has a lease")
	case e.Rival != nil && !e.wins(*e.Rival):
		return no("the other node holds the address, too, and comes first")
	case e.Wanted:
		return no("the other node is back and knows more: it has to lead")
	case e.Rival == nil && e.Claimed && e.Holds == HoldsTaken:
		return no("another machine claims the address")
	}
	return Decision{ActKeep, cmp.Or(e.heard(), "the other node is silent")}
}

// challenge is for a node that does not hold the address.
func (e Evidence) challenge(hb time.Duration) Decision {
	no := func(why string) Decision { return Decision{ActWait, why} }
	wait := max(FallbackSilence, 3*hb)
	if e.Path == "" {
		wait = FallbackCold
	}
	if e.Before {
		wait += FallbackSkew
	}
	switch {
	case !e.Pair:
		return no("these are not two voters")
	case e.Leader:
		return no("there is a leader")
	case e.Silence < wait && e.Path == "":
		return no(fmt.Sprintf("the other node was never heard since the start; waiting for it, %v", wait))
	case e.Silence < wait:
		return no(cmp.Or(e.heard(), fmt.Sprintf("the other node has not been silent for %v", wait)))
	case !e.Eligible:
		return no("this node is not eligible")
	case !e.Carrier:
		return no("no carrier")
	case !e.Gateway:
		return no("no answer of " + e.GatewayText)
	case e.Claimed:
		return no("another machine claims the address")
	case !e.Free:
		return Decision{ActProbe, "asking whether anybody has the address"}
	}
	return Decision{ActTake, fmt.Sprintf("the other node is silent, %s answers, and nobody has the address", e.GatewayText)}
}

func (e Evidence) heard() string {
	if e.Path == "" || e.Silence > FallbackSilence/2 {
		return ""
	}
	return "the other node is heard by " + e.Path
}

// wins tells which of two that hold keeps the address. Both come to the same end.
func (e Evidence) wins(rival Alone) bool {
	incumbent := e.Holds == HoldsIncumbent
	switch {
	case e.Gateway != rival.Gateway:
		return e.Gateway
	case incumbent != rival.Incumbent:
		return incumbent
	}
	return !e.Before
}
