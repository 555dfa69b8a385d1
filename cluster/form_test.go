package cluster

import (
	"context"
	"errors"
	"log/slog"
	"math/rand"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"pen/state"
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
	wait := time.Duration(rng.Intn(3)) * 300 * ms // the whole of it would leave little to go wrong
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
		f.wait = wait
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

// withState gives a node the state of a single node, with one entry.
func (c *testCluster) withState(i, what int) {
	c.t.Helper()
	s, err := OpenSolo(c.path(i), slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := s.Propose(c.t.Context(), permit(what)); err != nil {
		c.t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		c.t.Fatal(err)
	}
}

// TestStateArrivesLast: two nodes without a state are ready before the one that
// has one. They wait for it.
func TestStateArrivesLast(t *testing.T) {
	c := newTestCluster(t, 3)
	c.withState(2, 7)
	c.start(0)
	c.start(1)
	time.Sleep(everybodyWait / 2) // they have long met
	c.start(2)
	await(t, "the state of the single node everywhere", 10*time.Second, func() bool {
		for _, n := range c.nodes {
			if len(entries(n)) != 1 {
				return false
			}
		}
		return true
	})
}

// TestStateComesTooLate: a node that brings a state does not lose it to a cluster
// that was formed without. It says what can be done, and both ways work.
func TestStateComesTooLate(t *testing.T) {
	for _, way := range []string{"without it", "with it"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := newTestCluster(t, 3)
			c.withState(2, 7)
			c.start(0)
			c.start(1)
			start := time.Now()
			<-c.nodes[0].Formed()
			if took := time.Since(start); took < everybodyWait {
				t.Errorf("two of three formed a cluster after %v", took)
			}
			c.propose(c.holder(), 8)
			n := c.start(2)
			var err error
			select {
			case err = <-n.done:
			case <-time.After(10 * time.Second):
			}
			if err == nil {
				t.Fatal("the state was dropped without a word")
			}
			for _, want := range []string{c.path(2), "1 acl entries", "*.log", "*.snap", c.peers[0].Addr.Addr().String(), "cluster"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			n.Close()
			c.nodes[2] = nil
			kept, _ := filepath.Glob(filepath.Join(c.path(2), "*.log"))
			if len(kept) == 0 {
				t.Fatal("the state was deleted")
			}
			want := permit(8)
			if way == "without it" {
				for _, f := range kept {
					if err := os.Remove(f); err != nil {
						t.Fatal(err)
					}
				}
			} else {
				want = permit(7)
				for i := range 2 {
					c.kill(i)
					if err := os.RemoveAll(filepath.Join(c.path(i), "cluster")); err != nil {
						t.Fatal(err)
					}
				}
				c.start(0)
				c.start(1)
			}
			c.start(2)
			await(t, "one state everywhere", 15*time.Second, func() bool {
				for _, n := range c.nodes {
					if e := entries(n); len(e) != 1 || e[0].Addr != want.Ops[0].(state.AppendACL).Entry.Addr {
						return false
					}
				}
				return true
			})
		})
	}
}

// TestStateAfterCrash: the founder dies between the beginning of the cluster and
// the moment at which its state is the cluster's.
func TestStateAfterCrash(t *testing.T) {
	c := newTestCluster(t, 1)
	c.withState(0, 7)
	a, err := openArchive(filepath.Join(c.path(0), "cluster"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.path(0), "cluster", logDir)
	log, err := openWAL(dir, newHealth(dir, quiet()), hclog.NewNullLogger()) // it is there before the papers say so
	must(t, err)
	must(t, log.Close())
	p := a.papers
	self := member{p.Node, c.peers[0].Addr}
	f := newFormer(self.Addr, []netip.AddrPort{self.Addr}, nil, p, a.save, 0, slog.New(slog.DiscardHandler))
	f.brings = &single{}
	if err := f.propose(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := f.keep(func(p *papers) { p.Heartbeat = c.hb }); err != nil {
		t.Fatal(err)
	}
	a.close()
	c.start(0)
	await(t, "the state of the single node", 10*time.Second, func() bool { return len(entries(c.nodes[0])) == 1 })
	if !c.nodes[0].Brought() || c.nodes[0].Fresh() {
		t.Error("the node does not say that it brought its state")
	}
	await(t, "papers that say so", 2*time.Second, func() bool { return !c.nodes[0].former.now().Brings })
	c.kill(0)
	c.start(0)
	if c.nodes[0].bring != nil {
		t.Error("the state of the single node is brought again")
	}
}
