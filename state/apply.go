package state

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

func (d *draft) apply(o Op) error {
	if err := d.view.allowed(o); err != nil {
		return err
	}
	switch o := o.(type) {
	case AddService:
		return d.addService(o)
	case RemoveService:
		return d.removeService(o)
	case Set:
		return d.set(o)
	case SetServer:
		return d.setServer(o)
	case RemoveServer:
		return d.removeServer(o)
	case Fail:
		return d.mark(o.Service, o.Index, o.Was, o.Port, func(old Time) Time { return max(old, o.Mark) })
	case Recover:
		return d.mark(o.Service, o.Index, o.Was, o.Port, func(old Time) Time {
			if old == o.Mark {
				return 0
			}
			return old
		})
	case AppendACL:
		return d.appendACL(o)
	case ClearACL:
		return d.clearACL(o)
	case AppendNamedACL:
		return d.appendNamedACL(o)
	case RemoveNamedACL:
		return d.removeNamedACL(o)
	case Visits:
		return d.visits(o)
	case SeedWith:
		return d.seed(o)
	case Seeded:
		return d.seeded(o)
	case SetNode:
		return d.setNode(o)
	case RotateTickets:
		return d.rotateTickets(o)
	case SetLevel:
		return d.setLevel(o)
	case SetClients:
		return d.setClients(o)
	case Move:
		return d.move(o)
	case Stamp, Request:
		return nil // see Machine.Apply
	}
	return errors.New("unknown operation")
}

func (d *draft) addService(o AddService) error {
	if err := checkName(o.Service); err != nil {
		return err
	}
	if d.view.Service(o.Service) != nil {
		return nil
	}
	if len(d.view.Services) >= MaxServices {
		return fmt.Errorf("%d services are the most", MaxServices)
	}
	d.put(len(d.view.Services), newService(o.Service, d.view.takeID()))
	return nil
}

// checkName lets pass what can stand as one word in a file and a URL.
func checkName(name string) error {
	if len(name) > 64 {
		return fmt.Errorf("name of %d bytes is longer than 64", len(name))
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("name %q has other characters than letters, digits and . _ -", name)
		}
	}
	return nil
}

func (d *draft) removeService(o RemoveService) error {
	s, err := d.service(o.Service)
	if err != nil {
		return err
	}
	i := slices.Index(d.view.Services, s)
	if s.Name == DefaultService {
		d.put(i, newService(s.Name, d.view.takeID()))
		return nil
	}
	d.view.Services = slices.Delete(d.view.Services, i, i+1)
	return nil
}

func (d *draft) set(o Set) error {
	if err := o.Option.check(o.Value); err != nil {
		return err
	}
	t := target{Global: &d.view.Global}
	if o.Option.Global() {
		d.changed = true
		options[o.Option].set(t, o.Value)
		return nil
	}
	s, err := d.service(o.Service)
	if err != nil {
		return err
	}
	t.Settings = &s.Settings
	options[o.Option].set(t, o.Value)
	if o.Option == OptClientsMax {
		d.effects = append(d.effects, effect{table: s.clients, max: s.ClientsMax})
	}
	return nil
}

func (d *draft) setServer(o SetServer) error {
	o, err := o.normal()
	if err != nil {
		return err
	}
	s, err := d.service(o.Service)
	if err != nil {
		return err
	}
	slot, err := s.makeSlot(o.Index)
	if err != nil {
		return err
	}
	for _, f := range serverFields {
		if o.Fields&f.bit != 0 {
			f.set(slot, &o.Server)
		}
	}
	return nil
}

// makeSlot returns a slot of a service that is being written, and makes it if
// it is not there yet.
func (s *Service) makeSlot(i int) (*Server, error) {
	switch {
	case i == Emergency:
		s.Emergency = copyOf(s.Emergency)
		return s.Emergency, nil
	case i == Abuse:
		s.Abuse = copyOf(s.Abuse)
		return s.Abuse, nil
	case i < 0 || i >= MaxServers:
		return nil, fmt.Errorf("outside 0..%d", MaxServers-1)
	}
	if n := i + 1 - len(s.Servers); n > 0 {
		s.Servers = append(s.Servers, make([]Server, n)...)
	}
	return &s.Servers[i], nil
}

// copyOf returns a new server like s; s may be nil.
func copyOf(s *Server) *Server {
	var c Server
	if s != nil {
		c = *s
	}
	return &c
}

func (d *draft) removeServer(o RemoveServer) error {
	s, err := d.service(o.Service)
	if err != nil {
		return err
	}
	switch last := len(s.Servers) - 1; {
	case s.Server(o.Index) == nil:
		return errors.New("there is none")
	case o.Index == Emergency:
		s.Emergency = nil
	case o.Index == Abuse:
		s.Abuse = nil
	case o.Index == 0 && last == 0:
		s.Servers = nil // as in a service that never had any
	case o.Index == last:
		s.Servers = s.Servers[:last]
	default:
		s.Servers[o.Index] = Server{}
	}
	return nil
}

// mark changes the mark of a server to what next makes of it, if the slot is
// still about the server of that address. News that come late are no error.
func (d *draft) mark(service string, i int, was Address, port uint16, next func(Time) Time) error {
	s := d.view.Service(service)
	if s == nil {
		return nil
	}
	server := s.Server(i)
	was.IP = was.IP.Unmap()
	if server == nil || server.Address != was || server.Port != port || next(server.Mark) == server.Mark {
		return nil
	}
	s, err := d.service(service)
	if err != nil {
		return err
	}
	slot, err := s.makeSlot(i)
	if err != nil {
		return err
	}
	slot.Mark = next(slot.Mark)
	return nil
}

// move gives a slot another address, if it is still about the server that it was
// about. News that come late are no error.
func (d *draft) move(o Move) error {
	to := o.To.Unmap()
	if !to.IsValid() || to.IsUnspecified() {
		return errors.New("no address to move to")
	}
	s := d.view.Service(o.Service)
	if s == nil {
		return nil
	}
	server := s.Server(o.Index)
	o.Was.IP = o.Was.IP.Unmap()
	if server == nil || server.Address != o.Was || server.Path() || server.IP == to {
		return nil
	}
	s, err := d.service(o.Service)
	if err != nil {
		return err
	}
	slot, err := s.makeSlot(o.Index)
	if err != nil {
		return err
	}
	slot.move(Address{Host: slot.Host, IP: to}, slot.Port)
	return nil
}

func (d *draft) appendACL(o AppendACL) error {
	if o.List < 0 || o.List >= ACLs {
		return fmt.Errorf("list outside 0..%d", ACLs-1)
	}
	e, err := o.Entry.normal()
	if err != nil {
		return err
	}
	l := &d.view.ACL[o.List]
	if len(l.Entries) >= MaxACLEntries {
		return fmt.Errorf("%d entries are the most", MaxACLEntries)
	}
	// The array behind the entries is shared with earlier views, which do not
	// see beyond their own length. So a list built by many commands is not
	// copied for each. Only one draft at a time may do so: not a dry one.
	if d.dry && !d.clipped[o.List] {
		l.Entries = slices.Clip(l.Entries)
		d.clipped[o.List] = true
	}
	l.Entries = append(l.Entries, e)
	d.changed = true
	return nil
}

func (d *draft) clearACL(o ClearACL) error {
	if o.List < 0 || o.List >= ACLs {
		return fmt.Errorf("list outside 0..%d", ACLs-1)
	}
	d.view.ACL[o.List] = ACL{}
	d.changed = true
	return nil
}

func (d *draft) visits(o Visits) error {
	for _, v := range o.Clients {
		if v.Server < Keep || v.Server >= MaxServers {
			return fmt.Errorf("server %d is outside %d..%d", v.Server, Keep, MaxServers-1)
		}
	}
	for _, s := range d.view.Services {
		if s.ID == o.Service {
			d.effects = append(d.effects, effect{table: s.clients, visits: o.Clients, servers: len(s.Servers)})
			return nil
		}
	}
	return nil // of a service that is gone
}

// SeedSum is the sum of the seed; zero if there is none.
func (v *View) SeedSum() (sum [sha256.Size]byte) {
	if len(v.Seed) > 0 {
		sum = sha256.Sum256(v.Seed)
	}
	return sum
}

func (d *draft) seeded(o Seeded) error {
	if o.Sum != d.view.SeedSum() {
		return errors.New("another file was read meanwhile")
	}
	return nil
}

func (d *draft) seed(o SeedWith) error {
	if len(o.Seed) > MaxCommand {
		return fmt.Errorf("%d bytes are more than %d", len(o.Seed), MaxCommand)
	}
	d.view.Seed = append([]byte(nil), o.Seed...)
	d.changed = true
	return nil
}
