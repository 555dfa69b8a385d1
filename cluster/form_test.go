package cluster

import (
	"context"
	"errors"
	"log/slog"
	"math/rand"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestNextStep(t *testing.T) {
	me := seen{member: member{Node: ID{1}}, place: 1}
	fresh := func(node byte, place int) seen { return seen{member: member{Node: ID{node}}, place: place} }
	part := fresh(9, 2)
	part.Formation = ID{7}
	brings := fresh(3, 2)
	brings.State = true
	own := papers{Node: ID{1}, Promise: &promise{ID{5}, ID{1}, nil}}
	theirs := papers{Node: ID{1}, Promise: &promise{ID{5}, ID{2}, nil}}
	none := papers{Node: ID{1}}
	for _, c := range []struct {
		name   string
		p      papers
		others []seen
		want   step
	}{
		{"alone of three", none, nil, stepWait},
		{"one is part of a cluster", none, []seen{part}, stepJoin},
		{"one is part of a cluster, others are not", none, []seen{fresh(2, 0), part}, stepJoin},
		{"also when this node has promised", theirs, []seen{part}, stepJoin},
		{"also when this node has proposed", own, []seen{part}, stepJoin},
		{"first of a majority", none, []seen{fresh(3, 2)}, stepPropose},
		{"not the first", none, []seen{fresh(2, 0)}, stepWait},
		{"not the first, but another brings a state", none, []seen{fresh(2, 0), brings}, stepWait},
		{"has promised", theirs, []seen{fresh(3, 2)}, stepWait},
		{"has begun to propose", own, nil, stepPropose},
	} {
		if got, _ := next(me, c.p, c.others, 3); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	bringer := me
	bringer.State = true
	if got, _ := next(bringer, none, []seen{fresh(2, 0)}, 3); got != stepPropose {
		t.Errorf("who brings a state does not propose: %d", got)
	}
}

// TestNeverTwoClusters lets nodes form through cuts and restarts. Whatever
// happens, all that are part of a cluster are part of one.
func TestNeverTwoClusters(t *testing.T) {
	for seed := range int64(60) {
		for _, n := range []int{2, 3, 5} {
			synctest.Test(t, func(t *testing.T) { formThroughFaults(t, seed, n) })
		}
	}
}

func formThroughFaults(t *testing.T, seed int64, n int) {
	net := newMemNet(seed)
	rng := rand.New(rand.NewSource(seed + 1000))
	var peers []netip.AddrPort
	for i := range n {
		peers = append(peers, memAddr(i))
	}
	kept := make([]papers, n)
	lives := make([]func(), n)
	var mu sync.Mutex
	founders := map[ID]int{}
	start := func(i int) {
		if kept[i].Node.IsZero() {
			kept[i].Node = ID{byte(i + 1)}
		}
		host := net.host(i, Hello{Node: kept[i].Node, Boot: NewID()})
		save := func(p papers) error {
			mu.Lock()
			defer mu.Unlock()
			if host.dead {
				return errors.New("dead")
			}
			kept[i] = p
			return nil
		}
		mu.Lock()
		p := kept[i]
		mu.Unlock()
		f := newFormer(memAddr(i), peers, host, p, save, 100*ms, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() { f.serve(ctx) })
		all.Go(func() {
			if founds, err := f.run(ctx); err == nil && founds {
				mu.Lock()
				founders[f.now().Formation]++
				mu.Unlock()
			}
		})
		lives[i] = func() { mu.Lock(); host.vanish(rng.Intn(2) == 0); mu.Unlock(); cancel(); all.Wait() }
	}
	net.slow = 30
	for i := range n {
		for j := range n {
			net.cut[[2]int{i, j}] = rng.Intn(2) == 0
		}
	}
	for i := range n {
		start(i)
	}
	for range 60 {
		time.Sleep(time.Duration(rng.Intn(200)) * ms)
		i, j := rng.Intn(n), rng.Intn(n)
		switch rng.Intn(3) {
		case 0:
			if lives[i] == nil {
				start(i)
			}
		case 1:
			if lives[i] != nil && rng.Intn(3) == 0 {
				lives[i]()
				lives[i] = nil
			}
		case 2:
			net.mu.Lock()
			net.cut[[2]int{i, j}] = !net.cut[[2]int{i, j}]
			net.mu.Unlock()
		}
	}
	net.mu.Lock()
	clear(net.cut)
	net.mu.Unlock()
	for i := range n {
		if lives[i] == nil {
			start(i)
		}
	}
	time.Sleep(20 * time.Second)
	mu.Lock()
	formations := map[ID]bool{}
	for i := range n {
		formations[kept[i].Formation] = true
	}
	if len(formations) != 1 || formations[ID{}] {
		t.Errorf("seed %d, %d nodes: after all is well they are part of %d clusters: %v", seed, n, len(formations), kept)
	}
	mu.Unlock()
	for i := range n {
		lives[i]()
	}
	time.Sleep(10 * time.Second)
}
