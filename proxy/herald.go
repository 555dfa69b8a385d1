package proxy

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"pen/state"
)

// How the herald paces itself.
const (
	newsPause   = time.Second     // between two proposals about one server
	newsTimeout = 5 * time.Second // for a proposal
	lastWords   = time.Second     // for everything that is told when the proxy ends
)

// news is what this node and the state have to agree on about a server: its
// mark. The data plane sets (*server).mark at once and goes on; the herald
// proposes what differs from the state.
type news struct {
	queued atomic.Bool // on the herald's list

	mu        sync.Mutex    // guards the rest
	was       state.Address // as the newest view has it: the same server, but perhaps another name for it
	port      uint16
	seen      state.Time // the mark in the newest view
	failed    state.Time // the mark of our last Fail, until its echo is seen
	recovered state.Time // the mark that our last Recover takes away, likewise
	told      time.Time  // when we last proposed anything
}

// see takes notice of what a new view says about v, above all of its mark. A mark that other hands have
// changed wins over ours; the echo of our own news does not, because it may be
// older than what has happened here since.
func (v *server) see(s *state.Server) {
	n := &v.news
	n.mu.Lock()
	defer n.mu.Unlock()
	n.was, n.port = s.Address, s.Port
	mark := s.Mark
	if mark == n.seen {
		return
	}
	echo := mark != 0 && mark == n.failed || mark == 0 && n.recovered == n.seen
	n.seen, n.failed, n.recovered = mark, 0, 0
	if !echo {
		v.adopt(mark)
	}
}

// herald tells the state which servers have failed and which have come back. It
// tells the latest about each server, at most once a second.
type herald struct {
	service string
	log     *slog.Logger
	propose propose
	clock   *state.Clock
	wake    chan struct{}
	lost    atomic.Uint64 // proposals that failed, each of which is tried again

	telling sync.Mutex // held while something is told

	mu   sync.Mutex // guards list
	list []*server
}

func newHerald(log *slog.Logger, propose propose, service string) *herald {
	return &herald{service: service, log: log, propose: propose, wake: make(chan struct{}, 1)}
}

// queue asks that the state be told about v's mark. It never waits.
func (h *herald) queue(v *server) {
	if v.news.queued.Swap(true) {
		return
	}
	h.mu.Lock()
	h.list = append(h.list, v)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run tells what is queued until ctx ends, and then what is left, for a second
// at most.
func (h *herald) run(ctx context.Context) {
	for {
		wait := h.tellDue(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
			defer cancel()
			h.tellAll(last)
			return
		case <-h.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// tellDue tells about the servers whose turn it is and returns how long to wait
// for the next.
func (h *herald) tellDue(ctx context.Context) time.Duration {
	h.telling.Lock()
	defer h.telling.Unlock()
	wait := time.Hour
	for _, v := range h.take() {
		v.news.mu.Lock()
		rest := newsPause - time.Since(v.news.told)
		v.news.mu.Unlock()
		if rest > 0 || !h.tell(ctx, v) {
			wait = min(wait, max(rest, newsPause/10))
			h.back(v)
		}
	}
	return wait
}

// tellAll tells everything that is queued, without waiting for anybody's turn.
func (h *herald) tellAll(ctx context.Context) {
	h.telling.Lock()
	defer h.telling.Unlock()
	for _, v := range h.take() {
		if !h.tell(ctx, v) {
			h.back(v)
		}
	}
}

func (h *herald) take() []*server {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list
	h.list = nil
	return list
}

// back puts v on the list again. It is still marked as queued, or has been
// queued anew meanwhile.
func (h *herald) back(v *server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v.news.queued.Swap(true) {
		for _, on := range h.list {
			if on == v {
				return
			}
		}
	}
	h.list = append(h.list, v)
}

// tell proposes what the state does not know about v. False: it could not.
func (h *herald) tell(ctx context.Context, v *server) bool {
	v.news.queued.Store(false) // from here on, a change queues it again
	c, ok := h.command(v)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, newsTimeout)
	defer cancel()
	r, err := h.propose(ctx, c)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		h.lost.Add(1)
		h.log.Warn("mark of a server is not recorded", "service", h.service, "server", v.index, "err", err)
		return r.Err != nil // what the state refuses, it will refuse again
	}
	return true
}

// command returns what to propose about v, if anything.
func (h *herald) command(v *server) (state.Command, bool) {
	n := &v.news
	n.mu.Lock()
	defer n.mu.Unlock()
	mark := state.Time(v.mark.Load())
	if mark == n.seen {
		return state.Command{}, false
	}
	n.told = time.Now()
	c := state.Command{Time: h.clock.At(n.told)}
	if mark < n.seen { // the server has come back, or the clock was set back
		n.recovered = n.seen
		c.Ops = append(c.Ops, state.Recover{Service: h.service, Index: v.index, Was: n.was, Port: n.port, Mark: n.seen})
	}
	if mark != 0 {
		n.failed, n.recovered = mark, 0
		c.Ops = append(c.Ops, state.Fail{Service: h.service, Index: v.index, Was: n.was, Port: n.port, Mark: mark})
	}
	return c, true
}
