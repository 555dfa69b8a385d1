package proxy

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"pen/state"
)

// lists are the access lists of a view, compiled so that a look-up does not
// depend on how long they are. They never change.
type lists struct{ list [state.ACLs]*list }

// compile compiles the lists of v. What has not changed since l is taken over,
// what was only appended to is extended. A nil l has nothing to take over.
func (l *lists) compile(v *state.View) *lists {
	next := &lists{}
	for i := range v.ACL {
		var old *list
		if l != nil {
			old = l.list[i]
		}
		next.list[i] = old.compile(v.ACL[i].Entries)
	}
	return next
}

// permits answers as (*state.View).Permits does, without the walk.
func (l *lists) permits(n int, client netip.Addr) bool {
	switch {
	case !client.IsValid() || n == state.ACLs:
		return true
	case n < 0 || n > state.ACLs:
		return false
	}
	return l.list[n].permits(client)
}

// list is one access list.
//
// The first entry that matches decides, not the longest. So an entry that an
// earlier one covers whole is left out: it can never decide. Of the prefixes
// that remain and hold an address, the longest is then always the earliest.
type list struct {
	entries []state.ACLEntry // what it was compiled from
	tree    *bart.Table[rule]
	odd     []oddRule // entries whose masks are no prefixes, in order
	other   bool      // the answer when nothing matches
}

// rule is what an entry says, and its place in the list.
type rule struct {
	order  int32
	permit bool
}

type oddRule struct {
	rule
	addr, mask netip.Addr
}

func (l *list) compile(entries []state.ACLEntry) *list {
	next := &list{tree: new(bart.Table[rule]), other: true}
	from := 0
	if l != nil && begins(entries, l.entries) {
		if len(l.entries) == len(entries) {
			return l
		}
		next.tree, next.odd, from = l.tree, slices.Clip(l.odd), len(l.entries)
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
		return // a country: it matches nobody, but it counts as the last entry
	}
	prefix, ok := prefixOf(e.Addr, e.Mask)
	if !ok {
		l.odd = append(l.odd, oddRule{r, e.Addr, e.Mask})
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

// permits tells whether the list lets the client in.
func (l *list) permits(client netip.Addr) bool {
	r, ok := l.tree.Lookup(client)
	for i := range l.odd {
		o := &l.odd[i]
		if ok && o.order > r.order {
			break
		}
		if masked(client, o.mask) == o.addr {
			return o.permit
		}
	}
	if ok {
		return r.permit
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
