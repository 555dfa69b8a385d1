package cluster

import (
	"cmp"
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// elector finds out that the leader is gone, asks the others and makes raft
// stand; and it keeps votes and the lease to the rules.
type elector struct {
	id   string
	rank rank
	hb   time.Duration
	log  *slog.Logger
	raft atomic.Pointer[raft.Raft] // nil until raft is there
	ask  func(ctx context.Context, id string, q question) (bool, error)
	// stand makes raft a candidate.
	stand func()
	// broken tells that raft here waits for its disk: it can neither vote nor
	// lead. Nil: never.
	broken func() bool

	mu      sync.Mutex
	rules   *rules
	ranks   map[string]rank // of the others, as far as they are known
	wake    chan struct{}   // closed and replaced when the rule may have opened early
	changed chan struct{}   // closed and replaced when the lease came, went, or is being given away
	valid   bool            // what was last told by changed
	kick    chan struct{}   // ends a wait of watch
	cause   cause           // of the last time that this node stood, and of the next
	matched map[string]match
	wanted  time.Time            // when another last needed the vote of this node, which holds without a quorum
	spoke   map[string]time.Time // when another last spoke on a stream of raft's

	held, late atomic.Int64 // votes that had to wait, votes that did not leave
}

// rank orders the nodes that could lead: the lesser one goes first.
type rank struct {
	Witness  bool
	Priority int
}

func (a rank) compare(b rank) int {
	if a.Witness != b.Witness {
		if a.Witness {
			return 1
		}
		return -1
	}
	return cmp.Compare(b.Priority, a.Priority)
}

// question is what a node asks before it stands: is your rule open, too?
type question struct {
	From      string `json:"from"`
	Rank      rank   `json:"rank"`
	LastIndex uint64 `json:"index"` // how far its log reaches
	LastTerm  uint64 `json:"term"`
	Holds     bool   `json:"holds,omitempty"` // it has the address, without a quorum
}

// cause is why this node stands for leader.
type cause struct {
	asked string // the reason that came with a release to this node
	guard bool   // a guard has said the last release
	last  string
	after uint64 // the term in which it stood
	at    time.Time
}

// why is the reason to stand now. It is called with mu held.
func (e *elector) why() string {
	r := e.rules
	switch {
	case r.heardTerm == 0:
		return MoveStart
	case r.released >= r.heardTerm && e.cause.asked != "":
		return e.cause.asked
	case r.released >= r.heardTerm && e.cause.guard:
		return MoveGuard
	case r.released >= r.heardTerm:
		return MoveReleased
	case r.gone >= r.heardTerm:
		return MoveGone
	}
	return MoveSilent
}

// stood notes that this node stands in the term after this one. It is called
// with mu held.
func (e *elector) stood(after uint64) {
	e.cause.last, e.cause.after, e.cause.at = e.why(), after, time.Now()
}

// told notes that the leader of before wants this node to lead.
func (e *elector) told() {
	r := e.raft.Load()
	if r == nil || r.State() != raft.Follower { // it stands already
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stood(r.CurrentTerm())
	e.cause.last = cmp.Or(e.cause.asked, MoveTransfer)
}

// reason is why this node leads in that term.
func (e *elector) reason(term uint64) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.cause
	if c.last == "" || term <= c.after || time.Since(c.at) > 2*e.hb {
		return MoveTimer
	}
	return c.last
}

func newElector(id string, r rank, hb, quiet time.Duration, log *slog.Logger) *elector {
	return &elector{
		id: id, rank: r, hb: hb, log: log,
		rules: newRules(time.Now(), hb, quiet),
		ranks: map[string]rank{}, matched: map[string]match{}, spoke: map[string]time.Time{}, wake: make(chan struct{}), changed: make(chan struct{}), kick: make(chan struct{}, 1),
	}
}

// meet notes what a peer said about itself.
func (e *elector) meet(h Hello) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := h.Node.String()
	if h.Heartbeat > 0 {
		e.rules.timeouts[id] = h.Heartbeat
	}
	e.ranks[id] = rank{h.Witness, int(h.Priority)}
}

// hear notes a sign of life of a leader, and tells whether it may be acknowledged.
func (e *elector) hear(from string, term uint64) bool {
	var current uint64
	if r := e.raft.Load(); r != nil {
		current = r.CurrentTerm()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rules.hear(time.Now(), from, term, current)
}

// admit waits until a vote may leave this node. It gives up when the request is
// so old that it could depose a later leader.
func (e *elector) admit(down <-chan struct{}) bool {
	start := time.Now()
	for {
		e.mu.Lock()
		wait, wake := time.Until(e.rules.opens()), e.wake
		e.mu.Unlock()
		if wait <= 0 {
			return true
		}
		if time.Since(start) >= 2*e.hb {
			return false
		}
		e.held.Add(1)
		timer := time.NewTimer(min(wait, 2*e.hb))
		select {
		case <-timer.C:
		case <-wake:
		case <-down:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// granted is the way out of a vote.
func (e *elector) granted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.rules.vote(time.Now()) {
		e.late.Add(1)
		return false
	}
	return true
}

// denied notes that raft refused a vote: as a rule an entry has arrived here since
// the yes, and it is for this node to stand now.
func (e *elector) denied() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rules.takeBack()
	e.nudge()
}

// match is how far the log of a follower is known to be that of the leader.
type match struct{ term, index uint64 }

// matches notes what a follower has confirmed.
func (e *elector) matches(id string, q *raft.AppendEntriesRequest) {
	m := match{q.Term, q.PrevLogEntry}
	if n := len(q.Entries); n > 0 {
		m.index = q.Entries[n-1].Index
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if was := e.matched[id]; m.term > was.term || m.term == was.term && m.index > was.index {
		e.matched[id] = m
	}
}

// contacted tells whether a node has acknowledged something of this leader's that
// is no older than that.
func (e *elector) contacted(id string, within time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.rules.acks[id].sent) <= within
}

// has tells whether a follower has the log of that term up to there.
func (e *elector) has(id string, term, index uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.matched[id]
	return m.term == term && m.index >= index
}

// acked counts what a voter has acknowledged, and with it the lease.
func (e *elector) acked(id string, term uint64, sent time.Time) {
	r := e.raft.Load()
	if r == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rules.acked(id, term, sent)
	e.renew(r)
}

// renew is called with mu held.
func (e *elector) renew(r *raft.Raft) Lease {
	now, term := time.Now(), r.CurrentTerm()
	leads := r.State() == raft.Leader
	if leads {
		e.rules.renew(now, e.id, term, voters(r))
	}
	l := e.rules.lease(now, leads, term)
	if (l.Valid || l.Handing) != e.valid {
		e.valid = l.Valid || l.Handing
		e.tell()
	}
	return l
}

// tell is called with mu held.
func (e *elector) tell() {
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *elector) lease() Lease {
	r := e.raft.Load()
	if r == nil {
		return Lease{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.renew(r)
}

func (e *elector) watchLease() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// voters returns the ids of those who vote, in raft's latest configuration.
func voters(r *raft.Raft) []string {
	var ids []string
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	return ids
}

// released notes that a leader has let the address go: this node or another. The
// reason is for people; a guard has none. Nobody can say it for another.
func (e *elector) released(w releasedTerm, guard bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w.from != "" && w.Term == e.rules.heardTerm && w.from != e.rules.from {
		e.log.Warn("a node released what another holds", "member", w.from, "holder", e.rules.from, "term", w.Term)
		return
	}
	if w.Term > e.rules.released {
		e.cause.guard, e.cause.asked = guard, ""
		if w.Heir == e.id {
			e.cause.asked = cmp.Or(shorten(clean(w.Why), reasonMax), MoveTransfer)
		}
	}
	e.rules.release(time.Now(), w.Term, w.Heir, e.id)
	e.opened()
}

// hand ends the own lease of that term in order to give it away. It reports
// until when the others must wait if nobody says that the address is free.
func (e *elector) hand(term uint64) (time.Time, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rules.own.Term != term || term <= e.rules.released {
		return time.Time{}, false
	}
	e.rules.own.Handing = true
	e.tell()
	return e.rules.own.Until, true
}

// lost notes that the process of a peer is gone.
func (e *elector) lost(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rules.lose(id)
	e.opened()
}

// opened lets everybody who waits look at the rule again. Called with mu held.
func (e *elector) opened() {
	close(e.wake)
	e.wake = make(chan struct{})
	e.nudge()
}

func (e *elector) nudge() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// watch looks for silence and acts on it until ctx ends.
func (e *elector) watch(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.kick:
		}
		wait, ask := e.look()
		if ask {
			asking.Go(func() { e.question(ctx) })
		}
		timer.Reset(wait)
	}
}

// look tells whether it is time to ask, and when to look again.
func (e *elector) look() (wait time.Duration, ask bool) {
	r := e.raft.Load()
	if r == nil {
		return e.hb / 10, false
	}
	state, all := r.State(), voters(r)
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	switch l := e.renew(r); {
	case state == raft.Leader:
		e.rules.restart(now)
		if l.Valid {
			return min(time.Until(l.Until), e.hb/10) + time.Microsecond, false
		}
		return e.hb / 20, false
	case e.rules.asking, state != raft.Follower:
		return e.hb / 20, false
	case e.broken != nil && e.broken():
		return e.hb / 10, false
	}
	before, votes := 0, false
	for _, id := range all {
		switch {
		case id == e.id:
			votes = true
		case id == e.rules.from && e.rules.heardTerm > 0:
		case e.before(id, e.ranks[id]):
			before++
		}
	}
	if !votes {
		return e.hb / 10, false
	}
	if wait = e.rules.due(before).Sub(now); wait > 0 {
		return min(wait, e.hb), false
	}
	e.rules.ask()
	return e.hb / 20, true
}

// before tells whether another node comes before this one.
func (e *elector) before(id string, r rank) bool {
	if c := r.compare(e.rank); c != 0 {
		return c < 0
	}
	return id < e.id
}

// question asks the others and stands if a majority says yes.
func (e *elector) question(ctx context.Context) {
	r := e.raft.Load()
	yes := e.majority(ctx, r)
	e.mu.Lock()
	term := r.CurrentTerm()
	// It may stand already: the leader of before has told it to.
	stand := e.rules.asked(time.Now(), yes) && r.State() == raft.Follower
	if stand {
		e.stood(term)
	}
	e.mu.Unlock()
	if stand {
		e.log.Debug("standing for leader", "term", term+1)
		e.stand()
	}
	e.nudge()
}

// majority asks all voters at once. It does not wait for the leader that is
// missed when the answers of the others have decided.
func (e *elector) majority(ctx context.Context, r *raft.Raft) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*e.hb)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	e.mu.Lock()
	missing := e.rules.from
	e.mu.Unlock()
	all := voters(r)
	q := question{From: e.id, Rank: e.ownRank(), Holds: e.isFallen()}
	q.LastIndex, q.LastTerm = reach(r)
	type reply struct {
		yes, counts bool
	}
	replies := make(chan reply, len(all))
	need, open, possible := len(all)/2+1, 0, 0
	for _, id := range all {
		switch id {
		case e.id:
			need--
			continue
		default:
			open++
			if id != missing {
				possible++
			}
		}
		asking.Go(func() {
			yes, err := e.ask(ctx, id, q)
			replies <- reply{err == nil && yes, id != missing}
		})
	}
	var grace <-chan time.Time // what the missed leader has left when the others are not enough
	for need > 0 && open > 0 {
		if need > possible && grace == nil {
			grace = time.After(patience / 2)
		}
		select {
		case a := <-replies:
			open--
			if a.yes {
				need--
			}
			if a.counts {
				possible--
			}
		case <-grace:
			return false
		}
	}
	return need <= 0
}

// reach tells how far the log reaches. Raft votes for nobody whose log reaches
// less far than its own.
func reach(r *raft.Raft) (index, term uint64) {
	stats := r.Stats()
	index, _ = strconv.ParseUint(stats["last_log_index"], 10, 64)
	term, _ = strconv.ParseUint(stats["last_log_term"], 10, 64)
	return index, term
}

// answer says whether this node would vote for the one that asks. Like a vote
// the answer is held back until the rule is open.
func (e *elector) answer(q question, down <-chan struct{}) bool {
	r := e.raft.Load()
	if r == nil || !e.yields(q.LastTerm, q.LastIndex, down) || !e.admit(down) || r.State() == raft.Leader || e.broken != nil && e.broken() {
		return false
	}
	index, term := reach(r)
	if term > q.LastTerm || term == q.LastTerm && index > q.LastIndex {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rules.answer(time.Now(), q.From, !q.Holds && !e.before(q.From, q.Rank))
}

// awaitRelease waits until the address of that term is free: this node said so,
// or its lease has run out.
func (e *elector) awaitRelease(ctx context.Context, term uint64, until time.Time) error {
	for {
		e.mu.Lock()
		done, wake := e.rules.released >= term, e.wake
		e.mu.Unlock()
		wait := time.Until(until)
		if done || wait <= 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-wake:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}
