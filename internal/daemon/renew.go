package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pen/state"
)

// Bounds of looking names up again.
const (
	renewAtOnce = 8                // look-ups under way
	renewEach   = 5 * time.Second  // for one of them
	renewRound  = 30 * time.Second // for all names of a service; the rest is asked next time
	renewRest   = time.Minute      // between two lines of the log about one name
	renewSpread = 10               // a round comes up to one part in so many early or late
)

// renewer looks the names of servers up again, for services with `resolve`, and
// proposes what has changed. One node does it for all, the leader: what a name
// stands for is part of the state, and nodes that asked for themselves could disagree
// about where a client's server is. Who is not told so keeps still.
type renewer struct {
	log     *slog.Logger
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	leads   func() bool
	view    func() *state.View
	watch   func() <-chan struct{}
	propose func(context.Context, []state.Op) error

	due   map[uint32]round   // by ID of the service
	names map[string]*naming // those that were asked for in the last rounds

	lookups, failures, moves atomic.Uint64
}

// round is when the names of a service are looked up next.
type round struct {
	every int // seconds
	at    time.Time
}

// naming is what became of a name.
type naming struct {
	failed bool
	said   time.Time // when the log had a line about it
	seen   time.Time
}

// renewer makes the one of this node.
func (d *daemon) renewer() *renewer {
	return &renewer{
		log: d.log,
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		leads: d.leads, view: d.state.View, watch: d.state.Watch,
		propose: func(ctx context.Context, ops []state.Op) error {
			r, err := d.learned(ctx, state.Command{Time: d.clock.At(time.Now()), By: d.signed("resolve"), Ops: ops})
			return errors.Join(err, r.Err)
		},
		due: map[uint32]round{}, names: map[string]*naming{},
	}
}

// leads tells whether this node is the one that learns for all.
func (d *daemon) leads() bool {
	if d.member == nil {
		return true
	}
	l := d.member.node.Lease()
	return l.Valid && l.Current && d.member.settled.Load()
}

// run works until ctx ends.
func (r *renewer) run(ctx context.Context) {
	for ctx.Err() == nil {
		changed := r.watch()
		next := r.turn(ctx, time.Now())
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
		case <-timer:
		case <-changed:
		}
	}
}

// turn does what is due, and returns when to come again; never, if no service wants
// it.
func (r *renewer) turn(ctx context.Context, now time.Time) (next time.Time) {
	v := r.view()
	wanted := map[uint32]bool{}
	for _, s := range v.Services {
		if s.Resolve <= 0 {
			continue
		}
		wanted[s.ID] = true
		period := time.Duration(s.Resolve) * time.Second
		d, known := r.due[s.ID]
		switch {
		case !known || d.every != s.Resolve:
			// The first time is any within the period, so that services do not ask all
			// together; another period begins anew.
			d = round{s.Resolve, now.Add(rand.N(period))}
		case !now.Before(d.at):
			if r.leads() {
				r.renew(ctx, s)
			}
			d.at = time.Now().Add(period - period/renewSpread + rand.N(2*period/renewSpread))
		}
		r.due[s.ID] = d
		if next.IsZero() || d.at.Before(next) {
			next = d.at
		}
	}
	for id := range r.due {
		if !wanted[id] {
			delete(r.due, id)
		}
	}
	return next
}

// renew looks up the names of a service and proposes what has changed.
func (r *renewer) renew(ctx context.Context, s *state.Service) {
	slots := namedSlots(s)
	answers := r.ask(ctx, slots)
	var moves []state.Op
	for _, group := range groups(slots) {
		all := answers[group[0].Host]
		if len(all) == 0 {
			continue // the old address stays
		}
		for i, to := range assign(group, all) {
			if sl := group[i]; to != sl.IP {
				moves = append(moves, state.Move{Service: s.Name, Index: sl.index, Was: sl.Address, To: to})
			}
		}
	}
	if len(moves) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renewEach)
	defer cancel()
	if err := r.propose(ctx, moves); err != nil {
		if ctx.Err() == nil {
			r.log.Warn("new addresses of servers are not taken over", "service", s.Name, "err", err)
		}
		return
	}
	r.moves.Add(uint64(len(moves)))
	for _, op := range moves {
		m := op.(state.Move)
		r.log.Info("server has another address", "service", s.Name, "server", m.Index, "name", m.Was.Host, "was", m.Was.IP, "is", m.To)
	}
}

// ask looks up the names of slots, each once. One that has no address, or no
// answer, is not in the result.
func (r *renewer) ask(ctx context.Context, slots []slot) map[string][]netip.Addr {
	ctx, cancel := context.WithTimeout(ctx, renewRound)
	defer cancel()
	var mu sync.Mutex
	answers := map[string][]netip.Addr{}
	asked := map[string]error{}
	var wait sync.WaitGroup
	places := make(chan struct{}, renewAtOnce)
	for _, sl := range slots {
		host := sl.Host
		mu.Lock()
		_, twice := asked[host]
		asked[host] = nil
		mu.Unlock()
		if twice {
			continue
		}
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			all, err := r.one(ctx, host)
			mu.Lock()
			defer mu.Unlock()
			asked[host] = err
			if err == nil {
				answers[host] = all
			}
		})
	}
	wait.Wait()
	for host, err := range asked {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			continue // this process ends
		}
		r.note(host, err, time.Now())
	}
	return answers
}

// one looks one name up. The addresses are such as a server can have.
func (r *renewer) one(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, renewEach)
	defer cancel()
	r.lookups.Add(1)
	all, err := r.lookup(ctx, host)
	if err != nil {
		r.failures.Add(1)
		return nil, err
	}
	var good []netip.Addr
	for _, a := range all {
		if a = a.Unmap(); a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !slices.Contains(good, a) {
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		r.failures.Add(1)
		return nil, fmt.Errorf("lookup %s: no address that a server can have", host)
	}
	return good, nil
}

// note says it when a name does not resolve any more, and when it does again, but
// not more than once in a while.
func (r *renewer) note(host string, err error, now time.Time) {
	n := r.names[host]
	if n == nil {
		n = &naming{}
		r.names[host] = n
		for other, old := range r.names {
			if now.Sub(old.seen) > 24*time.Hour && other != host {
				delete(r.names, other)
			}
		}
	}
	n.seen = now
	if (err != nil) == n.failed || !n.said.IsZero() && now.Sub(n.said) < renewRest {
		return
	}
	n.failed, n.said = err != nil, now
	if err != nil {
		r.log.Warn("a server's name does not resolve; its address stays", "name", host, "err", err)
		return
	}
	r.log.Info("a server's name resolves again", "name", host)
}
