package state

import (
	"fmt"
	"slices"
)

// SetClients makes these the known clients of a service, and no others, in the
// order in which they came. It is for restoring a backup.
type SetClients struct {
	Service string
	Clients []Visit
}

func (SetClients) op() opcode { return opSetClients }

func (o SetClients) String() string {
	return fmt.Sprintf("%s%d known clients", in(o.Service), len(o.Clients))
}

func (d *draft) setClients(o SetClients) error {
	s, err := d.service(o.Service)
	if err != nil {
		return err
	}
	for _, v := range o.Clients {
		if v.Server < None || v.Server >= MaxServers {
			return fmt.Errorf("server %d is outside %d..%d", v.Server, None, MaxServers-1)
		}
	}
	d.effects = append(d.effects, effect{table: s.clients, clear: true, tracking: s.Tracking, visits: o.Clients, servers: len(s.Servers)})
	return nil
}

// clear forgets all clients, and how long ago others were forgotten.
func (t *Table) clear(now Time, tracking int) {
	for t.oldest != 0 {
		t.remove(t.oldest.slot())
	}
	t.horizon.Store(0)
	t.advance(now, tracking)
}

// How many bytes a visit takes: of all clients on Unix sockets, and of one with IPv4.
const (
	visitLeast = 3
	visitUsual = 7
)

func (c *coder) visits(all *[]Visit) {
	n := uint64(len(*all))
	c.uint64(&n, MaxClients)
	switch {
	case c.err != nil:
		return
	case c.reading: // room for all at once: to let it grow costs more than all the rest
		*all = make([]Visit, 0, min(n, uint64(len(c.buf)/visitLeast)))
	default:
		c.buf = slices.Grow(c.buf, int(n)*visitUsual)
	}
	for i := uint64(0); i < n && c.err == nil; i++ {
		if c.reading {
			*all = append(*all, Visit{})
		}
		v := (*all)[i]
		c.addr(&v.Client)
		c.int(&v.Server)
		c.uint32(&v.Ago)
		if c.reading {
			(*all)[i] = v
		}
	}
}
