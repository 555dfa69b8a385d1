// Package vip holds virtual addresses: it makes this node's kernel answer for
// them, and makes sure that it stops.
//
// The caller says what should be (Want), as often as it likes. The package
// compares that with what the kernel says and mends the difference, on every
// event and every 250 ms. It promises that nothing of this node answers for an
// address after the end of the lease that came with the last Want, also when
// the process is killed, frozen or stuck; DESIGN.md tells by which fences. It
// does not decide who may hold the addresses, and it serves nobody: both are
// for others.
//
// All addresses move together. Only Linux can hold one; elsewhere the
// functions return errors.ErrUnsupported.
package vip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"
)

// An Address is one virtual address.
type Address struct {
	// Prefix is the address with the length of its subnet, 10.0.0.10/24. The
	// kernel gets it as a /32 or /128 whatever the length.
	Prefix netip.Prefix
	// Link is the interface. Empty: the one that has a subnet with the address.
	Link string
}

// String gives the address as the configuration writes it.
func (a Address) String() string {
	if a.Link == "" {
		return a.Prefix.String()
	}
	return a.Prefix.String() + " dev " + a.Link
}

// A Config says which addresses to hold and by which means.
type Config struct {
	Addresses []Address
	// Name is the cluster's. It is part of the name of the nftables tables, so
	// that two clusters can share a machine.
	Name string
	// Lease is the longest time for which the kernel is allowed to answer
	// without being told again: half the heartbeat timeout, or less. It is
	// renewed every quarter.
	Lease time.Duration
	// Guard makes the command that runs the guard; it must end in RunGuard. Nil
	// means this program again. The command gets its descriptor and its
	// environment from this package.
	Guard func() *exec.Cmd
	// Log gets what an operator should know. Nil: nothing is logged.
	Log *slog.Logger

	// fenceless does without nftables, as on a kernel that lacks them.
	fenceless bool
}

// A Want is what should be. The zero value wants nothing held.
type Want struct {
	// Hold says that the addresses should be on this node, until Until.
	Hold bool
	// Until is the end of the lease, on the monotonic clock. It is as good as
	// Hold being false from then on, so a holder gives a later one in time. It
	// may reach as far as it likes while Answer is false, for then nobody is
	// answered.
	Until time.Time
	// Answer says that the kernel shall answer ARP and neighbour solicitations,
	// and that the addresses are announced. False with Hold: packets to and from
	// the addresses pass, but nobody is told where they are. This is how a
	// holder hands over. Where the kernel lease is missing it is as good as
	// Hold being false.
	Answer bool
	// Term is the term that the lease belongs to. It goes to the guard.
	Term uint64
}

// A Port is what comes for an address from outside.
type Port struct {
	Addr netip.Addr
	UDP  bool   // or else TCP
	Port uint16 // 0: every port
}

// A State is what is, as far as this process knows.
type State struct {
	// Term is that of the last Want that was carried out, wholly or in part.
	Term uint64
	// Held: every address is in the kernel, and packets pass.
	Held bool
	// Answering: this node may answer for an address. It turns true before the
	// first answer is possible and false after the last one was.
	Answering bool
	// Clear: no address is left in the kernel, and none would pass.
	Clear bool
	// Since is when Held last became true.
	Since time.Time
	// Carrier: every interface involved is up and has a carrier.
	Carrier bool
	// Fences that stand at this moment, beside the lifetime of the addresses.
	Fences Fences
	// Readded counts addresses that somebody else had removed.
	Readded uint64
	// Lapsed counts kernel leases that ran out before their renewal although
	// the lease still stood: short silences of a busy node.
	Lapsed uint64
	// Repaired counts how often others had changed the nftables tables.
	Repaired uint64
	// GuardEnds counts guards that ended, or were found stuck, and were replaced.
	GuardEnds uint64
	// Losses counts how often the carrier went.
	Losses uint64
	// Announced counts gratuitous ARPs and neighbour advertisements.
	Announced uint64
	// Conflicts are other nodes that claimed an address while this one answered
	// for it; the newest last, at most 16.
	Conflicts []Conflict
	// Unsteady says for how long the addresses should not come here, because a
	// carrier has gone too often lately. They may where nobody else can have them.
	// Nil: the carrier is steady, or the addresses are here.
	Unsteady error
	// Err is what stands in the way of what is wanted. Nil: nothing.
	Err error
}

// Fences says which of the optional fences stand.
type Fences struct {
	NFT   bool // the kernel lease by nftables
	Guard bool // the guard process answers
}

// A Conflict is another node that claimed an address.
type Conflict struct {
	Addr        netip.Addr
	Link        string
	MAC         string
	First, Last time.Time
	Count       uint64
}

const (
	// lifetime is for how long the kernel keeps an address that nobody renews.
	lifetime = 10 * time.Second
	// renewal is how old an address gets before it is renewed.
	renewal = 2 * time.Second
	// period is the longest time between two looks at the kernel.
	period = 250 * time.Millisecond

	maxAddresses = 64
	maxConflicts = 16
	minLease     = 20 * time.Millisecond
	maxLease     = lifetime
)

// validate finds what is wrong with a Config before the kernel is asked.
func (c *Config) validate() error {
	var errs []error
	if len(c.Addresses) == 0 {
		errs = append(errs, errors.New("no address"))
	}
	if len(c.Addresses) > maxAddresses {
		errs = append(errs, fmt.Errorf("%d addresses, at most %d", len(c.Addresses), maxAddresses))
	}
	if c.Lease < minLease || c.Lease > maxLease {
		errs = append(errs, fmt.Errorf("kernel lease of %v: not between %v and %v", c.Lease, minLease, maxLease))
	}
	seen := map[netip.Addr]bool{}
	for _, a := range c.Addresses {
		ip := a.Prefix.Addr()
		switch {
		case !a.Prefix.IsValid():
			errs = append(errs, errors.New("an address without a value"))
			continue
		case ip.Is4In6(), ip.Zone() != "":
			errs = append(errs, fmt.Errorf("vip %v: write it without mapping and zone", a))
		case ip.IsUnspecified(), ip.IsLoopback(), ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			errs = append(errs, fmt.Errorf("vip %v: not an address of one machine", a))
		case ip.IsLinkLocalUnicast() && ip.Is6() && a.Link == "":
			errs = append(errs, fmt.Errorf("vip %v: every interface has this subnet; say dev INTERFACE", a))
		case seen[ip]:
			errs = append(errs, fmt.Errorf("vip %v: given twice", a))
		}
		seen[ip] = true
	}
	return errors.Join(errs...)
}

func (c *Config) logger() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// CapabilityError says which capability this process lacks for which addresses,
// and what it is needed for. Check and New return it, joined with others.
type CapabilityError struct{ Addresses, Capability, For string }

func (e *CapabilityError) Error() string {
	return fmt.Sprintf("vip %s: needs the capability %s %s: run as root, or let the service manager give it (AmbientCapabilities=%[2]s)",
		e.Addresses, e.Capability, e.For)
}

// tableName is the name of our nftables tables. Characters that nft's own
// language can not have in a name are replaced, and then a sum keeps two names
// apart that became alike.
func tableName(cluster string) string {
	if cluster == "" {
		return "pen"
	}
	const longest = 32
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, cluster)
	if plain == cluster && len(plain) <= longest {
		return "pen_" + plain
	}
	var sum uint32 = 2166136261 // FNV-1a
	for _, b := range []byte(cluster) {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return fmt.Sprintf("pen_%s_%08x", plain[:min(len(plain), longest)], sum)
}

// equalMAC is for the addresses of frames and links, which are nil on links
// without one.
func equalMAC(a, b net.HardwareAddr) bool { return len(a) > 0 && string(a) == string(b) }

// text is for errors that are compared, or are absent.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
