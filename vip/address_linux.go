package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ifaProto is IFA_PROTO, which the netlink package does not know. That is why
// addresses are read and written by messages of our own.
const ifaProto = 11

// dumps is how often a dump is repeated that something interrupted.
const dumps = 3

// readLinks lists the interfaces.
func readLinks() ([]link, error) {
	var all []netlink.Link
	var err error
	for range dumps {
		if all, err = netlink.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	links := make([]link, 0, len(all))
	for _, l := range all {
		a := l.Attrs()
		links = append(links, link{
			Index:    a.Index,
			Name:     a.Name,
			MAC:      a.HardwareAddr,
			Ethernet: a.EncapType == "ether" && len(a.HardwareAddr) == 6 && a.RawFlags&unix.IFF_NOARP == 0,
			Up:       a.RawFlags&unix.IFF_UP != 0,
			Carrier:  a.RawFlags&unix.IFF_LOWER_UP != 0,
		})
	}
	return links, nil
}

// readAddresses lists the addresses of all interfaces.
func readAddresses() ([]present, error) {
	var err error
	for range dumps {
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
		var messages [][]byte
		messages, err = req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			break
		}
		have := make([]present, 0, len(messages))
		for _, m := range messages {
			if p, ok := parsePresent(m); ok {
				have = append(have, p)
			}
		}
		return have, nil
	}
	return nil, fmt.Errorf("list addresses: %w", err)
}

func parsePresent(m []byte) (present, bool) {
	if len(m) < unix.SizeofIfAddrmsg {
		return present{}, false
	}
	head := nl.DeserializeIfAddrmsg(m)
	attributes, err := nl.ParseRouteAttr(m[head.Len():])
	if err != nil {
		return present{}, false
	}
	p := present{Link: int(head.Index), Valid: forever, Preferred: forever}
	var local, address netip.Addr
	for _, a := range attributes {
		v := a.Value
		switch {
		case a.Attr.Type == unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case a.Attr.Type == unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(v)
		case a.Attr.Type == unix.IFA_LABEL:
			p.Label = unix.ByteSliceToString(v)
		case a.Attr.Type == ifaProto && len(v) >= 1:
			p.Proto = v[0]
		case a.Attr.Type == unix.IFA_CACHEINFO && len(v) >= 8:
			p.Preferred, p.Valid = binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[4:])
		}
	}
	// With a peer, IFA_ADDRESS is the other end.
	if !local.IsValid() {
		local = address
	}
	p.Prefix = netip.PrefixFrom(local, int(head.Prefixlen))
	return p, p.Prefix.IsValid()
}

// putAddress adds the address for its lifetime, or renews it. It is deprecated
// from the start, so that the machine's own connections do not come from it.
func putAddress(to placed) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	addAddress(req, to.Addr, to.Link.Index, to.Addr.BitLen(), unix.IFA_F_NODAD)
	if label := labelOf(to.Link.Name); label != "" && to.Addr.Is4() {
		req.AddData(nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(label)))
	}
	req.AddData(nl.NewRtAttr(ifaProto, []byte{proto}))
	info := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: uint32(lifetime / time.Second)}}
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, info.Serialize()))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("add %v to %s: %w", to.Addr, to.Link.Name, err)
	}
	return nil
}

// dropAddress deletes the address. One that is gone already is no error.
func dropAddress(p present) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELADDR, unix.NLM_F_ACK)
	addAddress(req, p.Prefix.Addr(), p.Link, p.Prefix.Bits(), 0)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err == nil || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("delete %v: %w", p.Prefix.Addr(), err)
}

func addAddress(req *nl.NetlinkRequest, addr netip.Addr, index, bits int, flags uint8) {
	head := nl.NewIfAddrmsg(unix.AF_INET)
	if addr.Is6() {
		head.Family = unix.AF_INET6
	} else {
		flags = 0 // IPv4 has no duplicate address detection
	}
	head.Prefixlen, head.Index, head.Flags = uint8(bits), uint32(index), flags
	req.AddData(head)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, addr.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, addr.AsSlice()))
}

// sweep removes the addresses that a process of ours has left. Marks alone
// do not say whose they are: another cluster on this machine has the same, so
// only what is in addrs counts. The rest of an older configuration ends with its
// lifetime.
func sweep(addrs []netip.Addr) (int, error) {
	have, err := readAddresses()
	if err != nil {
		return 0, err
	}
	targets := make([]target, len(addrs))
	for i, a := range addrs {
		targets[i].Addr = a
	}
	var errs []error
	gone := 0
	for _, p := range decide(targets, nil, have, false).Remove {
		if err := dropAddress(p); err != nil {
			errs = append(errs, err)
			continue
		}
		gone++
	}
	return gone, errors.Join(errs...)
}
