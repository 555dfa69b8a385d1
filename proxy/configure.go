package proxy

import (
	"errors"
	"fmt"
	"net/netip"

	"pen/state"
)

// place is where a listener is: the same place is the same listener, whichever
// service it feeds, so that services may exchange their addresses.
type place struct {
	addr netip.AddrPort
	path string
	// service tells listeners apart that leave the port to the kernel.
	service string
}

// placeOf returns where a service wants to listen, and whether it does.
func placeOf(s *state.Service) (place, bool) {
	at := place{addr: s.Listen.Addr, path: s.Listen.Path()}
	if at.path != "" {
		at.addr = netip.AddrPort{}
	} else if at.addr.Port() == 0 {
		at.service = s.Name
	}
	return at, s.Listen.Text != ""
}

func (at place) String() string {
	if at.path != "" {
		return at.path
	}
	return at.addr.String()
}

// Prepare opens the listeners that v needs and that are not open yet, and keeps
// them for the Configure that follows; what an earlier Prepare left and v does
// not need is closed. An error changes nothing. After Drain or Run there is
// nothing to open any more, and no error.
func (p *Proxy) Prepare(v *state.View) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	open := p.listeners()
	fresh := map[place]*listener{}
	wanted := map[place]bool{}
	for _, s := range v.Services {
		at, listens := placeOf(s)
		if !listens {
			continue
		}
		if wanted[at] {
			return p.abandon(fresh, fmt.Errorf("listen on %s: another service listens there", at))
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
	for at, l := range p.prepared {
		if !wanted[at] {
			p.engine.retire(l)
			delete(p.prepared, at)
		}
	}
	for at, l := range fresh {
		p.prepared[at] = l
	}
	return nil
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
		if f.listener != nil {
			all[f.listener.place] = f.listener
		}
	}
	return all
}

// listen opens a listener that accepts nobody yet. The caller holds mu.
func (p *Proxy) listen(at place, s *state.Service) (*listener, error) {
	if s.Protocol != state.TCP {
		return nil, fmt.Errorf("listen on %s: udp: %w", at, errors.ErrUnsupported)
	}
	l, err := p.engine.open(at, &s.Settings, p.listeners())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	return l, nil
}

// Configure makes v the configuration. Listeners that Prepare opened are used,
// others are opened now, and only then are those closed that nobody needs any
// more. A service whose new listener can not be opened keeps its old one, and
// the error says so; all else is in force nevertheless. Connections that stand
// stay as they are, also those of a service that is gone. After Drain the
// settings count for those connections, and nobody listens.
func (p *Proxy) Configure(v *state.View) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := *p.fronts.Load()
	after := make(map[string]*front, len(v.Services))
	all := p.listeners()
	p.lists = p.lists.compile(v)
	for _, s := range v.Services {
		after[s.Name] = p.configured(before[s.Name], v, s)
	}
	used, err := map[*listener]bool{}, error(nil)
	if !p.ended {
		used, err = p.assign(v, after, all)
	}
	p.fronts.Store(&after)
	for _, f := range after {
		p.start(f)
		if f.listener != nil {
			p.engine.serve(f.listener, f)
		}
	}
	for name, f := range before {
		if after[name] != f && f.stop != nil {
			f.stop()
		}
	}
	clear(p.prepared)
	for _, l := range all {
		if !used[l] {
			p.engine.retire(l)
		}
	}
	return err
}

// configured returns the front for s: the one there was, if it was the same
// service, with its new settings.
func (p *Proxy) configured(f *front, v *state.View, s *state.Service) *front {
	if f == nil || f.id != s.ID {
		f = &front{service: newService(p.log, p.opts.Propose, s)}
	}
	f.configure(v, s, p.lists)
	old := f.settings.Swap(&s.Settings)
	if old != nil && (old.Idle != s.Idle || old.Timeout != s.Timeout) {
		p.engine.retime(f)
	}
	return f
}

// assign gives each front its listener out of all, or a new one, and returns
// those in use. First come those that stay where they are, so that nobody takes
// a listener away from under a service that could not move.
func (p *Proxy) assign(v *state.View, fronts map[string]*front, all map[place]*listener) (map[*listener]bool, error) {
	var errs []error
	used := map[*listener]bool{}
	for _, s := range v.Services {
		at, listens := placeOf(s)
		if f := fronts[s.Name]; listens && f.listener != nil && f.listener.place == at {
			used[f.listener] = true
		}
	}
	for _, s := range v.Services {
		f := fronts[s.Name]
		at, listens := placeOf(s)
		switch {
		case !listens:
			f.listener = nil
		case f.listener != nil && f.listener.place == at:
		case all[at] != nil && !used[all[at]]:
			f.listener = all[at]
			used[f.listener] = true
		case all[at] != nil:
			errs = append(errs, fmt.Errorf("listen on %s: another service listens there", at))
		default:
			l, err := p.listen(at, s)
			if err != nil {
				errs = append(errs, err)
				break
			}
			f.listener = l
			used[l] = true
		}
	}
	errs = append(errs, keepOld(v, fronts, used)...)
	return used, errors.Join(errs...)
}

// keepOld lets the services that could not move keep what they had, unless
// another service has taken it over.
func keepOld(v *state.View, fronts map[string]*front, used map[*listener]bool) (errs []error) {
	for _, s := range v.Services {
		f := fronts[s.Name]
		at, _ := placeOf(s)
		if f.listener == nil || f.listener.place == at {
			continue
		}
		if used[f.listener] {
			errs = append(errs, fmt.Errorf("service %s no longer listens: %s went to another service", s.Name, f.listener))
			f.listener = nil
			continue
		}
		used[f.listener] = true
	}
	return errs
}
