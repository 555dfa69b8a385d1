package direct

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	look  = 250 * time.Millisecond // between two looks at interfaces and servers
	again = 20 * time.Millisecond  // between two choices, however often servers come and go
)

// A Forwarder forwards. Its methods may be called by any goroutine; Run is called
// once.
type Forwarder struct {
	opts   Options
	log    *slog.Logger
	totals totals
	news   chan struct{} // asks for a look; room for one

	mu       sync.Mutex // guards what follows
	wanted   []Service
	fresh    bool                // wanted has not been looked at
	services map[string]*service // replaced, never changed
	err      error

	found atomic.Bool // a server has become reachable

	// Owned by Run.
	links    map[string]*link
	on       map[string][]Service // what is on which link
	local    map[netip.Addr]bool
	running  []*service
	reopened bool // a link is new
	lost     bool // a server has become unreachable
}

// New returns a Forwarder that has nothing to do. It starts nothing.
func New(opts Options) *Forwarder {
	if opts.Log == nil {
		opts.Log = mute
	}
	if opts.Allowed == nil {
		opts.Allowed = func() (packets, answers bool) { return true, true }
	}
	return &Forwarder{
		opts: opts, log: opts.Log, news: make(chan struct{}, 1),
		services: map[string]*service{}, links: map[string]*link{},
	}
}

// Check tells what on this machine stands in the way of a service: no such interface,
// one without neighbours, an address that is this machine's own, a capability that
// is missing.
func Check(s Service) error {
	i, err := find(s)
	if err != nil {
		return err
	}
	if !s.Kernel {
		if err := foreign(s.Addrs); err != nil {
			return err
		}
	}
	socket, err := openSocket(i.Index)
	if err != nil {
		return err
	}
	socket.close()
	return nil
}

// find returns the interface of a service.
func find(s Service) (*net.Interface, error) {
	if s.Link != Auto {
		i, err := net.InterfaceByName(s.Link)
		if err != nil {
			return nil, fmt.Errorf("no interface %s", s.Link)
		}
		if len(i.HardwareAddr) != len(mac{}) {
			return nil, fmt.Errorf("%s has no neighbours that could be found by their MAC", s.Link)
		}
		return i, nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var found []*net.Interface
	for _, i := range all {
		if len(i.HardwareAddr) == len(mac{}) && slices.ContainsFunc(s.Addrs, func(a netip.Addr) bool { return onLink(&i, a) }) {
			found = append(found, &i)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no interface has a subnet with %v: name the interface", s.Addrs[0])
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%s and %s have a subnet with %v: name the interface", found[0].Name, found[1].Name, s.Addrs[0])
}

// onLink tells whether an interface has a subnet with an address.
func onLink(i *net.Interface, a netip.Addr) bool {
	addrs, err := i.Addrs()
	return err == nil && slices.ContainsFunc(addrs, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && !p.IsSingleIP() && p.Contains(a)
	})
}

// foreign tells that the kernel of this machine would answer clients, too.
func foreign(addrs []netip.Addr) error {
	local, err := locals()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if local[a] {
			return fmt.Errorf("%v is an address of this machine, whose kernel would answer clients itself: take it off the interface, pen answers for it", a)
		}
	}
	return nil
}

// locals are the addresses of this machine.
func locals() (map[netip.Addr]bool, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	local := map[netip.Addr]bool{}
	for _, n := range all {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			local[p.Addr().Unmap()] = true
		}
	}
	return local, nil
}

// Configure makes these the services. What goes on in between is looked at by the
// choices of before. It never waits.
func (f *Forwarder) Configure(services []Service) {
	f.mu.Lock()
	f.wanted, f.fresh = services, true
	f.mu.Unlock()
	f.kick()
}

func (f *Forwarder) kick() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// Err tells why not every service can be served on this node; nil: nothing stands in
// the way.
func (f *Forwarder) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Counters returns what a service has done here, and whether there is such a service.
func (f *Forwarder) Counters(name string) (Counters, bool) {
	f.mu.Lock()
	s := f.services[name]
	f.mu.Unlock()
	if s == nil {
		return Counters{}, false
	}
	return s.counters(), true
}

// Totals returns what all services have done here.
func (f *Forwarder) Totals() Totals { return f.totals.read() }

// Run forwards until ctx ends. It returns nil.
func (f *Forwarder) Run(ctx context.Context) error {
	defer f.closeLinks(func(*link) bool { return false })
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		began := time.Now()
		f.look(began)
		if f.idle() {
			tick.Reset(time.Hour) // Configure wakes us
		} else {
			tick.Reset(look)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.news:
			time.Sleep(again - time.Since(began))
		case <-tick.C:
		}
	}
}

// idle tells whether there is nothing to look after.
func (f *Forwarder) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.wanted) == 0 && !f.fresh
}

// look makes everything as it should be: links, plans, choices. What is as it was is
// left alone.
func (f *Forwarder) look(now time.Time) {
	f.mu.Lock()
	wanted, fresh := f.wanted, f.fresh
	f.fresh = false
	f.mu.Unlock()
	on, err := f.place(wanted)
	f.closeLinks(func(l *link) bool { return len(on[l.name]) > 0 })
	local, lerr := f.occupied(wanted)
	moved := !maps.Equal(local, f.local) || !maps.EqualFunc(on, f.on, sameNames)
	f.local, f.on = local, on
	errs := []error{err, lerr}
	if fresh || moved || f.reopened {
		err := f.arrange(on)
		errs = append(errs, err)
		f.reopened = err != nil // tried again at the next look
	}
	for _, l := range f.links {
		l.announce(now)
		if l.ask(now) {
			f.lost = true
		}
	}
	f.choose(now)
	f.note(errors.Join(errs...))
}

func sameNames(a, b []Service) bool {
	return slices.EqualFunc(a, b, func(a, b Service) bool { return a.Name == b.Name })
}

// choose makes the choices anew that have to be.
func (f *Forwarder) choose(now time.Time) {
	all := f.lost || f.found.Swap(false)
	f.lost = false
	for _, s := range f.running {
		if all || s.due(now) {
			s.choose()
		}
	}
}

// place opens the links that services need, and tells which service is on which.
func (f *Forwarder) place(wanted []Service) (map[string][]Service, error) {
	on := map[string][]Service{}
	var errs []error
	for _, s := range wanted {
		i, err := find(s)
		if err == nil && !s.Kernel {
			err = foreign(s.Addrs)
		}
		if err == nil {
			err = f.open(i)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", s.Name, err))
			continue
		}
		on[i.Name] = append(on[i.Name], s)
	}
	return on, errors.Join(errs...)
}

// open has a link for the interface as it is now.
func (f *Forwarder) open(i *net.Interface) error {
	l := f.links[i.Name]
	if l != nil && l.index == i.Index && l.own == mac(i.HardwareAddr) {
		return nil
	}
	neighbours := newNeighbours()
	if l != nil {
		l.close()
		delete(f.links, i.Name)
	}
	l, err := openLink(i, neighbours)
	if err != nil {
		return err
	}
	l.totals, l.allowed = &f.totals, f.opts.Allowed
	l.kick = func() { f.found.Store(true); f.kick() }
	f.links[i.Name] = l
	f.reopened = true
	return nil
}

func (f *Forwarder) closeLinks(keep func(*link) bool) {
	for name, l := range f.links {
		if !keep(l) {
			l.close()
			delete(f.links, name)
		}
	}
}

// occupied are the addresses for which the tarpit must not answer. It is empty where
// there is none.
func (f *Forwarder) occupied(wanted []Service) (map[netip.Addr]bool, error) {
	if !slices.ContainsFunc(wanted, func(s Service) bool { return s.Tarpit != nil }) {
		return nil, nil
	}
	local, err := locals()
	if err != nil {
		return f.local, err // as it was
	}
	for _, s := range wanted {
		for _, addrs := range [][]netip.Addr{s.Addrs, s.Servers} {
			for _, a := range addrs {
				local[a] = true
			}
		}
	}
	return local, nil
}

// arrange makes the services anew, and gives each link its plan.
func (f *Forwarder) arrange(on map[string][]Service) error {
	var errs []error
	services := map[string]*service{}
	f.running = f.running[:0]
	for name, l := range f.links {
		var servers []netip.Addr
		for _, c := range on[name] {
			for _, a := range c.Servers {
				if a.IsValid() {
					servers = append(servers, a)
				}
			}
		}
		l.neighbours.want(servers)
		var here []*service
		for _, c := range on[name] {
			s := newService(c, f.services[c.Name], l.neighbours)
			s.choose()
			here = append(here, s)
			services[c.Name] = s
		}
		f.running = append(f.running, here...)
		l.announced.keep(func(a netip.Addr) bool {
			return slices.ContainsFunc(on[name], func(c Service) bool { return slices.Contains(c.Addrs, a) })
		})
		if err := l.adopt(planOf(l.own, here, f.local)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	f.mu.Lock()
	f.services = services
	f.mu.Unlock()
	return errors.Join(errs...)
}

// note keeps what stands in the way, and tells it when it is news.
func (f *Forwarder) note(err error) {
	for _, l := range f.links {
		if n := l.socket.overflows(); n > 0 {
			f.totals.overflows.Add(n)
		}
	}
	f.mu.Lock()
	before := f.err
	f.err = err
	f.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		f.log.Error("direct server return is not as it should be", "err", err)
	}
}
