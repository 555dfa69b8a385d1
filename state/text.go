package state

import (
	"fmt"
	"strings"
)

// The operations in words, for logs: who reads them knows the control port.

// String returns the operations of the command, one after another.
func (c Command) String() string {
	all := make([]string, len(c.Ops))
	for i, o := range c.Ops {
		all[i] = fmt.Sprint(o)
	}
	return strings.Join(all, ", ")
}

func (o AddService) String() string    { return "service " + plain(o.Service) }
func (o RemoveService) String() string { return "no service " + plain(o.Service) }

func (o Set) String() string {
	text := o.Option.String() + " " + o.Option.print(o.Value)
	if o.Option.Global() {
		return text
	}
	return in(o.Service) + text
}

func (o SetServer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%sserver %s", in(o.Service), slot(o.Index))
	for _, f := range serverFields {
		if o.Fields&f.bit != 0 {
			fmt.Fprintf(&b, " %s %s", f.name, f.text(&o.Server))
		}
	}
	return b.String()
}

func (o RemoveServer) String() string {
	return in(o.Service) + "no server " + slot(o.Index)
}

func (o Fail) String() string {
	return fmt.Sprintf("%sserver %s failed at %s port %d", in(o.Service), slot(o.Index), o.Was, o.Port)
}

func (o Recover) String() string {
	return fmt.Sprintf("%sserver %s recovered at %s port %d", in(o.Service), slot(o.Index), o.Was, o.Port)
}

func (o AppendACL) String() string { return fmt.Sprintf("acl %d %v", o.List, o.Entry) }
func (o ClearACL) String() string  { return fmt.Sprintf("no acl %d", o.List) }

func (o Visits) String() string {
	return fmt.Sprintf("%d visits of service %d", len(o.Clients), o.Service)
}

func (o Move) String() string {
	return fmt.Sprintf("%sserver %s %s is at %v", in(o.Service), slot(o.Index), o.Was, o.To)
}

func (o Seeded) String() string   { return fmt.Sprintf("if the seed is %x", o.Sum[:4]) }
func (o SeedWith) String() string { return fmt.Sprintf("seed of %d bytes", len(o.Seed)) }

// String returns what the operator wrote, or else the address.
func (a Address) String() string {
	switch {
	case a.Host != "":
		return plain(a.Host)
	case a.IP.IsValid():
		return a.IP.String()
	}
	return "nowhere"
}

func in(service string) string {
	if service == "" || service == DefaultService {
		return ""
	}
	return "service " + plain(service) + " "
}

func slot(i int) string {
	switch i {
	case Emergency:
		return "emergency"
	case Abuse:
		return "abuse"
	}
	return fmt.Sprint(i)
}

// plain returns s as it is, or quoted if it could not stand in a line.
func plain(s string) string {
	if s == "" || checkText(s) != nil {
		return fmt.Sprintf("%.200q", s)
	}
	return s
}
