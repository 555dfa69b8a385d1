package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A link is an interface as the kernel describes it.
type link struct {
	Index    int
	Name     string
	MAC      net.HardwareAddr
	Ethernet bool
	Up       bool // by the operator's will
	Carrier  bool
}

// ready says that frames sent now can arrive.
func (l link) ready() bool { return l.Up && l.Carrier }

// A present address is one that the kernel has.
type present struct {
	Link      int
	Prefix    netip.Prefix
	Label     string
	Proto     uint8
	Valid     uint32 // seconds; forever is all ones
	Preferred uint32
}

const forever = ^uint32(0)

// proto marks our addresses (IFA_PROTO, since Linux 5.18): the letter p. Values
// above 3 are free for anybody.
const proto = 'p'

// labelOf marks our IPv4 addresses where proto is not known. A label has room
// for 15 bytes and begins with the interface's name. Empty: no room.
func labelOf(link string) string {
	if l := link + ":pen"; len(l) <= 15 {
		return l
	}
	return ""
}

// ours says that a process of ours has added the address. For want of any mark
// (IPv6, or a long name, on an old kernel) the unusual form of it has to do: a
// host's own, about to end, deprecated.
func (p present) ours() bool {
	if p.Proto != 0 {
		return p.Proto == proto
	}
	if p.Prefix.Addr().Is4() && strings.HasSuffix(p.Label, ":pen") {
		return true
	}
	return p.Prefix.IsSingleIP() && p.Preferred == 0 && p.Valid <= uint32(lifetime/time.Second)
}

// A target is an address and the interface where it should be.
type target struct {
	Addr netip.Addr
	Link string

	index int // of the interface, where it was last seen; 0: nowhere
}

// resolve finds the interface of each address: the one that was named, or the
// one that has the longest subnet with the address in it.
func resolve(addresses []Address, links []link, have []present) ([]target, error) {
	var errs []error
	targets := make([]target, 0, len(addresses))
	for _, a := range addresses {
		t := target{Addr: a.Prefix.Addr(), Link: a.Link}
		if t.Link == "" {
			found, err := subnetOf(a, links, have)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			t.Link = found
		}
		i := slices.IndexFunc(links, func(l link) bool { return l.Name == t.Link })
		switch {
		case i < 0:
			errs = append(errs, fmt.Errorf("vip %v: no interface %s", a, t.Link))
		case !links[i].Ethernet:
			errs = append(errs, fmt.Errorf("vip %v: %s has no neighbours to tell", a, t.Link))
		}
		targets = append(targets, t)
	}
	return targets, errors.Join(errs...)
}

func subnetOf(a Address, links []link, have []present) (string, error) {
	ip := a.Prefix.Addr()
	longest, names := -1, []string(nil)
	for _, p := range have {
		if p.ours() || p.Prefix.IsSingleIP() || !p.Prefix.Contains(ip) || p.Prefix.Bits() < longest {
			continue
		}
		i := slices.IndexFunc(links, func(l link) bool { return l.Index == p.Link && l.Ethernet })
		if i < 0 {
			continue
		}
		if p.Prefix.Bits() > longest {
			longest, names = p.Prefix.Bits(), nil
		}
		if !slices.Contains(names, links[i].Name) {
			names = append(names, links[i].Name)
		}
	}
	switch len(names) {
	case 0:
		return "", fmt.Errorf("vip %v: no interface has a subnet with this address; say dev INTERFACE", a)
	case 1:
		return names[0], nil
	}
	slices.Sort(names)
	return "", fmt.Errorf("vip %v: %s have a subnet with this address; say dev INTERFACE", a, strings.Join(names, " and "))
}

// foreign finds the targets that somebody else has configured on this machine,
// on whatever interface: the kernel would answer for them always.
func foreign(targets []target, links []link, have []present) error {
	var errs []error
	for _, t := range targets {
		for _, p := range have {
			if p.Prefix.Addr() != t.Addr || p.ours() {
				continue
			}
			where := fmt.Sprintf("interface %d", p.Link)
			if i := slices.IndexFunc(links, func(l link) bool { return l.Index == p.Link }); i >= 0 {
				where = links[i].Name
			}
			how := "permanently"
			if p.Valid != forever {
				how = fmt.Sprintf("for %d s, not by pen", p.Valid)
			}
			errs = append(errs, fmt.Errorf("vip %v: %s has %v %s; a virtual address must not be configured by others", t.Addr, where, p.Prefix, how))
		}
	}
	return errors.Join(errs...)
}

// A plan leads from what the kernel has to what it should have.
type plan struct {
	Remove []present // ours, and not where it should be
	Add    []placed  // missing
	Renew  []placed  // there, and no longer fresh
	Lost   []target  // no such interface at the moment
}

// A placed address has an interface that exists.
type placed struct {
	Addr netip.Addr
	Link link
}

// decide compares. Addresses that are not ours, by their mark, are never part
// of a plan.
func decide(targets []target, links []link, have []present, hold bool) plan {
	var p plan
	for _, t := range targets {
		i := slices.IndexFunc(links, func(l link) bool { return l.Name == t.Link })
		if i < 0 {
			p.Lost = append(p.Lost, t)
		}
		there := false
		for _, h := range have {
			switch {
			case h.Prefix.Addr() != t.Addr || !h.ours():
			case hold && !there && i >= 0 && h.Link == links[i].Index && h.Prefix.IsSingleIP():
				there = true
				if stale(h) {
					p.Renew = append(p.Renew, placed{t.Addr, links[i]})
				}
			default:
				p.Remove = append(p.Remove, h)
			}
		}
		if hold && !there && i >= 0 {
			p.Add = append(p.Add, placed{t.Addr, links[i]})
		}
	}
	return p
}

// stale asks the kernel's own count of the rest, so no clock of ours is
// needed. An address that somebody made permanent is stale too.
func stale(p present) bool {
	return p.Valid > uint32(lifetime/time.Second) || p.Valid <= uint32((lifetime-renewal)/time.Second)
}

// timeout is what an element gets: never past the lease's end, although the
// kernel rounds up.
func timeout(left, lease, tick time.Duration) time.Duration {
	t := (min(left, lease) - tick).Truncate(time.Millisecond)
	return max(t, 0)
}

// conflict notes a claim, and reports whether it is news.
func (s *State) conflict(on string, addr netip.Addr, mac string, now time.Time) bool {
	i := slices.IndexFunc(s.Conflicts, func(c Conflict) bool { return c.Addr == addr && c.Link == on && c.MAC == mac })
	c := Conflict{Addr: addr, Link: on, MAC: mac, First: now}
	news := i < 0 || now.Sub(s.Conflicts[i].Last) > time.Minute
	rest := slices.Clone(s.Conflicts)
	if i >= 0 {
		c = rest[i]
		rest = slices.Delete(rest, i, i+1)
	}
	c.Last = now
	c.Count++
	s.Conflicts = append(rest[max(0, len(rest)-maxConflicts+1):], c)
	return news
}
