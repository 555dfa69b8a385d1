package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"pen/state"
	"pen/vip"
)

// opaque tells what stands in the way of servers that are to see their clients'
// addresses: the right to connect from those, and the way back for the answers. What the
// servers themselves have to do, send their answers to this machine, can not be seen
// from here.
func opaque(s *state.Service) (all []error) {
	if err := vip.CheckTransparent(); err != nil {
		all = append(all, err)
	}
	for _, six := range []bool{false, true} {
		if !slices.ContainsFunc(s.Servers, func(v state.Server) bool { return v.Usable() && !v.Path() && v.IP.Is6() == six }) {
			continue
		}
		there, err := vip.DeliversElsewhere(six)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
		case err != nil:
			all = append(all, err)
		case !there:
			all = append(all, fmt.Errorf("the servers' answers are for the clients and have to be taken in here on their way, and no rule does that for %s: %s; and the servers must send them through this machine: ip %sroute replace default via THIS-MACHINE",
				family(six), recipe(six), familyFlag(six)))
		}
	}
	return all
}

func family(six bool) string {
	if six {
		return "IPv6"
	}
	return "IPv4"
}

func familyFlag(six bool) string {
	if six {
		return "-6 "
	}
	return ""
}

// recipe has the commands that take in what is for connections of this machine,
// whatever the address, and leave other packets alone.
func recipe(six bool) string {
	all := "0.0.0.0/0"
	if six {
		all = "::/0"
	}
	return strings.Join([]string{
		"nft add table inet transparent",
		"nft add chain inet transparent prerouting '{ type filter hook prerouting priority mangle; }'",
		"nft add rule inet transparent prerouting meta l4proto '{ tcp, udp }' socket transparent 1 meta mark set 1",
		"ip " + familyFlag(six) + "rule add fwmark 1 lookup 100",
		"ip " + familyFlag(six) + "route add local " + all + " dev lo table 100",
	}, "; ")
}
