package direct

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// plan is what one link has to know to judge a frame. It never changes; what its
// routes lead to does.
type plan struct {
	own    mac
	routes map[netip.Addr][]*route
	// local are the addresses of this machine and of all servers: the tarpit never
	// answers for them.
	local  map[netip.Addr]bool
	tarpit []func(netip.Addr) bool
}

// route is a service at one of its addresses.
type route struct {
	*service
	udp    bool
	port   uint16
	answer bool // we tell where the address is
}

// service is the running side of a Service until the next Configure. What is counted
// goes on for as long as there is one of its name.
type service struct {
	config  Service
	servers []server
	choice  atomic.Pointer[Choice] // nil: not made yet
	*tally

	again time.Time // when the choice has to be made again; zero: never. Owned by Run
}

type tally struct{ packets, bytes, denied, nobody, reports atomic.Uint64 }

// server is one of a service; its counters go on for as long as it has that address.
type server struct {
	of        *service
	neighbour *neighbour // nil: no address
	*load
}

type load struct {
	addr           netip.Addr
	packets, bytes atomic.Uint64
}

// newService is c with the counters that it had before, if it is not new.
func newService(c Service, before *service, neighbours *neighbours) *service {
	s := &service{config: c, tally: &tally{}}
	if before != nil {
		s.tally = before.tally
	}
	s.servers = make([]server, len(c.Servers))
	for i, a := range c.Servers {
		s.servers[i] = server{of: s, neighbour: neighbours.get(a), load: &load{addr: a}}
		if before != nil && i < len(before.servers) && before.servers[i].addr == a {
			s.servers[i].load = before.servers[i].load
		}
	}
	return s
}

// choose makes the choice anew.
func (s *service) choose() {
	choice, again := s.config.Choose(s.reachable)
	s.choice.Store(&choice)
	s.again = again
}

// due tells whether what the choice depended on has changed by now.
func (s *service) due(now time.Time) bool { return !s.again.IsZero() && !now.Before(s.again) }

// reachable tells whether server i is where frames can be sent to.
func (s *service) reachable(i int) bool {
	if i < 0 || i >= len(s.servers) || s.servers[i].neighbour == nil {
		return false
	}
	_, ok := s.servers[i].neighbour.mac()
	return ok
}

func (s *service) counters() Counters {
	c := Counters{
		Packets: s.packets.Load(), Bytes: s.bytes.Load(), Denied: s.denied.Load(), Nobody: s.nobody.Load(), Reports: s.reports.Load(),
	}
	for i := range s.servers {
		v := &s.servers[i]
		c.Servers = append(c.Servers, ServerCounters{Packets: v.packets.Load(), Bytes: v.bytes.Load(), Reachable: s.reachable(i)})
	}
	return c
}

// route finds the service that a packet is for. One with that port comes before one
// with every port.
func (p *plan) route(dst netip.Addr, proto uint8, port uint16) *route {
	var every *route
	for _, r := range p.routes[dst] {
		if r.udp != (proto == udp) {
			continue
		}
		if r.port == port {
			return r
		}
		if r.port == 0 {
			every = r
		}
	}
	return every
}

// answers tells whether it is for us to say where an address is.
func (p *plan) answers(a netip.Addr) bool {
	return slices.ContainsFunc(p.routes[a], func(r *route) bool { return r.answer })
}

// trap tells whether an address is one of the tarpit's: permitted by a list, and nobody's.
func (p *plan) trap(a netip.Addr) bool {
	if p.routes[a] != nil || p.local[a] || !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == limited {
		return false
	}
	return slices.ContainsFunc(p.tarpit, func(permits func(netip.Addr) bool) bool { return permits(a) })
}

var limited = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// planOf puts together what one link has to know. local are the addresses of this
// machine and of all servers.
func planOf(own mac, services []*service, local map[netip.Addr]bool) *plan {
	p := &plan{own: own, routes: map[netip.Addr][]*route{}, local: local}
	for _, s := range services {
		for _, a := range s.config.Addrs {
			p.routes[a] = append(p.routes[a], &route{service: s, udp: s.config.UDP, port: s.config.Port, answer: !s.config.Kernel})
		}
		if s.config.Tarpit != nil {
			p.tarpit = append(p.tarpit, s.config.Tarpit)
		}
	}
	return p
}

// alike tells whether two plans are about the same addresses, so that one filter does.
func (p *plan) alike(q *plan) bool {
	if p == nil || len(p.routes) != len(q.routes) || (len(p.tarpit) > 0) != (len(q.tarpit) > 0) {
		return false
	}
	for a := range p.routes {
		if q.routes[a] == nil || p.answers(a) != q.answers(a) {
			return false
		}
	}
	return true
}
