package state

import "slices"

// Merge returns operations that bring into have what changed from base to want.
// What is alike in those two stays in have as it is there, whatever that is; so
// changes that were made in both places meet. As Diff it leaves marks, tables
// and the seed alone. The operations fit have: nothing is removed that is not
// there.
func Merge(base, want, have *View) []Op {
	merged := &View{Global: have.Global, ACL: have.ACL, Named: mergeNamed(base, want, have)}
	for _, o := range Options() {
		if v := want.Global.Get(o); o.Global() && v != base.Global.Get(o) {
			options[o].set(target{Global: &merged.Global}, v)
		}
	}
	for i := range merged.ACL {
		if !slices.Equal(base.ACL[i].Entries, want.ACL[i].Entries) {
			merged.ACL[i] = want.ACL[i]
		}
	}
	for _, s := range have.Services {
		if s = mergeService(base.Service(s.Name), want.Service(s.Name), s); s != nil {
			merged.Services = append(merged.Services, s)
		}
	}
	for _, s := range want.Services {
		// One that somebody has removed comes back if it was changed since.
		if have.Service(s.Name) == nil && !sameService(base.Service(s.Name), s) {
			merged.Services = append(merged.Services, s)
		}
	}
	return Diff(have, merged)
}

func sameService(a, b *Service) bool { return a != nil && len(diffService(a, b)) == 0 }

// mergeService returns the service as it shall be, or nil for none.
func mergeService(base, want, have *Service) *Service {
	switch {
	case want == nil && base != nil:
		return nil
	case want == nil:
		return have
	case base == nil:
		base = &Service{Settings: Defaults()}
	}
	s := &Service{Name: have.Name, Settings: have.Settings, Servers: slices.Clone(have.Servers)}
	for _, o := range Options() {
		if v := want.Get(o); !o.Global() && v != base.Get(o) {
			options[o].set(target{Settings: &s.Settings}, v)
		}
	}
	// From the end, so that slots that go make the list shorter.
	for i := max(len(base.Servers), len(want.Servers)) - 1; i >= 0; i-- {
		merged := mergeServer(base.Server(i), want.Server(i), have.Server(i))
		switch {
		case merged != nil:
			s.Servers = append(s.Servers, make([]Server, max(0, i+1-len(s.Servers)))...)
			s.Servers[i] = *merged
		case i == len(s.Servers)-1:
			s.Servers = s.Servers[:i]
		case i < len(s.Servers):
			s.Servers[i] = Server{}
		}
	}
	s.Emergency = mergeServer(base.Emergency, want.Emergency, have.Emergency)
	s.Abuse = mergeServer(base.Abuse, want.Abuse, have.Abuse)
	return s
}

// mergeServer returns the slot as it shall be, or nil for none.
func mergeServer(base, want, have *Server) *Server {
	if want == nil {
		if base == nil {
			return have
		}
		return nil
	}
	changed := base == nil
	for _, f := range serverFields {
		changed = changed || f.bit != FieldMark && !f.same(base, want)
	}
	switch {
	case !changed:
		return have
	case have == nil || base == nil:
		return want
	}
	s := *have
	for _, f := range serverFields {
		if f.bit != FieldMark && !f.same(base, want) {
			f.set(&s, want)
		}
	}
	return &s
}
