package config

import (
	"fmt"
	"net/netip"

	"pen/state"
)

// directWords make a service one whose servers answer clients themselves.
var directWords = []Word{
	{
		Name: "dsr_if", Kind: KindReplicated, No: true, PerService: true,
		Args: []Arg{{Name: "INTERFACE", Type: TypeText}},
		Help: "pass packets on to servers that answer clients themselves; auto finds the interface",
		more: []string{"direct server return: the servers have the address, too, and are on that interface's segment", "listen ADDRESS:PORT, or ADDRESS alone for every port", "auto is the interface that has a subnet with the address"},
		check: func(s *Statement) *Error {
			if s.No || len(s.Args) == 0 {
				return nil
			}
			if err := checkInterface(s.Args[0].Text); err != nil {
				return &Error{Pos: s.at(0), What: err.Error()}
			}
			return nil
		},
		ops:    directOps,
		refuse: directRefuse,
	},
	tarpitWord(listWord(state.OptTarpit, state.OptTarpitList, "access list of addresses that nobody has and that seem to be there; -1: none")),
	{
		Name: "dsr_ip", Kind: KindIgnored, Args: []Arg{text("ADDRESS")},
		Help: "accepted without effect, as ever",
		note: func(*Statement) string { return "the address is that of listen" },
	},
}

func directOps(s *Statement, _ *environment) ([]state.Op, error) {
	link := ""
	switch {
	case s.No:
	case len(s.Args) == 0:
		return nil, nil
	default:
		link = s.Args[0].Text
		if err := checkInterface(link); err != nil {
			return nil, answered("", err)
		}
	}
	return []state.Op{set(s, state.OptDirectLink, state.Text(link))}, nil
}

// directRefuse says nothing to nothing, as the original.
func directRefuse(s *Statement) *Reply {
	if !s.No && len(s.Args) == 0 {
		return &Reply{Log: "dsr_if: expected an interface"}
	}
	return nil
}

// checkInterface knows what the kernel would never call an interface.
func checkInterface(name string) error {
	const longest = 15
	for _, c := range []byte(name) {
		if c <= ' ' || c == '/' || c == ':' || c == 0x7f {
			return fmt.Errorf("dsr_if: %q is no name of an interface", name)
		}
	}
	if name == "" || name == "." || name == ".." || len(name) > longest {
		return fmt.Errorf("dsr_if: %q is no name of an interface: it has 1 to %d characters", name, longest)
	}
	return nil
}

// tarpitWord takes -1 and answers like the original, without an end of line.
func tarpitWord(w Word) Word {
	w.Args = []Arg{{Name: "LIST", Type: TypeList, Min: state.NoList}}
	w.reply = func(s *Statement, v *state.View, _ *Local) string {
		return fmt.Sprintf("tarpit_acl = %v", settings(s, v).Tarpit)
	}
	return w
}

// Direct tells whether the servers of a service answer clients themselves.
func Direct(s *state.Service) bool { return s.DirectLink != "" }

// direct looks at a service whose servers answer clients themselves, and at one that has
// what only such a service needs.
func (a *analysis) direct(s *state.Service) {
	listen := place{s.Name, "listen", 0}
	if !Direct(s) {
		if s.Listen.Text == s.Listen.Addr.Addr().String() {
			a.wrong(listen, "listen %s: expected a port behind the address; only with dsr_if an address alone means every port", s.Listen.Text)
		}
		a.tarpitName(s)
		if s.Tarpit != state.Numbered(state.NoList) {
			a.odd(place{s.Name, "tarpit_acl", 0}, "tarpit_acl has no effect without dsr_if")
		}
		return
	}
	a.directListen(s, listen)
	at := place{s.Name, "dsr_if", 0}
	if s.TLS.Certificate != "" {
		a.wrong(at, "dsr_if: packets go to the servers as they are, so TLS is for the servers: remove ssl_certificate")
	}
	for i := range s.Servers {
		a.directServer(s, i)
	}
	a.tarpit(s)
	if a.Direct == nil || a.broken {
		return
	}
	for _, d := range a.Direct(s, &a.Local) {
		severity := SeverityError
		if d.Warning {
			severity = SeverityWarning
		}
		a.find(severity, at, "dsr_if %s: %v", s.DirectLink, d.Err)
	}
}

// tarpit looks at whom the tarpit would answer.
func (a *analysis) tarpit(s *state.Service) {
	a.tarpitName(s)
	if list := a.View.List(s.Tarpit); list != nil && len(list.Entries) == 0 {
		a.wrong(place{s.Name, "tarpit_acl", 0}, "tarpit_acl: access list %v is empty, so it permits everybody: pen would answer for every address of the segment", s.Tarpit)
	}
}

// tarpitName looks whether there is the list that has a name.
func (a *analysis) tarpitName(s *state.Service) {
	if s.Tarpit.Name != "" && a.View.List(s.Tarpit) == nil && !a.broken {
		a.wrong(place{s.Name, "tarpit_acl", 0}, "tarpit_acl %v: there is no access list of that name, and nobody would be held", s.Tarpit)
	}
}

// directListen looks at the address that clients talk to.
func (a *analysis) directListen(s *state.Service, at place) {
	l := s.Listen
	if l.Text == "" {
		return
	}
	switch {
	case l.Path() != "":
		a.wrong(at, "%s is a path: with dsr_if a service listens on an address", l.Text)
	case l.Bare() && len(a.Local.VIPs) > 0:
	case !l.Addr.IsValid() || l.Addr.Addr().IsUnspecified():
		a.wrong(at, "listen %s: with dsr_if name the address that the servers have, too: listen ADDRESS:PORT, or ADDRESS alone for every port", l.Text)
	case a.Local.Clustered() && !a.isVIP(l.Addr.Addr()):
		a.wrong(at, "listen %s: with dsr_if the nodes of a cluster listen on an address of vip; all of them would answer for this one", l.Text)
	}
}

// overlap tells whether two services want the same packets, of which one takes them
// before the kernel does. One for a port may stand beside one for every port, if the
// kernel has no part in it.
func (a *analysis) overlap(s, other *state.Service) bool {
	if !Direct(s) && !Direct(other) || s.Protocol != other.Protocol {
		return false
	}
	one, two := s.Listen.Addr, other.Listen.Addr
	if !one.IsValid() || !two.IsValid() || one.Port() != 0 && two.Port() != 0 || one.Port() == two.Port() {
		return one == two && one.IsValid()
	}
	return (!Direct(s) || !Direct(other)) && (covers(one.Addr(), two.Addr()) || covers(two.Addr(), one.Addr()) || other.Listen.Bare() && a.isVIP(one.Addr()))
}

func (a *analysis) directServer(s *state.Service, i int) {
	server, at := &s.Servers[i], place{s.Name, "server", i}
	switch {
	case server.Path():
		a.wrong(at, "server %d is a path: with dsr_if packets go to other machines", i)
	case a.directTo(s, server.IP):
		a.wrong(at, "server %d is the address that clients talk to: name the server's own address", i)
	case server.Port != 0 && s.Listen.Addr.Port() != 0 && server.Port != s.Listen.Addr.Port():
		a.odd(at, "server %d port %d: with dsr_if packets arrive at port %d", i, server.Port, s.Listen.Addr.Port())
	}
}

// directTo tells whether an address is one that the service forwards for.
func (a *analysis) directTo(s *state.Service, ip netip.Addr) bool {
	if s.Listen.Bare() {
		return a.isVIP(ip)
	}
	return ip.IsValid() && ip == s.Listen.Addr.Addr()
}
