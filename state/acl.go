package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// ACL is a list of rules on addresses. The first entry that matches decides; if
// none does, the answer is the opposite of the last entry's. An empty list
// permits everybody.
type ACL struct {
	Entries []ACLEntry
}

// ACLEntry permits or denies a range of addresses, or a country.
type ACLEntry struct {
	Permit bool
	// Addr and Mask say which addresses match: those that give Addr when masked.
	// A mask of IPv4 may have holes, one of IPv6 is a prefix. An invalid Mask in
	// a command stands for all ones. In the state Addr is unmapped and masked.
	Addr, Mask netip.Addr
	// Country is a country of two letters; Addr and Mask are invalid then. Who is
	// where is in each node's own database, of which the state knows nothing: here
	// such an entry matches nobody, but as the last one it counts for the default
	// like any other.
	Country string
}

// Permits tells whether the list lets a in. Clients without an address, those
// on Unix sockets, always pass. The country of a is what is asked for when the list
// has one; nil: nobody's is known.
func (l *ACL) Permits(a netip.Addr, country func(netip.Addr) string) bool {
	if !a.IsValid() || len(l.Entries) == 0 {
		return true
	}
	a = a.Unmap()
	for i := range l.Entries {
		e := &l.Entries[i]
		if e.Matches(a) || e.Country != "" && country != nil && country(a) == e.Country {
			return e.Permit
		}
	}
	return !l.Entries[len(l.Entries)-1].Permit
}

// Matches tells whether the entry is about the address a, which must be unmapped.
func (e *ACLEntry) Matches(a netip.Addr) bool {
	if !a.IsValid() || e.Addr.Is4() != a.Is4() || !e.Addr.IsValid() {
		return false
	}
	ah, al := words(a)
	mh, ml := words(e.Mask)
	eh, el := words(e.Addr)
	return ah&mh == eh && al&ml == el
}

// String returns the entry as the control port takes it.
func (e ACLEntry) String() string {
	verb := "deny"
	if e.Permit {
		verb = "permit"
	}
	switch {
	case e.Country != "":
		return verb + " country " + e.Country
	case !e.Mask.IsValid():
		return verb + " " + e.Addr.String()
	case e.Addr.Is4():
		return fmt.Sprintf("%s %v %v", verb, e.Addr, e.Mask)
	}
	h, l := words(e.Mask)
	return fmt.Sprintf("%s %v/%d", verb, e.Addr, bits.OnesCount64(h)+bits.OnesCount64(l))
}

// normal returns the entry as the state keeps it, or what is wrong with it.
func (e ACLEntry) normal() (ACLEntry, error) {
	if e.Country != "" {
		return e.normalCountry()
	}
	if !e.Addr.IsValid() {
		return e, errors.New("entry without an address")
	}
	e.Addr = e.Addr.WithZone("")
	if !e.Mask.IsValid() {
		e.Mask = allOnes(e.Addr)
	}
	if e.Mask.BitLen() != e.Addr.BitLen() || e.Mask.Zone() != "" {
		return e, fmt.Errorf("mask %v does not fit %v", e.Mask, e.Addr)
	}
	if e.Addr.Is4() {
		return e.masked(), nil
	}
	h, l := words(e.Mask)
	n := bits.LeadingZeros64(^h)
	if n == 64 {
		n += bits.LeadingZeros64(^l)
	}
	if n != bits.OnesCount64(h)+bits.OnesCount64(l) {
		return e, fmt.Errorf("mask %v is no prefix", e.Mask)
	}
	if e.Addr.Is4In6() && n >= 96 {
		e.Addr = e.Addr.Unmap()
		e.Mask = mask4(n - 96)
	}
	return e.masked(), nil
}

func (e ACLEntry) normalCountry() (ACLEntry, error) {
	if e.Addr.IsValid() || e.Mask.IsValid() {
		return e, errors.New("entry with both a country and an address")
	}
	c := strings.ToUpper(e.Country)
	if len(c) != 2 || c[0] < 'A' || c[0] > 'Z' || c[1] < 'A' || c[1] > 'Z' {
		return e, fmt.Errorf("country %q is not two letters", e.Country)
	}
	e.Country = c
	return e, nil
}

func (e ACLEntry) masked() ACLEntry {
	if e.Addr.Is4() {
		a, m := e.Addr.As4(), e.Mask.As4()
		for i := range a {
			a[i] &= m[i]
		}
		e.Addr = netip.AddrFrom4(a)
		return e
	}
	a, m := e.Addr.As16(), e.Mask.As16()
	for i := range a {
		a[i] &= m[i]
	}
	e.Addr = netip.AddrFrom16(a)
	return e
}

func allOnes(like netip.Addr) netip.Addr {
	if like.Is4() {
		return mask4(32)
	}
	b := [16]byte{}
	for i := range b {
		b[i] = 0xff
	}
	return netip.AddrFrom16(b)
}

func mask4(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(0xffffffff<<(32-n)))
	return netip.AddrFrom4(b)
}

// words returns the address as two numbers; IPv4 in its mapped form.
func words(a netip.Addr) (hi, lo uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}
