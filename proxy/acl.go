package proxy

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"pen/state"
)

// lists are the access lists of a view, compiled so that a look-up does not
// depend on how long they are. They never change; what countries addresses are in
// may.
type lists struct {
	list  [state.ACLs]*list
	named map[string]*list
	atlas *atlas // nil: no country is known
}

// compile compiles the lists of v. What has not changed since l is taken over,
// what was only appended to is extended. A nil l has nothing to take over.
func (l *lists) compile(v *state.View, a *atlas) *lists {
	next := &lists{named: make(map[string]*list, len(v.Named)), atlas: a}
	if l == nil {
		l = &lists{}
	}
	for i := range v.ACL {
		next.list[i] = l.list[i].compile(v.ACL[i].Entries)
	}
	for i := range v.Named {
		name := v.Named[i].Name
		next.named[name] = l.named[name].compile(v.Named[i].Entries)
	}
	return next
}

// permits answers as (*state.View).Permits does, without the walk.
func (l *lists) permits(which state.List, client netip.Addr) bool {
	n := which.Number
	switch {
	case !client.IsValid():
		return true
	case which.Name != "":
		list := l.named[which.Name]
		return list != nil && list.permits(client, l.atlas)
	case n == state.ACLs:
		return true
	case n < 0 || n > state.ACLs:
		return false
	}
	return l.list[n].permits(client, l.atlas)
}

// list is one access list.
//
// The first entry that matches decides, not the longest. So a prefix that an
// earlier one covers whole is left out: it can never decide. Of the prefixes
// that remain and hold an address, the longest is then always the earliest. What is
// no prefix has tables of its own, and of what they find the earliest counts.
type list struct {
	entries []state.ACLEntry // what it was compiled from
	tree    *bart.Table[rule]
	sieves  []sieve       // entries whose masks are no prefixes
	lands   map[land]rule // entries about countries
	abroad  int32         // place of the first of those
	other   bool          // the answer when nothing matches
}

// rule is what an entry says, and its place in the list.
type rule struct {
	order  int32
	permit bool
}

// before tells whether r stands before the other one, which may not be there.
func (r rule) before(other rule, there bool) bool { return !there || r.order < other.order }

// sieve has the entries with one mask, by address. There is one for each mask with
// holes, in the order in which they first appear: people have one or two of those.
type sieve struct {
	mask  netip.Addr
	first int32
	rules map[netip.Addr]rule
}

func (l *list) compile(entries []state.ACLEntry) *list {
	next := &list{tree: new(bart.Table[rule]), other: true}
	from := 0
	if l != nil && begins(entries, l.entries) {
		if len(l.entries) == len(entries) {
			return l
		}
		from = len(l.entries)
		next.tree, next.lands, next.abroad = l.tree, maps.Clone(l.lands), l.abroad
		for _, s := range l.sieves {
			s.rules = maps.Clone(s.rules)
			next.sieves = append(next.sieves, s)
		}
	}
	next.entries = entries
	for i, e := range entries[from:] {
		// The tree may be in use through the older list, so it is not touched.
		next.add(e, rule{int32(from + i), e.Permit}, from > 0)
	}
	if n := len(entries); n > 0 {
		next.other = !entries[n-1].Permit
	}
	return next
}

// begins tells whether entries begin with those of head. Neither ever changes in
// place, so what lies at the same place is the same.
func begins(entries, head []state.ACLEntry) bool {
	n := len(head)
	return n == 0 || n <= len(entries) && (&entries[0] == &head[0] || slices.Equal(entries[:n], head))
}

func (l *list) add(e state.ACLEntry, r rule, shared bool) {
	if !e.Addr.IsValid() {
		l.addLand(landOf(e.Country), r)
		return
	}
	prefix, ok := prefixOf(e.Addr, e.Mask)
	if !ok {
		l.sieve(e.Mask, r.order).add(e.Addr, r)
		return
	}
	if _, covered := l.tree.LookupPrefix(prefix); covered {
		return
	}
	if shared {
		l.tree = l.tree.InsertPersist(prefix, r)
	} else {
		l.tree.Insert(prefix, r)
	}
}

func (l *list) addLand(at land, r rule) {
	if l.lands == nil {
		l.lands, l.abroad = map[land]rule{}, r.order
	}
	if _, there := l.lands[at]; !there {
		l.lands[at] = r
	}
}

// sieve returns the one for a mask, a new one if there is none.
func (l *list) sieve(mask netip.Addr, order int32) *sieve {
	i := slices.IndexFunc(l.sieves, func(s sieve) bool { return s.mask == mask })
	if i < 0 {
		i = len(l.sieves)
		l.sieves = append(l.sieves, sieve{mask, order, map[netip.Addr]rule{}})
	}
	return &l.sieves[i]
}

func (s *sieve) add(addr netip.Addr, r rule) {
	if _, there := s.rules[addr]; !there {
		s.rules[addr] = r
	}
}

// permits tells whether the list lets the client in.
func (l *list) permits(client netip.Addr, a *atlas) bool {
	best, found := l.tree.Lookup(client)
	for i := range l.sieves {
		s := &l.sieves[i]
		if found && best.order < s.first {
			break
		}
		if r, ok := s.rules[masked(client, s.mask)]; ok && r.before(best, found) {
			best, found = r, true
		}
	}
	if len(l.lands) > 0 && (!found || l.abroad < best.order) {
		if r, ok := l.lands[a.land(client)]; ok && r.before(best, found) {
			best, found = r, true
		}
	}
	if found {
		return best.permit
	}
	return l.other
}

// prefixOf returns addr and mask as a prefix, if the mask is one.
func prefixOf(addr, mask netip.Addr) (netip.Prefix, bool) {
	if addr.BitLen() != mask.BitLen() {
		return netip.Prefix{}, false
	}
	n := 0
	bytes := mask.AsSlice()
	for n < mask.BitLen() && bytes[n/8]>>(7-n%8)&1 == 1 {
		n++
	}
	prefix := netip.PrefixFrom(mask, n)
	if prefix.Masked().Addr() != mask { // ones behind the first zero
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, n).Masked(), true
}

// masked is addr AND mask; the invalid address if they are of different kinds.
func masked(addr, mask netip.Addr) netip.Addr {
	switch {
	case addr.Is4() && mask.Is4():
		a, m := addr.As4(), mask.As4()
		for i := range a {
			a[i] &= m[i]
		}
		return netip.AddrFrom4(a)
	case addr.Is6() && mask.Is6():
		a, m := addr.As16(), mask.As16()
		for i := range a {
			a[i] &= m[i]
		}
		return netip.AddrFrom16(a)
	}
	return netip.Addr{}
}
