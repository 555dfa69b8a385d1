package proxy

import (
	"net/netip"
	"time"

	"pen/state"
)

// A Spreader makes the choice of servers for something else than this proxy that
// forwards the packets of a service, one by one and without memory: the same hash of the
// client's address as `hash`, on every node, whatever method the service uses for
// connections. What it knows of the settings is as they were when it was made. Spread
// is for one goroutine.
type Spreader struct {
	plan  *plan
	clock *state.Clock
	last  *Spread
}

// Denied stands for the server of a client that may not use the service.
const Denied = state.None - 1

// slots of the table. A server's share is right to within a percent with ten servers.
const spreadSlots = 4096

// A Spread is the choice for each client. It never changes and may be used by any
// goroutine.
type Spread struct {
	*plan
	inputs []input
	// Those who have no list of their own take one of these; the table exists because a
	// packet can not wait until all servers have drawn their number.
	table [spreadSlots]int16
	// picky: servers have access lists, so each client has its own candidates.
	picky bool
	alike bool // in weight
}

// input is what a slot of the table depends on, of one server.
type input struct {
	key       uint64
	weight    int
	acl       state.List
	available bool
}

// Spreader returns one for the service as it is configured now, or nil if there is none.
func (p *Proxy) Spreader(name string) *Spreader {
	f := p.front(name)
	if f == nil {
		return nil
	}
	return &Spreader{plan: f.plan.Load(), clock: p.opts.Clock}
}

// Spread makes the choice among the servers that are reachable, by index; state.Emergency
// is asked for, too. It counts until the time that is returned: then a mark ends.
func (s *Spreader) Spread(reachable func(server int) bool) (*Spread, time.Time) {
	now := time.Now()
	inputs, again := s.inputs(s.clock.At(now), now, reachable)
	if s.last != nil && sameInputs(s.last.inputs, inputs) {
		return s.last, again
	}
	s.last = newSpread(s.plan, inputs)
	return s.last, again
}

// Permits tells whether an access list has an address in it.
func (s *Spreader) Permits(list state.List, a netip.Addr) bool { return s.plan.lists.permits(list, a) }

// inputs looks at the servers, and when one that is shunned will not be any more.
func (s *Spreader) inputs(at state.Time, now time.Time, reachable func(int) bool) (all []input, again time.Time) {
	all = make([]input, len(s.plan.seats)+1)
	look := func(in *input, seat *seat, i int) {
		in.key, in.weight, in.acl = seat.key, max(seat.weight, 1), seat.acl
		in.available = seat.addressed() && reachable(i)
		if !seat.server.shunned(at, s.plan.Blacklist) {
			return
		}
		in.available = false
		left := state.Time(seat.server.mark.Load()) + state.Time(s.plan.Blacklist)*1000 - at
		if end := now.Add(time.Duration(left) * time.Millisecond); again.IsZero() || end.Before(again) {
			again = end
		}
	}
	for i := range s.plan.seats {
		look(&all[i], &s.plan.seats[i], i)
	}
	if s.plan.emergency != nil {
		look(&all[len(all)-1], s.plan.emergency, state.Emergency)
	}
	return all, again
}

// addressed tells whether the seat names a machine. The port does not matter.
func (s *seat) addressed() bool {
	ip := s.server.addr.Addr()
	return ip.IsValid() && !ip.IsUnspecified()
}

func sameInputs(a, b []input) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func newSpread(p *plan, inputs []input) *Spread {
	s := &Spread{plan: p, inputs: inputs}
	s.alike = true
	for _, in := range s.regular() {
		s.picky = s.picky || in.acl != state.Numbered(0) && in.acl != state.Numbered(state.ACLs)
		s.alike = s.alike && in.weight == inputs[0].weight
	}
	// List 0 may have entries, too.
	s.picky = s.picky || len(p.lists.list[0].entries) > 0
	if p.Hash == state.HashCompat {
		s.compat()
		return s
	}
	for slot := range s.table {
		s.table[slot] = int16(s.winner(slot, func(input) bool { return true }))
	}
	return s
}

// regular are the inputs of the regular servers.
func (s *Spread) regular() []input { return s.inputs[:len(s.inputs)-1] }

// winner is the server that a slot gets, of those that may have it.
func (s *Spread) winner(slot int, may func(input) bool) int {
	return rendezvous(mix(uint64(slot)), s.alike, len(s.regular()), func(i int) candidate {
		in := s.inputs[i]
		return candidate{usable: in.available && may(in), weight: in.weight, key: in.key}
	})
}

// compatSlots is how many the original has.
const compatSlots = 256

// compat fills the table as the original does: each server gets its share of the slots
// that are left, three apart.
func (s *Spread) compat() {
	weights := 0
	for _, in := range s.regular() {
		if in.available {
			weights += in.weight
		}
	}
	for i := range s.table {
		s.table[i] = state.None
	}
	left, at := compatSlots, 0
	for i, in := range s.regular() {
		if !in.available {
			continue
		}
		n := left * in.weight / weights
		left, weights = left-n, weights-in.weight
		for range n {
			s.table[at] = int16(i)
			at = (at + 3) % compatSlots
		}
	}
}

// Server returns the index of the server for a client, state.Emergency or state.Abuse,
// state.None if there is none, or Denied.
func (s *Spread) Server(client netip.Addr, port uint16) int {
	if !s.lists.permits(s.ClientACL, client) {
		if s.abuse != nil && s.abuse.addressed() {
			return state.Abuse
		}
		return Denied
	}
	if !s.RoundRobin {
		port = 0
	}
	slot := s.slot(client, port)
	i := int(s.table[slot])
	if s.picky && i >= 0 && !s.lists.permits(s.inputs[i].acl, client) {
		i = s.winner(slot, func(in input) bool { return s.lists.permits(in.acl, client) })
	}
	if i == state.None && s.emergency != nil && s.inputs[len(s.inputs)-1].available {
		return state.Emergency
	}
	return i
}

// slot is where a client's server stands in the table.
func (s *Spread) slot(client netip.Addr, port uint16) int {
	if s.Hash == state.HashCompat {
		return int(compatByte(client, port))
	}
	h := hashAddr(client)
	if port != 0 {
		h = mix(h ^ uint64(port))
	}
	return int(h % spreadSlots)
}

// compatByte is the original's index: all octets, and those of the port where connections
// are told apart.
func compatByte(client netip.Addr, port uint16) (x byte) {
	for _, b := range client.AsSlice() {
		x ^= b
	}
	return x ^ byte(port>>8) ^ byte(port)
}
