package config

import (
	"net/netip"
	"slices"

	"pen/state"
)

// Doubt is something that only the running system knows about a cluster's
// configuration, and the word that it is about.
type Doubt struct {
	Word    string
	Index   int // which one of several, as of vip; from 0
	Err     error
	Warning bool // it can start all the same
}

// cluster looks at what the configuration says of a cluster.
func (a *analysis) cluster() {
	l := &a.Local
	if !l.Clustered() {
		a.alone()
		return
	}
	before := len(a.findings)
	a.essentials()
	a.addresses()
	if len(l.Peers) > 0 {
		a.peers()
	}
	if a.Cluster == nil || a.broken || !a.findings[before:].OK() {
		return
	}
	for _, d := range a.Cluster(l) {
		severity := SeverityError
		if d.Warning {
			severity = SeverityWarning
		}
		a.find(severity, place{word: d.Word, index: d.Index}, "%v", d.Err)
	}
}

// alone finds words that mean nothing without a cluster.
func (a *analysis) alone() {
	for i := range clusterWords {
		name := clusterWords[i].Name
		if _, said := a.places[place{word: name}]; said && name != "cluster" && !a.broken {
			a.wrong(place{word: name}, "%s: only in a cluster: name it with `cluster NAME`", name)
		}
	}
}

// essentials finds what a cluster can not do without.
func (a *analysis) essentials() {
	at := place{word: "cluster"}
	if a.broken {
		return // what is missing may be the line that does not read
	}
	if a.Local.ClusterKey == "" {
		a.wrong(at, "cluster %s has no key: make one with pen --genkey, and name its file with `cluster_key FILE`", a.Local.Cluster)
	}
	if len(a.Local.Peers) == 0 {
		a.wrong(at, "cluster %s has no nodes: list them all with `peers ADDR ADDR ADDR`", a.Local.Cluster)
	}
	if len(a.Local.VIPs) == 0 {
		a.odd(at, "no virtual address: the nodes share their state, and no address moves between them")
	}
}

// addresses looks at the virtual addresses one by one.
func (a *analysis) addresses() {
	seen := map[netip.Addr]bool{}
	for i, v := range a.Local.VIPs {
		at, ip := place{"", "vip", i}, v.Prefix.Addr()
		if slices.ContainsFunc(a.Local.Peers, func(p Peer) bool { return p.Addr.Addr() == ip }) {
			a.wrong(at, "vip %s is the address of a peer, which does not move", ip)
		}
		if seen[ip] {
			a.wrong(at, "vip %s is given twice", ip)
		}
		seen[ip] = true
		if i == MaxVIPs {
			a.wrong(at, "more than %d virtual addresses", MaxVIPs)
		}
	}
}

// peers looks at the nodes together.
func (a *analysis) peers() {
	at, l := place{word: "peers"}, &a.Local
	if l.Self.IsValid() && !slices.ContainsFunc(l.Peers, func(p Peer) bool { return p.Addr == l.Self }) {
		a.wrong(place{word: "self"}, "self %s is not among the peers", Peer{Addr: l.Self})
	}
	var holders []Peer
	for _, p := range l.Peers {
		if !p.Witness {
			holders = append(holders, p)
		}
	}
	n := len(l.Peers)
	switch {
	case len(holders) == 0:
		a.wrong(at, "all peers are witnesses: nobody can hold an address")
	case n == 1:
		a.odd(at, "one peer: no other node can take over")
	case len(holders) == 1:
		a.odd(at, "only %s can hold an address, the other peers are witnesses", holders[0].Addr.Addr())
	}
	if l.QuorumLoss == "fallback" && n != 2 {
		a.wrong(place{word: "quorum_loss"}, "quorum_loss fallback is for two peers, and here are %d: the others could agree without this node; say hold", n)
	}
	switch {
	case n == 2 && l.Fallback():
		a.odd(at, "two peers: when they lose each other, each decides by what it sees of the network, and if they do not even see each other's ARP, both may hold the addresses; a witness on a third machine makes it certain")
	case n == 2:
		a.odd(at, "two peers and quorum_loss hold: when one of them is dead, the other has no majority and nobody holds an address; add a witness on a third machine")
	case n%2 == 0:
		a.odd(at, "%d peers stand no more failures than %d; add or remove one, or add a witness", n, n-1)
	}
}

// bound are the addresses on which a listener waits. A bare port is on each
// virtual address.
func (a *analysis) bound(l state.Listen) []state.Listen {
	if !l.Bare() || len(a.Local.VIPs) == 0 {
		return []state.Listen{l}
	}
	var all []state.Listen
	for _, v := range a.Local.VIPs {
		all = append(all, state.Listen{Text: l.Text, Addr: netip.AddrPortFrom(v.Prefix.Addr(), l.Addr.Port())})
	}
	return all
}

// inTheWay tells whether two listeners want the same place.
func (a *analysis) inTheWay(one, other state.Listen) bool {
	for _, l := range a.bound(one) {
		if slices.ContainsFunc(a.bound(other), func(m state.Listen) bool { return meet(l, m) }) {
			return true
		}
	}
	return false
}

// isVIP tells whether an address is virtual.
func (a *analysis) isVIP(ip netip.Addr) bool {
	return slices.ContainsFunc(a.Local.VIPs, func(v VIP) bool { return v.Prefix.Addr() == ip })
}

// waitsFor tells whether a server is what waits at l, on this node or, with the
// same configuration, on another.
func (a *analysis) waitsFor(server *state.Server, l state.Listen) bool {
	if slices.ContainsFunc(a.bound(l), func(l state.Listen) bool { return reaches(server, l) }) {
		return true
	}
	ip, everywhere := server.IP, l.Addr.Addr()
	if server.Path() || l.Bare() && len(a.Local.VIPs) > 0 || server.Port != l.Addr.Port() || !covers(everywhere, ip) {
		return false
	}
	return a.isVIP(ip) || slices.ContainsFunc(a.Local.Peers, func(p Peer) bool { return p.Addr.Addr() == ip })
}

// port finds a listener where the nodes talk to each other.
func (a *analysis) port(at place, named string, l state.Listen) {
	if !a.Local.Clustered() || l.Path() != "" {
		return
	}
	for _, p := range a.Local.Peers {
		if a.inTheWay(l, state.Listen{Text: p.Addr.String(), Addr: p.Addr}) {
			a.wrong(at, "%s is where the nodes of the cluster talk to each other, port %d", named, p.Addr.Port())
			return
		}
	}
}

// stays finds a listener that does not move with the virtual addresses.
func (a *analysis) stays(at place, l state.Listen) {
	ip := l.Addr.Addr()
	if len(a.Local.VIPs) == 0 || !a.Local.Clustered() || l.Path() != "" || l.Bare() || ip.IsUnspecified() || a.isVIP(ip) {
		return
	}
	a.odd(at, "%s is no virtual address: it does not move to another node", l.Text)
}
