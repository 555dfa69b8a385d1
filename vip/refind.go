package vip

import "slices"

// refind finds the interfaces of the targets again. One that was named is known
// by its name, whatever now has it. One that was found by the subnet stays the
// same also under a new name; if it is gone, the subnet is searched again, and a
// new one of the same name will do. What is not found stays as it is.
//
// A subnet that comes up elsewhere moves nothing: it may be a container's.
func refind(addresses []Address, targets []target, links []link, have []present) []target {
	next := slices.Clone(targets)
	for n := range next {
		t := &next[n]
		byIndex := slices.IndexFunc(links, func(l link) bool { return l.Index == t.index })
		if i := slices.IndexFunc(addresses, func(a Address) bool { return a.Prefix.Addr() == t.Addr }); i >= 0 && addresses[i].Link == "" {
			if byIndex >= 0 {
				t.Link = links[byIndex].Name
				continue
			}
			if found, err := subnetOf(addresses[i], links, have); err == nil {
				t.Link = found
			}
		}
		if byName := slices.IndexFunc(links, func(l link) bool { return l.Name == t.Link }); byName >= 0 {
			t.index = links[byName].Index
		}
	}
	return next
}
