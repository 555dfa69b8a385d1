package state

import (
	"errors"
	"fmt"
	"math"
)

// serverField is one row of the table from which a SetServer is printed,
// checked, encoded, compared and applied.
type serverField struct {
	bit  ServerFields
	name string
	text func(*Server) string
	code func(*coder, *Server)
	same func(a, b *Server) bool
	set  func(to, from *Server)
}

// The order is that in which the fields are applied: a new address takes the
// old one's mark away, a mark given with it stays.
var serverFields = []serverField{
	{
		bit: FieldAddress, name: "address",
		text: func(s *Server) string { return s.Address.String() },
		code: func(c *coder, s *Server) { c.address(&s.Address) },
		same: func(a, b *Server) bool { return a.Address == b.Address },
		set:  func(to, from *Server) { to.move(from.Address, to.Port) },
	},
	{
		bit: FieldPort, name: "port",
		text: func(s *Server) string { return fmt.Sprint(s.Port) },
		code: func(c *coder, s *Server) { c.uint16(&s.Port) },
		same: func(a, b *Server) bool { return a.Port == b.Port },
		set:  func(to, from *Server) { to.move(to.Address, from.Port) },
	},
	numberField(FieldSoft, "max", func(s *Server) *int { return &s.Soft }),
	numberField(FieldHard, "hard", func(s *Server) *int { return &s.Hard }),
	numberField(FieldWeight, "weight", func(s *Server) *int { return &s.Weight }),
	numberField(FieldPrio, "prio", func(s *Server) *int { return &s.Prio }),
	{
		bit: FieldACL, name: "acl",
		text: func(s *Server) string { return fmt.Sprint(s.ACL.Number) },
		code: func(c *coder, s *Server) { c.int(&s.ACL.Number) },
		same: func(a, b *Server) bool { return a.ACL.Number == b.ACL.Number },
		set:  func(to, from *Server) { to.ACL = List{Number: from.ACL.Number} },
	},
	{
		bit: FieldMark, name: "mark",
		text: func(s *Server) string { return fmt.Sprint(int64(s.Mark)) },
		code: func(c *coder, s *Server) { c.int64((*int64)(&s.Mark)) },
		same: func(a, b *Server) bool { return a.Mark == b.Mark },
		set:  func(to, from *Server) { to.Mark = from.Mark },
	},
	{
		bit: FieldACLName, name: "acl",
		text: func(s *Server) string { return plain(s.ACL.Name) },
		code: func(c *coder, s *Server) { c.text(&s.ACL.Name) },
		same: func(a, b *Server) bool { return a.ACL.Name == b.ACL.Name },
		set:  func(to, from *Server) { to.ACL.setName(from.ACL.Name) },
	},
}

const allFields = FieldACLName<<1 - 1

func numberField(bit ServerFields, name string, field func(*Server) *int) serverField {
	return serverField{
		bit: bit, name: name,
		text: func(s *Server) string { return fmt.Sprint(*field(s)) },
		code: func(c *coder, s *Server) { c.int(field(s)) },
		same: func(a, b *Server) bool { return *field(a) == *field(b) },
		set:  func(to, from *Server) { *field(to) = *field(from) },
	}
}

// move gives the slot another address. The mark was about the one before.
func (s *Server) move(a Address, port uint16) {
	if a.IP != s.IP || port != s.Port || (a.Path() || s.Path()) && a.Host != s.Host {
		s.Mark = 0
	}
	s.Address, s.Port = a, port
}

// normal returns the operation as the state takes it, with nothing but the named
// fields, or what is wrong with it.
func (o SetServer) normal() (SetServer, error) {
	if o.Fields&^allFields != 0 {
		return o, fmt.Errorf("unknown fields %#x", uint16(o.Fields&^allFields))
	}
	var s Server
	for _, f := range serverFields {
		if o.Fields&f.bit != 0 {
			f.set(&s, &o.Server)
		}
	}
	s.IP = s.IP.Unmap()
	o.Server = s
	return o, s.check()
}

func (s *Server) check() error {
	if err := checkText(s.Host); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if s.Path() && s.IP.IsValid() {
		return errors.New("address: both a path and an IP address")
	}
	for _, n := range []int{s.Soft, s.Hard, s.Weight, s.Prio, s.ACL.Number} {
		if n < math.MinInt32 || n > math.MaxInt32 {
			return fmt.Errorf("%d is outside %d..%d", n, math.MinInt32, math.MaxInt32)
		}
	}
	if s.ACL.Name != "" {
		if err := CheckListName(s.ACL.Name); err != nil {
			return fmt.Errorf("acl: %w", err)
		}
	}
	if s.Mark < 0 {
		return fmt.Errorf("mark: %d is before the beginning of time", s.Mark)
	}
	return nil
}
