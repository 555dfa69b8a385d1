package state

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
)

// head is the first block of a snapshot.
type head struct {
	index    uint64
	time     int64
	next     uint32
	seed     []byte
	services []serviceHead
	drained  []string
	requests []outcome
	level    Level
	tickets  []TicketKey
	changes  []Change
}

type serviceHead struct {
	name string
	id   uint32
}

func headOf(v *View) head {
	h := head{index: v.Index, time: int64(v.Time), next: v.next, seed: v.Seed, drained: v.drained, requests: v.requests, level: v.level, changes: v.changes, tickets: v.tickets}
	for _, s := range v.Services {
		h.services = append(h.services, serviceHead{s.Name, s.ID})
	}
	return h
}

func (h *head) code(c *coder) {
	c.uint64(&h.index, math.MaxUint64)
	c.int64(&h.time)
	c.uint32(&h.next)
	c.bytes(&h.seed, MaxCommand)
	n := uint64(len(h.services))
	c.uint64(&n, MaxServices)
	for i := uint64(0); i < n && c.err == nil; i++ {
		if c.reading {
			h.services = append(h.services, serviceHead{})
		}
		s := &h.services[i]
		c.text(&s.name)
		c.uint32(&s.id)
	}
	h.codeCluster(c)
}

// codeCluster codes what only clusters have; a state without that ends here.
func (h *head) codeCluster(c *coder) {
	drained, requests := uint64(len(h.drained)), uint64(len(h.requests))
	if c.err != nil || c.reading && len(c.buf) == 0 || !c.reading && drained+requests == 0 && h.level < 2 {
		return
	}
	c.uint64(&drained, MaxNodes)
	for i := uint64(0); i < drained && c.err == nil; i++ {
		if c.reading {
			h.drained = append(h.drained, "")
		}
		c.text(&h.drained[i])
	}
	c.uint64(&requests, MaxRequests)
	for i := uint64(0); i < requests && c.err == nil; i++ {
		if c.reading {
			h.requests = append(h.requests, outcome{})
		}
		h.requests[i].code(c)
	}
	h.codeLevel(c)
}

// view returns the view that the head describes, with services that are new.
func (h *head) view() (*View, error) {
	v := &View{Index: h.index, Time: Time(h.time), Seed: h.seed, next: h.next, requests: h.requests, level: h.level, tickets: h.tickets, changes: h.changes}
	for i, n := range h.drained {
		if i > 0 && n <= h.drained[i-1] || n == "" || checkName(n) != nil {
			return nil, fmt.Errorf("drained node %q: bad name or out of order", n)
		}
		v.drained = append(v.drained, n)
	}
	if v.Time < 0 || v.Time > maxTime {
		return nil, fmt.Errorf("time %d is outside 0..%d", v.Time, maxTime)
	}
	if len(h.services) == 0 || h.services[0].name != DefaultService {
		return nil, fmt.Errorf("the first service is not %q", DefaultService)
	}
	ids := map[uint32]bool{}
	for _, s := range h.services {
		if err := checkName(s.name); err != nil || s.name == "" {
			return nil, fmt.Errorf("service %q: bad name", s.name)
		}
		if v.hasService(s.name) || ids[s.id] || s.id >= h.next {
			return nil, fmt.Errorf("service %q: its name or ID %d is not unique", s.name, s.id)
		}
		ids[s.id] = true
		v.Services = append(v.Services, newService(s.name, s.id))
	}
	return v, nil
}

func (v *View) hasService(name string) bool { return v.Service(name) != nil }

// row is one client in a snapshot.
type row struct {
	slot   uint32
	client netip.Addr
	server int
	used   uint32
}

// code codes the time as the difference to that of the row before.
func (e *row) code(c *coder, last *uint32) {
	c.uint32(&e.slot)
	c.addr(&e.client)
	c.int(&e.server)
	d := int64(e.used) - int64(*last)
	c.int64(&d)
	used := int64(*last) + d
	if d > math.MaxUint32 || d < -math.MaxUint32 || used < 0 || used > math.MaxUint32 {
		c.fail("time of a client out of range")
		return
	}
	e.used = uint32(used)
	*last = e.used
}

// Restore makes the state what a snapshot says, whole, or with an error leaves
// it as it is. The snapshot is all of r.
func (m *Machine) Restore(r io.Reader) error {
	v, err := readSnapshot(r)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	m.publish(v, true)
	return nil
}

func readSnapshot(r io.Reader) (*View, error) {
	br, err := newBlockReader(r)
	if err != nil {
		return nil, err
	}
	var s restoring
	for {
		b, err := br.block()
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			break
		}
		if err := s.block(b[0], b[1:]); err != nil {
			return nil, fmt.Errorf("block at byte %d: %w", br.at, err)
		}
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return &s.draft.view, br.end()
}

// restoring is a state of which some blocks have been read.
type restoring struct {
	draft   *draft
	tables  int    // how many have begun
	missing uint64 // clients that the table is still to get
	last    uint32
}

func (s *restoring) block(kind byte, b []byte) error {
	c := &coder{buf: b, reading: true}
	switch {
	case kind == blockHead && s.draft == nil:
		s.head(c)
	case kind == blockSettings && s.draft != nil && s.tables == 0:
		return s.settings(b)
	case kind == blockTable && s.draft != nil && s.missing == 0:
		s.table(c)
	case kind == blockClients && s.tables > 0:
		for len(c.buf) > 0 && c.err == nil {
			s.client(c)
		}
	default:
		return fmt.Errorf("a block of kind %q does not belong here", kind)
	}
	if c.err == nil && len(c.buf) > 0 {
		c.fail("%d bytes too many", len(c.buf))
	}
	return c.err
}

func (s *restoring) head(c *coder) {
	var h head
	if h.code(c); c.err != nil {
		return
	}
	v, err := h.view()
	if err != nil {
		c.err = err
		return
	}
	s.draft = &draft{view: *v, owned: map[string]bool{}}
	for _, service := range v.Services {
		s.draft.owned[service.Name] = true
	}
}

func (s *restoring) settings(b []byte) error {
	c, err := Decode(b)
	if err != nil {
		return err
	}
	for _, o := range c.Ops {
		switch o.(type) {
		case Set, SetServer, AppendACL, AppendNamedACL:
		default:
			return fmt.Errorf("%v: does not belong here", o)
		}
		if err := s.draft.apply(o); err != nil {
			return fmt.Errorf("%v: %w", o, err)
		}
	}
	return nil
}

func (s *restoring) table(c *coder) {
	services := s.draft.view.Services
	if s.tables == len(services) {
		c.fail("more tables than services")
		return
	}
	t := services[s.tables].clients
	var horizon uint32
	c.uint32(&horizon)
	c.uint64(&s.missing, MaxClients)
	t.resize(services[s.tables].ClientsMax)
	if c.err == nil && s.missing > uint64(t.Max()) {
		c.fail("%d clients in %d slots", s.missing, t.Max())
	}
	if c.err != nil {
		return
	}
	t.horizon.Store(horizon)
	t.index.resize(int(s.missing))
	s.tables++
	s.last = 0
}

func (s *restoring) client(c *coder) {
	var e row
	if e.code(c, &s.last); c.err != nil {
		return
	}
	t := s.draft.view.Services[s.tables-1].clients
	k := keyOf(e.client)
	h := t.index.hash(k)
	switch _, _, known, _ := t.find(k, h); {
	case s.missing == 0:
		c.fail("more clients than announced")
	case known:
		c.fail("client %v is there twice", e.client)
	case int64(e.slot) >= t.max.Load() || !t.free.has(e.slot):
		c.fail("client %v: slot %d is taken or does not exist", e.client, e.slot)
	case e.server < None || e.server >= MaxServers:
		c.fail("client %v: server %d is outside %d..%d", e.client, e.server, None, MaxServers-1)
	default:
		t.put(e.slot, k, h, dataOf(k, e.server, e.used))
		t.pushOldest(e.slot)
		s.missing--
	}
}

func (s *restoring) end() error {
	switch {
	case s.draft == nil:
		return errors.New("it is empty")
	case s.tables < len(s.draft.view.Services):
		return errors.New("a client table is missing")
	case s.missing > 0:
		return fmt.Errorf("%d clients are missing", s.missing)
	}
	return nil
}
