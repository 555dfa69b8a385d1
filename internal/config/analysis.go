package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"pen/state"
)

// analysis looks for what reads well and is probably not meant.
type analysis struct {
	Checker
	*Plan
	places   map[place]Pos
	broken   bool // errors are known already, so something may be missing
	findings Report
}

// place is what a statement was about; the last one counts.
type place struct {
	service, word string
	index         int
}

func placesOf(statements []Statement) map[place]Pos {
	all, seen := map[place]Pos{}, map[string]int{}
	for _, s := range statements {
		p := place{service: s.Service, word: s.Word.Name}
		if !s.Word.PerService {
			p.service = ""
		}
		switch {
		case p.word == "server" && len(s.Args) > 0:
			p.index = s.Args[0].Int
		case p.word == "acl" && len(s.Args) > 0:
			p = listPlace(s.Args[0].list())
		case s.Word.Several:
			p.index = seen[p.word]
			seen[p.word]++
		}
		all[p] = s.Pos
	}
	return all
}

func (a *analysis) find(severity string, at place, what string, args ...any) {
	pos := a.places[at]
	if at.service != "" && at.service != state.DefaultService {
		what = "service " + at.service + ": " + what
	}
	a.findings = append(a.findings, Finding{
		File: pos.File, Line: pos.Line, Column: pos.Column, Severity: severity, What: fmt.Sprintf(what, args...),
	})
}

func (a *analysis) wrong(at place, what string, args ...any) {
	a.find(SeverityError, at, what, args...)
}

func (a *analysis) odd(at place, what string, args ...any) {
	a.find(SeverityWarning, at, what, args...)
}

func (a *analysis) run(statements []Statement) {
	if !a.Listening() && !a.broken {
		a.wrong(place{}, "no listener: nothing says where clients are waited for")
	}
	a.cluster()
	a.listeners()
	a.services()
	a.control()
	a.metrics()
	a.logs()
	a.fits()
	for _, s := range statements {
		if s.Word.note != nil && !s.quiet {
			if instead := s.Word.note(&s); instead != "" {
				at := place{word: s.Text}
				a.places[at] = s.Pos
				a.odd(at, "%q does nothing: %s", s.Text, instead)
			}
			continue
		}
		if s.Word.Kind == KindIgnored && !s.No && !s.quiet {
			at := place{word: s.Text}
			a.places[at] = s.Pos
			a.odd(at, "%q does nothing; remove it", s.Text)
		}
	}
}

// services looks at what depends on the state alone.
func (a *analysis) services() {
	for _, s := range a.View.Services {
		a.servers(s)
		a.modes(s)
		a.proxyHeader(s)
		a.resolves(s)
		a.tls(s)
		a.direct(s)
		a.http(s)
		a.transparent(s)
		a.specials(s)
	}
	a.lists()
}

// listeners finds two that wait at one place.
func (a *analysis) listeners() {
	for i, s := range a.View.Services {
		at := place{s.Name, "listen", 0}
		if s.Listen.Text == "" {
			if len(s.Servers) > 0 && a.Listening() {
				a.odd(at, "servers but no listener")
			}
			continue
		}
		for _, other := range a.View.Services[:i] {
			if s.Protocol == other.Protocol && a.inTheWay(s.Listen, other.Listen) || a.overlap(s, other) {
				a.wrong(at, "%s is where service %s listens already", s.Listen.Text, other.Name)
			}
		}
		if s.Protocol == state.UDP && s.Listen.Path() != "" {
			a.wrong(at, "%s is a path: a service with protocol udp listens on a port", s.Listen.Text)
		}
		a.port(at, s.Listen.Text, s.Listen)
		a.stays(at, s.Listen)
	}
}

// meet tells whether two listeners get in each other's way.
func meet(a, b state.Listen) bool {
	if a.Path() != "" || b.Path() != "" {
		return a.Path() == b.Path()
	}
	if a.Text == "" || b.Text == "" || a.Addr.Port() != b.Addr.Port() || a.Addr.Port() == 0 {
		return false
	}
	return covers(a.Addr.Addr(), b.Addr.Addr()) || covers(b.Addr.Addr(), a.Addr.Addr())
}

// covers tells whether a listener on a takes what is for b. The unspecified
// IPv6 address takes IPv4 too.
func covers(a, b netip.Addr) bool {
	return a == b || (a.IsUnspecified() && (a.Is6() || b.Is4()))
}

func (a *analysis) servers(s *state.Service) {
	if len(s.Servers) == 0 && s.Listen.Text != "" && !a.broken && !s.Dummy {
		a.odd(place{s.Name, "listen", 0}, "no servers: clients will be closed")
	}
	type target struct {
		address string
		port    uint16
	}
	first := map[target]int{}
	for i := range s.Servers {
		server, at := &s.Servers[i], place{s.Name, "server", i}
		a.server(s, server, at, i)
		if !server.Usable() {
			continue
		}
		t := target{server.IP.String(), server.Port}
		if server.Path() {
			t = target{address: server.Host}
		}
		if s.Resolve > 0 && Named(server.Address) {
			continue // several of one name get different addresses, if it has them
		}
		if other, twice := first[t]; twice {
			a.odd(at, "server %d is the same as server %d", i, other)
			continue
		}
		first[t] = i
	}
}

// server looks at one slot.
func (a *analysis) server(s *state.Service, server *state.Server, at place, i int) {
	switch {
	case server.Address == (state.Address{}):
		a.odd(at, "server %d has no address", i)
	case !server.Path() && server.IP.IsValid() && !server.IP.IsUnspecified() && server.Port == 0 && !Direct(s):
		a.odd(at, "server %d has port 0 and is never used", i)
	}
	if server.Soft < 0 {
		a.odd(at, "server %d max %d: it counts as always full", i, server.Soft)
	}
	a.list(at, fmt.Sprintf("server %d acl", i), server.ACL)
	a.itself(s, server, at, fmt.Sprintf("server %d", i))
}

// itself finds a server that is pen.
func (a *analysis) itself(of *state.Service, server *state.Server, at place, what string) {
	if !server.Usable() {
		return
	}
	if of.Protocol == state.UDP && server.Path() {
		a.wrong(at, "%s is a path: a service with protocol udp has servers with a port", what)
	}
	for _, s := range a.View.Services {
		if s.Protocol == of.Protocol && a.waitsFor(server, s.Listen) {
			a.wrong(at, "%s is pen's own listener %s", what, s.Listen.Text)
		}
	}
	if of.Protocol == state.UDP {
		return
	}
	if l, ok := ownAddress(a.Local.Control); ok && reaches(server, l) {
		a.wrong(at, "%s is pen's own control port %s", what, l.Text)
	}
	if l, ok := ownAddress(a.Local.Metrics); ok && reaches(server, l) {
		a.wrong(at, "%s is pen's own port for metrics %s", what, l.Text)
	}
}

// reaches tells whether a server is what waits at l.
func reaches(server *state.Server, l state.Listen) bool {
	if server.Path() || l.Path() != "" {
		return server.Path() && server.Host == l.Path()
	}
	if l.Text == "" || server.Port != l.Addr.Port() {
		return false
	}
	ip := l.Addr.Addr()
	return ip == server.IP || (ip.IsUnspecified() && server.IP.IsLoopback() && (ip.Is6() || server.IP.Is4()))
}

// ownAddress is where this process listens for its operator, as far as it can be
// known without asking: a bare port is on loopback.
func ownAddress(text string) (state.Listen, bool) {
	spec, err := parseListen(text)
	if text == "" || err != nil {
		return state.Listen{}, false
	}
	l := state.Listen{Text: text}
	if spec.path != "" {
		return l, true
	}
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	switch {
	case spec.host == "localhost":
	case strings.HasPrefix(text, "*:"):
		host = netip.IPv4Unspecified()
	case spec.host != "":
		var ok bool
		if host, ok = literal(spec.host); !ok {
			return l, false
		}
	}
	l.Addr = netip.AddrPortFrom(host, uint16(spec.port))
	return l, true
}

func (a *analysis) modes(s *state.Service) {
	usable := func(s state.Server) bool { return s.Usable() && s.Weight > 0 }
	weighted := 0
	for _, server := range s.Servers {
		if usable(server) {
			weighted++
		}
	}
	at := place{s.Name, "weight", 0}
	if s.Weight && weighted == 0 && len(s.Servers) > 0 {
		a.odd(at, "weight is on and no server has a weight: none will be chosen")
	}
	if s.Weight && s.Prio {
		a.odd(at, "weight has no effect while prio is on")
	}
	_, said := a.places[place{s.Name, "hash", 0}]
	if s.Hash != state.HashOff && (s.Weight || s.Prio) && (said || !a.Local.Clustered()) {
		a.odd(place{s.Name, "hash", 0}, "hash has no effect while weight or prio is on")
	}
	if at := (place{s.Name, "dummy", 0}); s.Dummy && s.Protocol == state.UDP {
		a.odd(at, "dummy has no effect on datagrams")
	} else if s.Dummy && len(s.Servers) > 0 {
		a.odd(at, "clients get the test page of dummy, and no server")
	}
	if at := (place{s.Name, "idlers", 0}); s.Idlers > 0 && s.Protocol == state.UDP {
		a.odd(at, "idlers has no effect on datagrams")
	} else if most := s.ConnMax / 2; s.Idlers > most {
		a.odd(at, "idlers %d: no more than %d are made, half of conn_max", s.Idlers, most)
	}
	if s.Timeout < 1 {
		a.odd(place{s.Name, "timeout", 0}, "timeout %d: no server can accept in time", s.Timeout)
	}
}

// specials looks at the emergency and the abuse server.
func (a *analysis) specials(s *state.Service) {
	if s.Emergency != nil {
		at := place{s.Name, "emergency", 0}
		if s.Stubborn {
			a.odd(at, "the emergency server is never used while stubborn is on")
		}
		a.itself(s, s.Emergency, at, "the emergency server")
	}
	if s.Abuse != nil {
		at := place{s.Name, "abuse", 0}
		if list := a.View.List(s.ClientACL); list != nil && len(list.Entries) == 0 {
			a.odd(at, "the abuse server is never used: client_acl is list %v, which denies nobody", s.ClientACL)
		}
		a.itself(s, s.Abuse, at, "the abuse server")
	}
}

// control finds a control port that everybody could use, or that can not be had.
func (a *analysis) control() { a.own("control", a.Local.Control) }

// metrics does the same for the port that Prometheus asks.
func (a *analysis) metrics() {
	text := a.Local.Metrics
	if text == "" {
		return
	}
	at := place{"", "metrics", 0}
	if err := checkPort(text); err != nil {
		a.wrong(at, "metrics: %v", err)
		return
	}
	a.own("metrics", text)
	l, ok := ownAddress(text)
	if other, known := ownAddress(a.Local.Control); ok && known && other.Path() == "" && meet(l, other) {
		a.wrong(at, "metrics %s is where the control port is", text)
	}
}

// own looks at an address at which this process listens for its operator.
func (a *analysis) own(word, text string) {
	at := place{"", word, 0}
	if text == "" {
		return
	}
	if _, err := parseListen(text); err != nil {
		a.wrong(at, "%s: %v", word, err)
		return
	}
	l, ok := ownAddress(text)
	if !ok || l.Path() != "" {
		return
	}
	if list := a.View.List(a.View.Global.ControlACL); !l.Addr.Addr().IsLoopback() && list != nil && len(list.Entries) == 0 {
		a.wrong(at, "%s %s is open to the network, and control_acl is list %v, which is empty", word, text, a.View.Global.ControlACL)
	}
	for _, s := range a.View.Services {
		if s.Protocol == state.TCP && slices.ContainsFunc(a.bound(s.Listen), func(other state.Listen) bool { return meet(l, other) }) {
			a.wrong(at, "%s %s is where service %s listens", word, text, s.Name)
		}
	}
	if a.isVIP(l.Addr.Addr()) {
		a.wrong(at, "%s %s is on a virtual address, which is not always this node's", word, text)
	}
	if a.Local.Clustered() && slices.ContainsFunc(a.Local.Peers, func(p Peer) bool { return meet(l, state.Listen{Text: text, Addr: p.Addr}) }) {
		a.wrong(at, "%s %s is where the nodes of the cluster talk to each other", word, text)
	}
}

// fits asks whether this process can have all connections at once.
func (a *analysis) fits() {
	if a.Fits == nil {
		return
	}
	if err := a.Fits(a.View); err != nil {
		a.wrong(place{state.DefaultService, "conn_max", 0}, "%v", err)
	}
}
