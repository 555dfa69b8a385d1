package daemon

import (
	"context"
	"log/slog"
	"time"

	"pen/cluster"
	"pen/vip"
)

// leases is what a holder needs of the cluster.
type leases interface {
	Lease() cluster.Lease
	Changed() <-chan struct{}
	Released(term uint64)
}

// addresses is what a holder needs of the virtual addresses.
type addresses interface {
	Want(vip.Want)
	State() vip.State
	Changed() <-chan struct{}
}

// traffic is what a holder needs of the data plane.
type traffic interface {
	Serve()
	Standby()
}

// holder is this node's part in holding the addresses: it serves for as long as
// the lease stands, and undoes all of it in reverse, the address first. There is
// one term at a time, and nothing here waits for the log.
type holder struct {
	leases
	address addresses
	traffic traffic
	log     *slog.Logger

	heartbeat time.Duration
	// may tells whether this node may take the addresses now.
	may func() bool
	// led tells whether another node leads by now, in a later term.
	led func(term uint64) bool
	// follows tells whether a lease of the later term goes on without a break where
	// that of the earlier one ended; nil: none does.
	follows func(before, after uint64) bool
	// tell says what this node has become.
	tell func(part part, term uint64)
}

// part is what a node is in the cluster.
type part string

// The parts, as the program of `notify` gets them.
const (
	partHolder  part = "holder"
	partStandby part = "standby"
	partFault   part = "fault" // it can not take the addresses

	// partLeaving is for ourselves: what a term has begun is being undone, and
	// this node can not begin another one yet.
	partLeaving part = "leaving"
)

// run goes from term to term until ctx ends. The last term has then been undone.
func (h *holder) run(ctx context.Context) {
	// Changed does not tell of everything that the decision depends on.
	look := time.NewTicker(h.heartbeat / 4)
	defer look.Stop()
	for ctx.Err() == nil {
		changed := h.Changed()
		if l := h.Lease(); l.Valid && l.Current && h.may() {
			h.term(ctx, l.Term)
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-look.C:
		}
	}
}

// ending is why a term ends.
type ending uint8

const (
	endLost    ending = iota // the lease is over
	endHanding               // it is being given to another node
	endStop                  // this process ends
)

// term is one term of holding the addresses.
func (h *holder) term(ctx context.Context, term uint64) {
	began := time.Now()
	h.traffic.Serve()
	h.log.Info("taking the addresses", "term", term)
	h.tell(partHolder, term)
	why, term := h.hold(ctx, term)
	switch why {
	case endLost:
		h.lose(ctx, term)
	case endHanding:
		h.handOver(ctx, term)
	case endStop:
		h.stop(term)
	}
	h.tell(partStandby, term)
	h.log.Info("the addresses are not held any more", "term", term, "held", time.Since(began).Round(time.Millisecond))
}

// hold keeps the addresses for as long as the lease of that term stands, or one
// that follows it. It returns the term in which it ended.
func (h *holder) hold(ctx context.Context, term uint64) (ending, uint64) {
	renew := time.NewTicker(h.heartbeat / 20)
	defer renew.Stop()
	for {
		changed := h.Changed()
		switch l := h.Lease(); {
		case l.Term == term && l.Handing:
			return endHanding, term
		case l.Valid && l.Term != term && h.follows != nil && h.follows(term, l.Term):
			h.log.Info("holding goes on", "term", l.Term, "before", term)
			term = l.Term
			continue
		case l.Term != term || !l.Valid:
			return endLost, term
		default:
			h.address.Want(vip.Want{Hold: true, Until: l.Until, Answer: true, Term: term})
		}
		select {
		case <-ctx.Done():
			return endStop, term
		case <-changed:
		case <-renew.C:
		}
	}
}

// lose is the end of a lease that nobody has asked for. Connections are reset
// when it is clear that the addresses do not come back: a leader that was
// silent for a moment is soon leader again.
func (h *holder) lose(ctx context.Context, term uint64) {
	h.letGo(term)
	h.log.Warn("lease lost", "term", term)
	h.until(ctx, h.heartbeat, func() bool { return h.back() || h.led(term) })
	if !h.back() {
		h.end(term)
	}
}

// takeover is for how long at most the old holder lets packets pass after it
// has stopped answering: the new one claims the addresses meanwhile.
const (
	takeover = time.Second
	// settling is from the moment at which another leads until its claim has
	// reached everybody.
	settling = 50 * time.Millisecond
)

// handOver gives the addresses to a node that is ready to take them. First
// nobody is told any more where they are; then the new holder claims them, and
// who was in time for the old one is served or reset, but not lost.
func (h *holder) handOver(ctx context.Context, term uint64) {
	h.tell(partLeaving, term)
	h.quiet(term)
	h.Released(term)
	// Also when this process is about to end: the new holder needs this moment.
	h.until(context.WithoutCancel(ctx), takeover, func() bool { return h.back() || h.led(term) })
	if h.back() {
		return // nobody took them, and no connection has noticed
	}
	time.Sleep(settling)
	h.end(term)
	h.letGo(term)
}

// stop gives the addresses up because this process ends and no other node has
// taken them.
func (h *holder) stop(term uint64) {
	h.quiet(term)
	h.end(term)
	h.letGo(term)
	h.Released(term)
}

// quiet ends the answers; packets still pass.
func (h *holder) quiet(term uint64) {
	h.address.Want(vip.Want{Hold: true, Until: time.Now().Add(takeover + h.heartbeat), Term: term})
	h.settle(func(s vip.State) bool { return !s.Answering })
}

// end resets all connections. While the addresses are here the resets reach the
// clients.
func (h *holder) end(term uint64) {
	h.tell(partLeaving, term)
	h.traffic.Standby()
}

// letGo takes the addresses away.
func (h *holder) letGo(term uint64) {
	h.address.Want(vip.Want{Term: term})
	h.settle(func(s vip.State) bool { return s.Clear })
}

// settle waits until the addresses are as they should be. If the kernel refuses
// that for a second, the fences do without us.
func (h *holder) settle(done func(vip.State) bool) {
	late := time.NewTimer(takeover)
	defer late.Stop()
	for {
		changed := h.address.Changed()
		if done(h.address.State()) {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			h.log.Error("the addresses are not as they should be", "state", h.address.State())
			return
		}
	}
}

// back tells whether this node has the lease again.
func (h *holder) back() bool { l := h.Lease(); return l.Valid }

// until waits for a condition, for so long at most.
func (h *holder) until(ctx context.Context, most time.Duration, done func() bool) {
	look, late := time.NewTicker(h.heartbeat/40), time.NewTimer(most)
	defer look.Stop()
	defer late.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-late.C:
			return
		case <-look.C:
		}
	}
}
