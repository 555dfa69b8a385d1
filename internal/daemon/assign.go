package daemon

import (
	"net/netip"
	"slices"

	"pen/internal/config"
	"pen/state"
)

// slot is a server that is given by a name.
type slot struct {
	index int
	*state.Server
}

// namedSlots are the servers of s that are given by names.
func namedSlots(s *state.Service) (all []slot) {
	add := func(i int) {
		if v := s.Server(i); v != nil && config.Named(v.Address) {
			all = append(all, slot{i, v})
		}
	}
	for i := range s.Servers {
		add(i)
	}
	add(state.Emergency)
	add(state.Abuse)
	return all
}

// groups are the slots by name and port, in order. The emergency and the abuse
// server may be where others are.
func groups(slots []slot) (all [][]slot) {
	type key struct {
		host  string
		port  uint16
		index int // of one that stands alone
	}
	at := map[key]int{}
	for _, sl := range slots {
		k := key{sl.Host, sl.Port, min(sl.index, 0)}
		if _, known := at[k]; !known {
			at[k] = len(all)
			all = append(all, nil)
		}
		all[at[k]] = append(all[at[k]], sl)
	}
	return all
}

// assign says where the servers of one name and port are, by the addresses that it
// has; there is one at least. Who has one of them stays with it; several servers get
// different ones, as long as there are enough. What is new is taken in the order of
// the addresses, those of the kind that the server has before the others: so the
// order of an answer, which servers of names like to vary, says nothing.
func assign(group []slot, addrs []netip.Addr) []netip.Addr {
	to := make([]netip.Addr, len(group))
	taken := map[netip.Addr]bool{}
	for i, sl := range group {
		if slices.Contains(addrs, sl.IP) && !taken[sl.IP] {
			to[i], taken[sl.IP] = sl.IP, true
		}
	}
	for i, sl := range group {
		if to[i].IsValid() {
			continue
		}
		order := slices.SortedFunc(slices.Values(addrs), func(a, b netip.Addr) int {
			if mine := sl.IP.Is4(); a.Is4() != b.Is4() && sl.IP.IsValid() {
				if a.Is4() == mine {
					return -1
				}
				return 1
			}
			return a.Compare(b)
		})
		free := slices.IndexFunc(order, func(a netip.Addr) bool { return !taken[a] })
		switch {
		case free >= 0:
			to[i], taken[order[free]] = order[free], true
		case slices.Contains(addrs, sl.IP):
			to[i] = sl.IP
		default:
			to[i] = order[0]
		}
	}
	return to
}
