package state

import (
	"errors"
	"fmt"
	"math"
)

// serverField is one row of the table from which a SetServer is printed,
// checked and applied.
type serverField struct {
	bit   ServerFields
	name  string
	value func(*Server) any
	set   func(to, from *Server)
}

// The order is that in which the fields are applied: a new address takes the
// old one's mark away, a mark given with it stays.
var serverFields = []serverField{
	{FieldAddress, "address", func(s *Server) any { return s.Address }, func(to, from *Server) { to.move(from.Address, to.Port) }},
	{FieldPort, "port", func(s *Server) any { return s.Port }, func(to, from *Server) { to.move(to.Address, from.Port) }},
	{FieldSoft, "max", func(s *Server) any { return s.Soft }, func(to, from *Server) { to.Soft = from.Soft }},
	{FieldHard, "hard", func(s *Server) any { return s.Hard }, func(to, from *Server) { to.Hard = from.Hard }},
	{FieldWeight, "weight", func(s *Server) any { return s.Weight }, func(to, from *Server) { to.Weight = from.Weight }},
	{FieldPrio, "prio", func(s *Server) any { return s.Prio }, func(to, from *Server) { to.Prio = from.Prio }},
	{FieldACL, "acl", func(s *Server) any { return s.ACL }, func(to, from *Server) { to.ACL = from.ACL }},
	{FieldMark, "mark", func(s *Server) any { return int64(s.Mark) }, func(to, from *Server) { to.Mark = from.Mark }},
}

const allFields = FieldMark<<1 - 1

// move gives the slot another address. The mark was about the one before.
func (s *Server) move(a Address, port uint16) {
	if a.IP != s.IP || a.Path() != s.Path() || a.Path() && a.Host != s.Host || port != s.Port {
		s.Mark = 0
	}
	s.Address, s.Port = a, port
}

// normal returns the operation as the state takes it, or what is wrong with it.
func (o SetServer) normal() (SetServer, error) {
	if o.Fields&^allFields != 0 {
		return o, fmt.Errorf("unknown fields %#x", uint16(o.Fields&^allFields))
	}
	s := &o.Server
	s.IP = s.IP.Unmap()
	if err := checkText(s.Host); err != nil {
		return o, fmt.Errorf("address: %w", err)
	}
	if s.Path() && s.IP.IsValid() {
		return o, errors.New("address: both a path and an IP address")
	}
	for _, f := range serverFields {
		n, ok := f.value(s).(int)
		if ok && o.Fields&f.bit != 0 && (n < math.MinInt32 || n > math.MaxInt32) {
			return o, fmt.Errorf("%s: %d is outside %d..%d", f.name, n, math.MinInt32, math.MaxInt32)
		}
	}
	if o.Fields&FieldMark != 0 && s.Mark < 0 {
		return o, fmt.Errorf("mark: %d is before the beginning of time", s.Mark)
	}
	return o, nil
}
