package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"pen/state"
)

// place is where a listener is: the same place is the same listener, whichever
// service it feeds, so that services may exchange their addresses.
type place struct {
	addr netip.AddrPort
	path string
	udp  bool
	// service tells listeners apart that leave the port to the kernel.
	service string
}

// distinct returns each address once.
func distinct(addrs []netip.Addr) (all []netip.Addr) {
	for _, a := range addrs {
		if a = a.Unmap(); !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// virtual tells whether a is one of the addresses that may be elsewhere now.
func (o *Options) virtual(a netip.Addr) bool { return slices.Contains(o.Virtual, a.Unmap()) }

// placesOf returns where a service wants to listen: nowhere, at one place, or with
// a port alone on each virtual address.
func (p *Proxy) placesOf(s *state.Service) (all []place) {
	switch path := s.Listen.Path(); {
	case s.Listen.Text == "", s.DirectLink != "":
		return nil
	case path != "":
		return []place{{path: path, udp: s.Protocol == state.UDP}}
	case len(p.opts.Virtual) == 0 || !s.Listen.Bare():
		all = []place{{addr: s.Listen.Addr}}
	default:
		for _, a := range p.opts.Virtual {
			all = append(all, place{addr: netip.AddrPortFrom(a, s.Listen.Addr.Port())})
		}
	}
	for i := range all {
		all[i].udp = s.Protocol == state.UDP
		if s.Listen.Addr.Port() == 0 {
			all[i].service = s.Name
		}
	}
	return all
}

func (at place) String() string {
	if at.path != "" {
		return at.path
	}
	return at.addr.String()
}

// Prepare opens the listeners and reads the certificates that v needs and that are not there yet, and keeps
// them for the Configure that follows; what an earlier Prepare left and v does
// not need is closed. An error changes nothing. After Drain or Run there is
// nothing to open any more, and no error.
func (p *Proxy) Prepare(v *state.View) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	if err := p.atlas.prepare(v.Global.GeoIPDB); err != nil && p.base != nil {
		return fmt.Errorf("geoip_db: %w", err)
	} // at the start pen serves without, and Configure says so
	terminators, err := p.prepareTLS(v)
	if err != nil {
		return err
	}
	open := p.listeners()
	fresh := map[place]*listener{}
	wanted := map[place]bool{}
	for _, s := range v.Services {
		for _, at := range p.placesOf(s) {
			if wanted[at] {
				return p.abandon(fresh, taken(at))
			}
			wanted[at] = true
			if open[at] != nil {
				continue
			}
			l, err := p.listen(at, s)
			if err != nil {
				return p.abandon(fresh, err)
			}
			fresh[at] = l
		}
	}
	for at, l := range p.prepared {
		if !wanted[at] {
			p.engine.retire(l)
			delete(p.prepared, at)
		}
	}
	for at, l := range fresh {
		p.prepared[at] = l
	}
	p.terminators = terminators
	return nil
}

// taken is the error where two services want the same place.
func taken(at place) error {
	return fmt.Errorf("listen on %s: another service listens there", at)
}

// abandon closes listeners that are of no use after all.
func (p *Proxy) abandon(fresh map[place]*listener, err error) error {
	for _, l := range fresh {
		p.engine.retire(l)
	}
	return err
}

// listeners returns every listener there is. The caller holds mu.
func (p *Proxy) listeners() map[place]*listener {
	all := map[place]*listener{}
	for at, l := range p.prepared {
		all[at] = l
	}
	for _, f := range *p.fronts.Load() {
		for _, l := range f.listeners {
			all[l.place] = l
		}
	}
	return all
}

// listen opens a listener that accepts nobody yet. The caller holds mu.
func (p *Proxy) listen(at place, s *state.Service) (*listener, error) {
	if at.udp && at.path != "" {
		return nil, fmt.Errorf("listen on %s: a service with protocol udp listens on a port, not on a path", at)
	}
	l, err := p.engine.open(at, &s.Settings, p.listeners())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	return l, nil
}

// Configure makes v the configuration. Listeners that Prepare opened are used,
// others are opened now, and only then are those closed that nobody needs any
// more. A service whose new listeners can not all be opened keeps its old ones, and
// the error says so; all else is in force nevertheless. Connections that stand
// stay as they are, also those of a service that is gone. After Drain the
// settings count for those connections, and nobody listens.
func (p *Proxy) Configure(v *state.View) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := *p.fronts.Load()
	after := make(map[string]*front, len(v.Services))
	all := p.listeners()
	if err := p.atlas.use(v.Global.GeoIPDB); err != nil {
		p.log.Warn("the file of countries is no good, entries of access lists about countries match as before, or nobody", "err", err)
	}
	p.lists = p.lists.compile(v, p.atlas)
	var errs []error
	for _, s := range v.Services {
		f := p.configured(before[s.Name], v, s)
		errs = append(errs, p.secure(f, s))
		after[s.Name] = f
	}
	p.terminators = nil
	var used map[*listener]*front
	if !p.ended {
		var err error
		used, err = p.assign(v, after, all)
		errs = append(errs, err)
	}
	p.fronts.Store(&after)
	p.takeTickets(v)
	for _, f := range after {
		p.start(f)
		open := slices.Clone(f.listeners)
		f.doors.Store(&open)
		for _, l := range open {
			p.engine.serve(l, f)
		}
		f.idlers.look()
	}
	for name, f := range before {
		if after[name] == f {
			continue
		}
		f.doors.Store(nil)
		if f.stop != nil {
			f.stop()
		}
	}
	clear(p.prepared)
	for _, l := range all {
		if used[l] == nil {
			p.engine.retire(l)
		}
	}
	return errors.Join(errs...)
}

// configured returns the front for s: the one there was, if it was the same
// service, with its new settings.
func (p *Proxy) configured(f *front, v *state.View, s *state.Service) *front {
	if f == nil || f.id != s.ID {
		f = &front{service: newService(p.log, p.opts.Propose, s)}
		f.idlers.news = make(chan struct{}, 1)
		f.memory.clock, f.herald.clock = p.opts.Clock, p.opts.Clock
	}
	f.configure(v, s, p.lists)
	old := f.settings.Swap(&s.Settings)
	if old != nil && (old.Idle != s.Idle || old.Protocol != s.Protocol || old.Timeout != s.Timeout) {
		p.engine.retime(f)
	}
	return f
}

// assign gives each front its listeners out of all, or new ones, and returns
// who has which. First come those that stay where they are, so that nobody takes
// a listener away from under a service that could not move.
func (p *Proxy) assign(v *state.View, fronts map[string]*front, all map[place]*listener) (map[*listener]*front, error) {
	var errs []error
	var stuck []*front
	used := map[*listener]*front{}
	for _, s := range v.Services {
		f, places := fronts[s.Name], p.placesOf(s)
		for _, l := range f.listeners {
			if slices.Contains(places, l.place) {
				used[l] = f
			}
		}
	}
	for _, s := range v.Services {
		f := fronts[s.Name]
		listeners, err := p.gather(f, s, all, used)
		if err != nil {
			errs = append(errs, err)
			stuck = append(stuck, f)
			continue
		}
		f.listeners = listeners
	}
	for _, f := range stuck {
		errs = append(errs, f.keepOld(used))
	}
	return used, errors.Join(errs...)
}

// gather finds or opens all listeners that a service needs, or changes nothing.
func (p *Proxy) gather(f *front, s *state.Service, all map[place]*listener, used map[*listener]*front) (got doors, err error) {
	var moved doors
	fresh := map[place]*listener{}
	for _, at := range p.placesOf(s) {
		l := all[at]
		switch {
		case l == nil:
			if l, err = p.listen(at, s); err == nil {
				fresh[at] = l
			}
		case used[l] == nil:
			used[l] = f
			moved = append(moved, l)
		case used[l] != f:
			err = taken(at)
		}
		if err != nil {
			for _, l := range moved {
				delete(used, l)
			}
			return nil, p.abandon(fresh, err)
		}
		got = append(got, l)
	}
	for at, l := range fresh {
		all[at], used[l] = l, f
	}
	return got, nil
}

// keepOld lets a service that could not move keep what it had, but for what
// other services have taken over.
func (f *front) keepOld(used map[*listener]*front) error {
	var errs []error
	var kept doors
	for _, l := range f.listeners {
		if used[l] != nil && used[l] != f {
			errs = append(errs, fmt.Errorf("service %s no longer listens on %s: it went to another service", f.name, l))
			continue
		}
		used[l] = f
		kept = append(kept, l)
	}
	f.listeners = kept
	return errors.Join(errs...)
}
