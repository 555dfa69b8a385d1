package state

import "slices"

// Ops returns operations that make the settings of v out of those of New.
func Ops(v *View) []Op { return Diff(New().View(), v) }

// Diff returns operations that make the settings of one view into those of
// another: services, their options and servers, access lists and global
// options. Marks of servers, client tables and the seed are left alone.
func Diff(from, to *View) []Op {
	var ops []Op
	for _, o := range Options() {
		if v := to.Global.Get(o); o.Global() && v != from.Global.Get(o) {
			ops = append(ops, Set{Option: o, Value: v})
		}
	}
	for i := range to.ACL {
		ops = append(ops, diffACL(i, from.ACL[i].Entries, to.ACL[i].Entries)...)
	}
	ops = append(ops, diffNamed(from, to)...)
	for _, s := range from.Services {
		if to.Service(s.Name) == nil {
			ops = append(ops, RemoveService{s.Name})
		}
	}
	for _, s := range to.Services {
		was := from.Service(s.Name)
		if was == nil {
			was = &Service{Settings: Defaults()}
			ops = append(ops, AddService{s.Name})
		}
		ops = append(ops, diffService(was, s)...)
	}
	return ops
}

func diffACL(list int, from, to []ACLEntry) []Op {
	var ops []Op
	if len(from) > len(to) || !slices.Equal(from, to[:len(from)]) {
		ops = append(ops, ClearACL{list})
		from = nil
	}
	for _, e := range to[len(from):] {
		ops = append(ops, AppendACL{list, e})
	}
	return ops
}

func diffService(from, to *Service) []Op {
	var ops []Op
	for _, o := range Options() {
		v := to.Get(o)
		if o.Global() || v == from.Get(o) {
			continue
		}
		ops = append(ops, Set{to.Name, o, v})
	}
	for i := len(from.Servers) - 1; i >= len(to.Servers); i-- {
		ops = append(ops, RemoveServer{to.Name, i})
	}
	for i := range to.Servers {
		ops = append(ops, diffServer(to.Name, i, from.Server(i), &to.Servers[i])...)
	}
	for _, i := range []int{Emergency, Abuse} {
		ops = append(ops, diffServer(to.Name, i, from.Server(i), to.Server(i))...)
	}
	return ops
}

func diffServer(service string, i int, from, to *Server) []Op {
	switch {
	case from == nil && to == nil:
		return nil
	case to == nil:
		return []Op{RemoveServer{service, i}}
	}
	made := from == nil
	if made {
		from = &Server{}
	}
	o := SetServer{Service: service, Index: i}
	for _, f := range serverFields {
		if f.bit != FieldMark && !f.same(from, to) {
			o.Fields |= f.bit
			f.set(&o.Server, to)
		}
	}
	if o.Fields == 0 && !made {
		return nil
	}
	return []Op{o}
}
