package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"pen/cluster"
	"pen/vip"
)

// pair is what a node of two needs of the cluster to hold without a quorum.
type pair interface {
	leases
	Sighting() cluster.Sighting
	HoldAlone(on bool) bool
	SetAlone(cluster.Alone)
	SetFalls(bool)
	Leader() (id string, term uint64)
}

// sight is what it needs of the network.
type sight interface {
	Do(vip.Effort)
	Look() vip.Sight
}

// fallback gives a holder leases: the cluster's or, when two nodes have lost each
// other, a grant of its own for as long as the evidence stands. What it decides is
// cluster.Decide's; here is only when to look, and what follows.
//
// A grant keeps the term of the lease that it follows. One that was taken has the
// newest term that this node knows, in which it has not led: nothing is said to
// others in the name of that term.
type fallback struct {
	pair
	sight sight
	state func() vip.State
	may   func() bool
	// asked tells whether fallback is what the configuration asks for.
	asked    func() bool
	announce func()
	// assume is called where nothing but this node's fitness stands in the way.
	assume func()
	log    *slog.Logger
	hb     time.Duration

	mu       sync.Mutex // guards what follows
	right    cluster.Holding
	grant    cluster.Lease // while right is of this node alone; what it was after that
	looked   time.Time     // when the evidence was last good, for a lease or a grant
	term     uint64        // of the lease, while that is the right
	before   uint64        // the term of the grant that turned into the lease of the term after
	after    uint64
	since    time.Time // of the grant
	shut     bool      // HoldAlone is on
	said     bool      // the log knows of the grant
	decision cluster.Decision
	changed  chan struct{}
	count    uint64 // grants that lasted long enough to be told of
}

func newFallback(p pair, s sight, hb time.Duration, log *slog.Logger) *fallback {
	return &fallback{pair: p, sight: s, hb: hb, log: log, changed: make(chan struct{})}
}

// alone tells whether a right is of this node alone.
func alone(h cluster.Holding) bool { return h == cluster.HoldsIncumbent || h == cluster.HoldsTaken }

// run looks until ctx ends.
func (f *fallback) run(ctx context.Context) {
	tick := time.NewTicker(min(f.hb/8, 25*time.Millisecond))
	defer tick.Stop()
	for {
		changed := f.pair.Changed()
		f.look(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-changed:
			f.mu.Lock()
			f.tell()
			f.mu.Unlock()
		case <-tick.C:
		}
	}
}

// Changed is closed when the cluster's lease or the grant changes.
func (f *fallback) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// tell is called with mu held.
func (f *fallback) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// brief tells whether a lease is about to end: as a rule it is renewed before.
func (f *fallback) brief(l cluster.Lease, now time.Time) bool { return l.Until.Sub(now) <= f.hb/10 }

// Lease is the cluster's if there is one, else the grant. A lease that is about to
// end turns into a grant before it does, if the last look said so: then nothing
// of the address is taken away in between.
func (f *fallback) Lease() cluster.Lease {
	l := f.pair.Lease()
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.rejoin(now, l)
	if l.Handing || l.Valid && !f.brief(l, now) {
		return l
	}
	if f.right == cluster.HoldsQuorum {
		f.keep(now)
	}
	if alone(f.right) && now.Before(f.grant.Until) {
		return f.grant
	}
	return l
}

// keep turns a lease that ends into a grant. It is called with mu held.
func (f *fallback) keep(now time.Time) {
	if now.Sub(f.looked) <= cluster.FallbackLapse {
		f.begin(now, cluster.HoldsIncumbent, f.term)
	}
}

// begin begins a grant. It is called with mu held.
func (f *fallback) begin(now time.Time, right cluster.Holding, term uint64) {
	if !f.pair.HoldAlone(true) {
		return
	}
	f.shut, f.said, f.right, f.since, f.looked = true, false, right, now, now
	f.grant = cluster.Lease{Valid: true, Current: true, Term: term, Until: now.Add(f.hb / 2)}
	f.tell()
}

// rejoin takes note of a lease of the cluster, which is better than a grant. It is
// called with mu held.
func (f *fallback) rejoin(now time.Time, l cluster.Lease) {
	if !alone(f.right) || !l.Valid || f.brief(l, now) {
		return
	}
	f.before, f.after = f.grant.Term, l.Term
	f.right, f.term, f.looked = cluster.HoldsQuorum, l.Term, now
	if f.said {
		f.log.Info("HOLDER(quorum): the quorum is back", "term", l.Term, "alone", now.Sub(f.since).Round(time.Millisecond))
	}
}

// Released says that this node does not answer any more.
func (f *fallback) Released(term uint64) {
	f.mu.Lock()
	taken := f.right == cluster.HoldsTaken && f.grant.Term == term
	f.right = cluster.HoldsNot
	f.mu.Unlock()
	if !taken {
		f.pair.Released(term)
	}
}

// own tells whether a term is one that this node was elected in, so that others
// may be told of its end.
func (f *fallback) own(term uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.right != cluster.HoldsTaken || f.grant.Term != term
}

// follows tells whether the lease of the later term is what a grant of the earlier
// one has turned into, without a break.
func (f *fallback) follows(before, after uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return before == f.before && after == f.after
}

// standing is what this node would say of itself.
func (f *fallback) standing() (on bool, d cluster.Decision, count uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return alone(f.right), f.decision, f.count
}

// idle tells whether nothing of this node's own is left to look after.
func (f *fallback) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.right == cluster.HoldsNot && !f.shut
}

// look gathers the evidence and does what follows from it.
func (f *fallback) look(now time.Time) {
	asked := f.asked()
	if !asked && f.idle() {
		f.pair.SetFalls(false)
		f.sight.Do(vip.Effort{})
		return
	}
	may, state, net := f.may(), f.state(), f.sight.Look()
	l, seen := f.pair.Lease(), f.pair.Sighting()
	_, newest := f.pair.Leader()
	seen.Pair = seen.Pair && asked
	f.pair.SetFalls(asked)

	f.mu.Lock()
	was := f.right
	if was != cluster.HoldsNot && now.Sub(f.looked) > cluster.FallbackLapse {
		f.right = cluster.HoldsNot // by now another may have taken the address
		f.tell()
	}
	f.rejoin(now, l)
	e := cluster.Evidence{
		Holds: f.right, Eligible: may, Carrier: state.Carrier,
		Gateway: net.Gateway, GatewayText: net.Asked, Free: net.Free, Sighting: seen,
	}
	switch {
	case l.Handing:
		e.Holds, e.Leader, f.right = cluster.HoldsNot, true, cluster.HoldsNot // another soon leads
	case l.Valid && !f.brief(l, now) && state.Held:
		e.Holds = cluster.HoldsQuorum
	}
	e.Claimed = claimed(e.Holds, state, net, now)
	d := cluster.Decide(e, f.hb)
	assume := f.right == cluster.HoldsNot && !may && f.onlyFitness(e)
	f.act(now, l, e, d, newest)
	f.open(now, l, state)
	right, grant, since := f.right, f.grant, f.since
	news := d != f.decision
	f.decision = d
	f.report(now, d, was, news, e)
	f.mu.Unlock()

	if assume {
		f.assume()
	}
	self := cluster.Alone{}
	if alone(right) {
		self = cluster.Alone{Since: since, Term: grant.Term, Incumbent: right == cluster.HoldsIncumbent, Gateway: net.Gateway}
		if e.Rival != nil {
			f.announce()
		}
	}
	f.pair.SetAlone(self)
	f.sight.Do(vip.Effort{
		Gateway: asked, Beacon: alone(right),
		Probe: right == cluster.HoldsNot && (d.Act == cluster.ActProbe || d.Act == cluster.ActTake),
	})
}

// onlyFitness tells whether this node would go on if it were eligible.
func (f *fallback) onlyFitness(e cluster.Evidence) bool {
	e.Eligible = true
	act := cluster.Decide(e, f.hb).Act
	return e.Holds == cluster.HoldsNot && (act == cluster.ActProbe || act == cluster.ActTake)
}

// claimed tells whether another machine has lately claimed the address: where this
// node holds it, since it does.
func claimed(holds cluster.Holding, s vip.State, net vip.Sight, now time.Time) bool {
	if net.Claimed.IsZero() || now.Sub(net.Claimed) > cluster.FallbackSilence/2 {
		return false
	}
	return holds == cluster.HoldsNot || net.Claimed.After(s.Since.Add(settling))
}

// act does what was decided. It is called with mu held.
func (f *fallback) act(now time.Time, l cluster.Lease, e cluster.Evidence, d cluster.Decision, newest uint64) {
	switch {
	case d.Act == cluster.ActKeep && alone(f.right):
		f.looked, f.grant.Until = now, now.Add(f.hb/2)
	case d.Act == cluster.ActKeep && l.Valid:
		f.right, f.term, f.looked = cluster.HoldsQuorum, l.Term, now
	case d.Act == cluster.ActKeep:
		f.keep(now)
	case d.Act == cluster.ActTake:
		f.begin(now, cluster.HoldsTaken, newest)
	case d.Act == cluster.ActRelease && f.right != cluster.HoldsNot:
		f.right = cluster.HoldsNot
		f.tell()
	}
}

// open lets this node help others again, when it has a lease or holds nothing any
// more: the grant is over, and the address is gone. It is called with mu held.
func (f *fallback) open(now time.Time, l cluster.Lease, s vip.State) {
	leased := f.right == cluster.HoldsQuorum && l.Valid && !f.brief(l, now)
	gone := f.right == cluster.HoldsNot && s.Clear && !s.Answering && !now.Before(f.grant.Until)
	if f.shut && (leased || gone) {
		f.shut = false
		f.pair.HoldAlone(false)
	}
}

// report logs what changed. It is called with mu held.
func (f *fallback) report(now time.Time, d cluster.Decision, was cluster.Holding, news bool, e cluster.Evidence) {
	switch {
	case alone(f.right) && !f.said && (f.right == cluster.HoldsTaken || now.Sub(f.since) > f.hb):
		f.said = true
		f.count++
		f.log.Warn("HOLDER(fallback): this node holds the address without a quorum; a witness on a third machine makes it certain",
			"why", d.Why, "taken", f.right == cluster.HoldsTaken, "term", f.grant.Term)
	case alone(was) && f.right == cluster.HoldsNot && f.said:
		f.said = false
		f.log.Warn("HOLDER(fallback) ends", "why", d.Why, "alone", now.Sub(f.since).Round(time.Millisecond))
	case news && f.right == cluster.HoldsNot && e.Holds == cluster.HoldsNot && e.Pair && !e.Leader && (e.Path == "" || e.Silence > cluster.FallbackSilence/2):
		f.log.Info("no quorum", "fallback", d.Act, "why", d.Why)
	}
}
