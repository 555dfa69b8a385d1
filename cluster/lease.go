package cluster

import (
	"slices"
	"time"
)

// Lease is the right to hold the address.
type Lease struct {
	// Valid tells that no other node can have a lease before Until.
	Valid bool `json:"valid"`
	// Until is the end of the lease as far as it is known now, on the monotonic
	// clock. While it is Valid it moves on several times each heartbeat timeout,
	// of which Changed does not tell.
	Until time.Time `json:"until"`
	Term  uint64    `json:"term"`
	// Handing tells that this node is giving the address away: it answers for it
	// no longer, and calls Released when it does so no longer in truth. Until is
	// then the moment at which the others stop waiting for that call.
	Handing bool `json:"handing"`
	// Current tells that this node has applied everything that was agreed on
	// before the term. Changed tells when it has.
	Current bool `json:"current"`
}

const (
	stagger  = 15 * time.Millisecond // between one rank and the next
	patience = 40 * time.Millisecond // how long a yes binds
)

// rules is what one life of a node remembers of leaders, and what follows from
// it: when the node may let a vote out, when it asks to be leader, and how long
// its own lease lasts. DESIGN.md has the proof.
//
// It is pure: no clock, no lock, no I/O. Nodes are named by their ids; the empty
// id is nobody.
type rules struct {
	hb    time.Duration // the heartbeat timeout: what this voter promises
	born  time.Time
	quiet time.Duration // how long this voter says nothing after its birth

	// What was heard of the leader: noted before raft sees it, as raft may
	// acknowledge it at once.
	heard     time.Time
	heardTerm uint64
	from      string

	released uint64    // the highest term that is known to be released
	follows  bool      // this node may follow the released leader at once
	gone     uint64    // the highest term whose leader's process is known to be gone
	since    time.Time // silence begins here: standing is due hb and the stagger later

	asking   bool
	askAfter time.Time // after a no
	yesTo    string    // the last yes that was given
	yesUntil time.Time

	voted  time.Time // when a vote or a yes last left this node
	fallen bool      // this node holds without a quorum, see fall

	timeouts map[string]time.Duration // heartbeat timeouts of the others
	acks     map[string]ack
	own      Lease

	// The controls of the simulation break rules on purpose; nobody else.
	length time.Duration // of the lease, instead of half the timeout
	lax    bool          // no voter's rule
}

// ack is the newest request that a voter has acknowledged.
type ack struct {
	term uint64
	sent time.Time
}

func newRules(now time.Time, hb, quiet time.Duration) *rules {
	return &rules{
		hb: hb, born: now, quiet: quiet, since: now,
		timeouts: map[string]time.Duration{}, acks: map[string]ack{},
	}
}

// margin is what clocks may differ in a lease that others wait for.
func (r *rules) margin() time.Duration { return r.hb/40 + time.Millisecond }

// longest is the longest lease that this voter can have helped to.
func (r *rules) longest() time.Duration {
	if r.length > 0 {
		return r.length + r.margin()
	}
	return r.hb/2 + r.margin()
}

// hear notes a sign of life of a leader. One of an older term than raft's can
// not be acknowledged any more, so it does not count. False: it must not be
// acknowledged, since this node holds without a quorum.
func (r *rules) hear(now time.Time, from string, term, current uint64) bool {
	if r.fallen {
		return false
	}
	if term < current {
		return true
	}
	if term > r.heardTerm {
		r.takeBack() // it has served its purpose
	}
	r.heard, r.heardTerm, r.from = now, term, from
	if term <= r.released && r.follows {
		return true // it may not have fallen silent yet, but nothing is held in that term any more
	}
	r.since = now
	return true
}

// fall begins to hold without a quorum. From now on nothing of this node helps
// another to lead: no vote, no yes, no acknowledgement. It is refused while another
// may have a lease, and when a vote has just left: then there may be a quorum.
func (r *rules) fall(now time.Time) bool {
	switch {
	case r.fallen:
		return true
	case now.Before(r.born.Add(r.quiet)),
		r.heardTerm > r.released && now.Before(r.heard.Add(r.longest())),
		!r.voted.IsZero() && now.Before(r.voted.Add(2*r.hb)):
		return false
	}
	r.fallen = true
	return true
}

// rise ends it: this node has let go, or has a lease of its own.
func (r *rules) rise() { r.fallen = false }

// opens is when this node may let a vote out, its own included.
func (r *rules) opens() time.Time {
	at := r.born.Add(r.quiet)
	if r.own.Term > r.released {
		at = later(at, r.own.Until)
	}
	if r.released < r.heardTerm {
		silence := r.hb
		if r.gone >= r.heardTerm {
			silence = min(r.hb, r.longest())
		}
		at = later(at, r.heard.Add(silence))
	}
	if r.lax {
		return r.born
	}
	return at
}

// release notes that the leader of a term has let the address go. Unless it has
// named another heir, this node may follow at once.
func (r *rules) release(now time.Time, term uint64, heir, self string) {
	if term <= r.released {
		return
	}
	r.released = term
	r.follows = heir == "" || heir == self
	if r.heardTerm <= term && r.follows {
		r.since = earlier(r.since, now.Add(-r.hb))
	}
}

// lose notes that the process of the leader of that term is gone.
func (r *rules) lose(from string) {
	if from != r.from || r.heardTerm == 0 || r.gone >= r.heardTerm {
		return
	}
	r.gone = r.heardTerm
	r.since = earlier(r.since, r.heard.Add(r.longest()-r.hb))
}

// due is when this node should ask the others to let it stand, with so many
// nodes before it in rank.
func (r *rules) due(before int) time.Time {
	at := r.since.Add(r.hb + time.Duration(before)*stagger)
	return later(later(at, r.opens()), later(r.yesUntil, r.askAfter))
}

// ask begins a question to the others.
func (r *rules) ask() { r.asking = true }

// asked ends it and tells whether to stand now.
func (r *rules) asked(now time.Time, yes bool) bool {
	r.asking = false
	// The silence is looked at again: the leader may have spoken meanwhile.
	if yes && !now.Before(later(later(r.since.Add(r.hb), r.opens()), r.yesUntil)) {
		r.since = now
		return true
	}
	// A wait, not a promise: two nodes that take it for one refuse each other
	// until raft's own timer ends it.
	r.askAfter = now.Add(patience / 2)
	return false
}

// answer is the voter's side of the question. The rule is open; better tells
// that this node comes before the one that asks.
func (r *rules) answer(now time.Time, to string, better bool) bool {
	switch {
	case r.fallen, now.Before(r.opens()),
		r.yesTo != to && now.Before(r.yesUntil),
		r.asking && better:
		return false
	}
	r.yesTo, r.yesUntil, r.voted = to, now.Add(patience), now
	return true
}

// vote notes that a vote leaves, unless it must not any more.
func (r *rules) vote(now time.Time) bool {
	if r.fallen || now.Before(r.opens()) {
		return false
	}
	r.voted = now
	r.restart(now)
	return true
}

// takeBack ends the last yes: nothing came of it.
func (r *rules) takeBack() { r.yesTo, r.yesUntil = "", time.Time{} }

// restart begins the silence anew: a vote was granted, or this node leads.
func (r *rules) restart(now time.Time) { r.since = now }

// acked notes that a voter has acknowledged, in this term, what was sent then.
func (r *rules) acked(id string, term uint64, sent time.Time) {
	a := r.acks[id]
	if a.term < term || a.term == term && sent.After(a.sent) {
		r.acks[id] = ack{term, sent}
	}
}

// renew moves the own lease on and returns it. Raft says that self leads in
// this term; voters are those of raft's latest configuration.
func (r *rules) renew(now time.Time, self string, term uint64, voters []string) Lease {
	if term <= r.released || term == r.own.Term && r.own.Handing {
		return r.own // what was given away does not come back in this term
	}
	length, sent := r.hb, make([]time.Time, 0, len(voters))
	for _, id := range voters {
		switch a := r.acks[id]; {
		case id == self:
			sent = append(sent, now)
		case a.term == term:
			sent = append(sent, a.sent)
			length = min(length, r.timeoutOf(id))
		default:
			length = min(length, r.timeoutOf(id))
		}
	}
	quorum := len(voters)/2 + 1
	if len(voters) == 0 || len(sent) < quorum {
		return r.own
	}
	slices.SortFunc(sent, func(a, b time.Time) int { return b.Compare(a) })
	length /= 2
	if r.length > 0 {
		length = r.length
	}
	until := sent[quorum-1].Add(length)
	if r.own.Term != term {
		r.own = Lease{Term: term}
	}
	if until.After(r.own.Until) && now.Before(until) {
		r.own.Until = until
	}
	return r.own
}

func (r *rules) timeoutOf(id string) time.Duration {
	if t, ok := r.timeouts[id]; ok {
		return t
	}
	return r.hb
}

// lease is the own lease at this moment, if raft says that this node leads in
// that term.
func (r *rules) lease(now time.Time, leads bool, term uint64) Lease {
	l := r.own
	l.Valid = leads && l.Term == term && l.Term > r.released && !l.Handing && now.Before(l.Until)
	if !leads || l.Term != term {
		l.Handing = false
	}
	return l
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
