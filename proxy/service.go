package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"pen/state"
)

// propose hands a command to the replicated state, see Options.Propose.
type propose func(context.Context, state.Command) (state.Result, error)

// proposeNothing stands for a state that nobody can change.
func proposeNothing(context.Context, state.Command) (state.Result, error) {
	return state.Result{}, errors.ErrUnsupported
}

// service is the running side of a state.Service: it finds servers for clients
// and keeps what only this node knows. Everything but configure is safe for all
// loops at once and takes no lock that is held for long.
type service struct {
	name string
	id   uint32
	log  *slog.Logger

	plan   atomic.Pointer[plan]
	memory *memory
	herald *herald
	slots  slots // of connections

	turn      atomic.Int64 // what round robin chose last
	current   atomic.Int32 // index of the server tried last
	pending   atomic.Int64 // attempts under way
	failovers atomic.Uint64
	refused   [refusals]atomic.Uint64
	ports     pace // of warnings that there are none

	// For configure, which has one caller at a time.
	gone []*server // no longer in a slot, but still with connections
}

// plan is what a view says about the service, made ready for use. It never
// changes, but the servers in it do.
type plan struct {
	*state.Service
	lists     *lists
	seats     []seat // index-aligned with Servers
	emergency *seat
	abuse     *seat
	method    method
	equal     bool // no server has a weight
}

// seat is a slot of the list of servers with the one who sits in it.
type seat struct {
	server     *server
	usable     bool
	soft, hard int
	weight     int
	prio       int
	acl        state.List
	key        uint64
}

// newService returns the running side of sv, which configure has yet to tell
// what to do. It starts nothing; see run.
func newService(log *slog.Logger, propose propose, sv *state.Service) *service {
	s := &service{name: sv.Name, id: sv.ID, log: log}
	if propose == nil {
		propose = proposeNothing
	}
	s.memory = newMemory(log, propose, sv)
	s.herald = newHerald(log, propose, sv.Name)
	return s
}

// run keeps the state informed of what the service learns, until ctx ends; then
// it tells what it still knows, for a second at most, and returns.
func (s *service) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.herald.run(ctx) })
	s.memory.run(ctx)
	wg.Wait()
}

// configure makes sv, which is of view v, what counts; l are the compiled lists
// of v. It has one caller at a time. Connections that stand are not touched.
func (s *service) configure(v *state.View, sv *state.Service, l *lists) {
	old := s.plan.Load()
	s.slots.grow(sv.ConnMax)
	s.memory.configure(sv)
	p := &plan{Service: sv, lists: l, method: methodOf(&sv.Settings), equal: true}
	servers := s.roster(old)
	twins := map[uint64]uint64{}
	p.seats = make([]seat, len(sv.Servers))
	for i := range sv.Servers {
		p.seats[i] = s.seat(servers, i, &sv.Servers[i])
		p.equal = p.equal && sv.Servers[i].Weight == 0
		// The same address in two slots is two servers, also for the hash.
		key := p.seats[i].key
		p.seats[i].key += twins[key]
		twins[key]++
	}
	p.emergency = s.special(servers, state.Emergency, sv.Emergency)
	p.abuse = s.special(servers, state.Abuse, sv.Abuse)
	s.plan.Store(p)
	s.gone = s.gone[:0]
	for _, v := range servers {
		if v.places.Load() > 0 {
			s.gone = append(s.gone, v)
		}
	}
	if p.barren() && !old.barren() {
		s.log.Warn("weight is on, but no server has a weight: nobody is served", "service", s.name)
	}
}

// roster returns the servers that there were.
func (s *service) roster(old *plan) map[identity]*server {
	all := map[identity]*server{}
	for _, v := range s.gone {
		all[v.identity] = v
	}
	if old == nil {
		return all
	}
	for i := range old.seats {
		v := old.seats[i].server
		all[v.identity] = v
	}
	for _, seat := range []*seat{old.emergency, old.abuse} {
		if seat != nil {
			all[seat.server.identity] = seat.server
		}
	}
	return all
}

// seat fills a slot, if it can with a server that was there already, which it
// takes from the roster.
func (s *service) seat(roster map[identity]*server, i int, sv *state.Server) seat {
	id := identityOf(i, sv)
	v := roster[id]
	if v == nil {
		v = newServer(id, sv)
	} else {
		delete(roster, id)
		v.see(sv)
	}
	return seat{
		server: v, usable: sv.Usable(), soft: sv.Soft, hard: sv.Hard,
		weight: sv.Weight, prio: sv.Prio, acl: sv.ACL, key: v.key(),
	}
}

func (s *service) special(roster map[identity]*server, i int, sv *state.Server) *seat {
	if sv == nil {
		return nil
	}
	seat := s.seat(roster, i, sv)
	return &seat
}

// barren tells whether the choice by weight finds nobody to serve, whoever
// fails or recovers.
func (p *plan) barren() bool {
	return p != nil && p.Weight && !p.Prio && p.equal && len(p.seats) > 0
}

// seat returns the slot with that index, or nil.
func (p *plan) seat(i int) *seat {
	switch {
	case i == state.Emergency:
		return p.emergency
	case i == state.Abuse:
		return p.abuse
	case i >= 0 && i < len(p.seats):
		return &p.seats[i]
	}
	return nil
}

// usable tells whether index i is a regular server that is there.
func (p *plan) usable(i int) bool { return i >= 0 && i < len(p.seats) && p.seats[i].usable }

// choose makes the first choice for a client without a server.
func (s *service) choose(p *plan, client netip.Addr, port uint16, now state.Time) int {
	q := question{method: p.method, client: client, equal: p.equal}
	if p.RoundRobin {
		q.port = port
	}
	return s.draw(p, q, now)
}

// draw makes the choice that q asks for.
func (s *service) draw(p *plan, q question, now state.Time) int {
	at := func(i int) candidate {
		seat := &p.seats[i]
		return candidate{
			usable: seat.usable, shunned: seat.server.shunned(now, p.Blacklist),
			weight: seat.weight, prio: seat.prio, key: seat.key,
			conns: seat.server.places.Load(),
		}
	}
	for {
		last := s.turn.Load()
		q.last = int(last)
		i := pick(q, len(p.seats), at)
		if q.method != byTurn || i == state.None || s.turn.CompareAndSwap(last, int64(i)) {
			return i
		}
	}
}

// refusalCounts returns how many clients found no server, by reason.
func (s *service) refusalCounts() map[string]uint64 {
	counts := make(map[string]uint64, refusals)
	for r := range refusals {
		counts[r.String()] = s.refused[r].Load()
	}
	return counts
}

// troubles returns how many visits of clients will not be remembered, and how
// many proposals had to be made again.
func (s *service) troubles() (unrecorded, retried uint64) {
	return s.memory.overflow.Load() + s.memory.refused.Load(), s.memory.failures.Load() + s.herald.lost.Load()
}

// serverStats returns the figures of the regular servers, in order.
func (s *service) serverStats() []ServerStats {
	p := s.plan.Load()
	stats := make([]ServerStats, len(p.seats))
	for i := range p.seats {
		stats[i] = p.seats[i].server.stats()
	}
	return stats
}

// specialStats returns the figures of the emergency and the abuse server.
func (s *service) specialStats() (emergency, abuse ServerStats) {
	p := s.plan.Load()
	if p.emergency != nil {
		emergency = p.emergency.server.stats()
	}
	if p.abuse != nil {
		abuse = p.abuse.server.stats()
	}
	return emergency, abuse
}
