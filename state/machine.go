package state

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"
)

// maxTime is the last moment that fits the client tables, in the year 2106.
const maxTime = Time(math.MaxUint32) * 1000

// Machine is the state and the only way to change it.
//
// Apply, ApplyBytes, Snapshot and Restore are called by one goroutine at a
// time. Everything else may be called by any goroutine at any time.
type Machine struct {
	// Rest, if set, is called again and again while Apply works on a command
	// with many visits, so that it can let others have the processor. It is set
	// before the first command.
	Rest func()

	view    atomic.Pointer[View]
	changed atomic.Pointer[chan struct{}]
}

// New returns a machine that holds nothing but the service "default".
func New() *Machine {
	v := &View{}
	v.next = 1
	v.Services = []*Service{newService(DefaultService, v.takeID())}
	m := &Machine{}
	m.changed.Store(new(make(chan struct{})))
	m.view.Store(v)
	return m
}

func newService(name string, id uint32) *Service {
	s := &Service{Name: name, ID: id, Settings: Defaults()}
	s.clients = newTable(s.ClientsMax)
	return s
}

func (v *View) takeID() uint32 {
	id := v.next
	v.next++
	return id
}

// View returns the state after the last command that was applied.
func (m *Machine) View() *View { return m.view.Load() }

// Watch returns a channel that is closed when something in the view changes
// other than Index and Time. Who takes the channel first and then the view
// misses nothing.
func (m *Machine) Watch() <-chan struct{} { return *m.changed.Load() }

// ApplyBytes decodes and applies a command. One that can not be decoded changes
// nothing but counts, as any other that is refused.
func (m *Machine) ApplyBytes(b []byte) Result {
	c, err := Decode(b)
	if err != nil {
		return m.refuse(err, Command{})
	}
	return m.Apply(c)
}

// Apply applies all of the command or, with an error in the result, nothing of
// it.
func (m *Machine) Apply(c Command) Result {
	if id, ok := c.request(); ok {
		if r, again := m.View().outcome(id); again {
			m.refuse(nil, Command{})
			return r
		}
	}
	d, err := draftOf(m.View(), c, false)
	if err != nil {
		return m.refuse(err, c)
	}
	// Time has passed under the settings that were; then come those that are.
	for _, s := range m.View().Services {
		s.clients.advance(d.view.Time, s.Tracking)
	}
	for _, s := range d.view.Services {
		s.clients.advance(d.view.Time, s.Tracking)
		s.clients.reap(reapCommand)
	}
	for _, e := range d.effects {
		e.do(d.view.Time, m.Rest)
	}
	r := Result{Index: d.view.Index}
	d.view.remember(c, r)
	d.view.record(c)
	m.publish(&d.view, d.changed)
	return r
}

// refuse counts a command that changes nothing.
func (m *Machine) refuse(err error, c Command) Result {
	v := *m.View()
	v.Index++
	r := Result{Index: v.Index, Err: err}
	v.remember(c, r)
	m.publish(&v, false)
	return r
}

func (m *Machine) publish(v *View, changed bool) {
	m.view.Store(v)
	if changed {
		close(*m.changed.Swap(new(make(chan struct{}))))
	}
}

// With returns the view as it would be after the command, and whether the
// command would be applied at all. Nothing changes; the client tables of the
// result are those of v, without the command's visits.
func (v *View) With(c Command) (*View, error) {
	if id, ok := c.request(); ok {
		if r, again := v.outcome(id); again {
			next := *v
			next.Index++
			return &next, r.Err
		}
	}
	d, err := draftOf(v, c, true)
	if err != nil {
		return nil, err
	}
	d.view.requests = slices.Clip(d.view.requests)
	d.view.remember(c, Result{Index: d.view.Index})
	d.view.changes = slices.Clip(d.view.changes)
	d.view.record(c)
	return &d.view, nil
}

// draft is a view while a command is made part of it.
type draft struct {
	view    View
	dry     bool // nothing that is shared may be touched
	changed bool
	owned   map[string]bool // services that are already copies
	clipped [ACLs]bool      // lists that share no room to append
	named   bool            // lists with names are already a copy
	effects []effect
}

// effect is what a command does to a client table, kept until all of the
// command is known to be good.
type effect struct {
	table    *Table
	max      int  // have so many slots
	clear    bool // forget all; tracking is that of the service
	tracking int
	visits   []Visit // or record these
	servers  int     // number of servers of the service
}

func (e effect) do(now Time, rest func()) {
	if e.max > 0 {
		e.table.resize(e.max)
	}
	if e.clear {
		e.table.clear(now, e.tracking)
	}
	for visits := range slices.Chunk(e.visits, visitsAtOnce) {
		e.table.warm(visits)
		for _, v := range visits {
			if v.Server >= e.servers {
				v.Server = None
			}
			e.table.visit(v, now)
		}
		if rest != nil {
			rest()
		}
	}
}

// visitsAtOnce take about 15 microseconds.
const visitsAtOnce = 32

func draftOf(v *View, c Command, dry bool) (*draft, error) {
	if c.Time > maxTime {
		return nil, fmt.Errorf("time %d is beyond %d", c.Time, maxTime)
	}
	d := &draft{view: *v, dry: dry}
	d.view.Index++
	d.view.Time = max(v.Time, c.Time)
	for _, o := range c.Ops {
		if err := d.apply(o); err != nil {
			return nil, fmt.Errorf("%v: %w", o, err)
		}
	}
	return d, nil
}

// service returns a copy of the service that may be written to, in place of the
// one of that name.
func (d *draft) service(name string) (*Service, error) {
	if name == "" {
		name = DefaultService
	}
	i := slices.IndexFunc(d.view.Services, func(s *Service) bool { return s.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("no service %q", name)
	}
	if !d.owned[name] {
		s := *d.view.Services[i]
		s.Servers = slices.Clone(s.Servers)
		d.put(i, &s)
	}
	return d.view.Services[i], nil
}

// put makes s the service at place i, which may be the end of the list.
func (d *draft) put(i int, s *Service) {
	if d.owned == nil {
		d.owned = map[string]bool{}
		d.view.Services = slices.Clone(d.view.Services)
	}
	d.owned[s.Name] = true
	d.changed = true
	if i == len(d.view.Services) {
		d.view.Services = append(d.view.Services, s)
		return
	}
	d.view.Services[i] = s
}
