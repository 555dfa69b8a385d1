package cluster

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// wipe takes the disk of a node away, which does not run. It is another node then.
func (s *sim) wipe(i int) {
	s.wiped++
	s.stores[i] = raft.NewInmemStore()
	if !s.w.same {
		s.ids[i][1]++
	}
}

// spare tells whether a disk may be lost now: all others run and vote. Who loses a
// majority of the disks has lost the cluster.
func (s *sim) spare(i int) bool {
	for j, n := range s.nodes {
		if j == i {
			continue
		}
		if n == nil || n.core.raft.State() == raft.Shutdown {
			return false
		}
		all := voters(n.core.raft)
		for k := range simNodes {
			if k != i && !slices.Contains(all, s.ids[k].String()) {
				return false
			}
		}
	}
	return true
}

// members lets a leader make one change of the members: who is there no more goes,
// who is new votes. Now and then one goes that is there.
func (s *sim) members(leader int, random bool, which int) {
	r := s.nodes[leader].core.raft
	servers := r.GetConfiguration().Configuration().Servers
	in := func(id string) bool {
		return slices.ContainsFunc(servers, func(v raft.Server) bool { return string(v.ID) == id })
	}
	// It ends with the node at the latest, as its main loop does.
	do := func(f func() raft.IndexFuture) {
		s.joined++
		s.ending.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = outcome(ctx, nil, f())
		})
	}
	if random && which != leader && len(servers) == simNodes {
		id := raft.ServerID(s.ids[which].String())
		do(func() raft.IndexFuture { return r.RemoveServer(id, 0, time.Second) })
		return
	}
	for _, v := range servers {
		if !slices.ContainsFunc(s.ids[:], func(id ID) bool { return id.String() == string(v.ID) }) {
			do(func() raft.IndexFuture { return r.RemoveServer(v.ID, 0, time.Second) })
			return
		}
	}
	for i := range simNodes {
		if id := s.ids[i].String(); !in(id) && s.nodes[i] != nil {
			do(func() raft.IndexFuture {
				return r.AddVoter(raft.ServerID(id), raft.ServerAddress(memAddr(i).String()), 0, time.Second)
			})
			return
		}
	}
}

// TestSimPromises: the other things that the proof speaks of, under all faults. The
// first of each pair must not overlap. The second breaks what the first keeps.
func TestSimPromises(t *testing.T) {
	apart := []time.Duration{400 * ms, 200 * ms, 100 * ms}
	for _, w := range []struct {
		weather
		breaks bool
	}{
		{weather{name: "slow release", signal: "released", lets: 90 * ms}, false},
		{weather{name: "released before the address is gone", signal: "released", lets: 90 * ms, early: true}, true},
		{weather{name: "unequal timings", timings: apart}, false},
		{weather{name: "a lease by the own timing", timings: apart, tune: func(r *rules) { r.length = r.hb / 2 }}, true},
		{weather{name: "wiped disks and changes of the members", wipes: true, storm: 300}, false},
		{weather{name: "wiped disks, taken for the nodes they were, not silent", wipes: true, same: true, awake: true, storm: 100, tune: func(r *rules) { r.length = r.hb }}, true},
	} {
		w.hb, w.faults, w.dur = 200*ms, true, 2*time.Minute
		if w.breaks {
			w.dur *= 2
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for k := range 5 {
				a := trial(t, w.weather)
				switch {
				case !w.breaks && a.overlap > 0:
					t.Errorf("two leases at once for %v", a.overlap)
				case !w.breaks && quantile(a.heal, 1) > 3*time.Second:
					t.Errorf("no lease %v after everything was well", quantile(a.heal, 1))
				case w.wipes && !w.breaks && (a.wiped < 10 || a.joined < 10):
					t.Errorf("%d disks wiped, %d changes of members", a.wiped, a.joined)
				case w.breaks && a.overlap == 0 && k < 4:
					continue
				case w.breaks && a.overlap == 0:
					t.Error("no overlap seen")
				}
				return
			}
		})
	}
}
