package vip

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CheckTransparent tells why this process may not connect from addresses that are not
// its own.
func CheckTransparent() error {
	if len(heldCapabilities(unix.CAP_NET_RAW, unix.CAP_NET_ADMIN)) > 0 {
		return nil
	}
	return errors.New("this process has neither CAP_NET_RAW nor CAP_NET_ADMIN, and without one of them servers see this machine's address; start pen as root (with -u it keeps what it needs), or let systemd give it AmbientCapabilities=CAP_NET_RAW")
}

// DeliversElsewhere tells whether some rule has packets taken in here that are for
// addresses which are not: a route of type local for all addresses, in a table that
// a rule leads to.
func DeliversElsewhere(six bool) (bool, error) {
	family := unix.AF_INET
	if six {
		family = unix.AF_INET6
	}
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TYPE|netlink.RT_FILTER_TABLE)
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	rules, err := netlink.RuleList(family)
	if err != nil {
		return false, fmt.Errorf("list rules for routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones > 1 { // 0.0.0.0/1 and 128.0.0.0/1 are everybody, too
				continue
			}
		}
		for _, rule := range rules {
			if rule.Table == r.Table && r.Table != unix.RT_TABLE_LOCAL {
				return true, nil
			}
		}
	}
	return false, nil
}
