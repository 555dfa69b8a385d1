package daemon

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pen/cluster"
	"pen/vip"
)

// two stands for the cluster of two nodes and for the network.
type two struct {
	*world
	mu2    sync.Mutex // guards what follows
	seen   cluster.Sighting
	net    vip.Sight
	effort vip.Effort
	shut   bool // HoldAlone
	no     bool // it is refused
}

func (p *two) Sighting() cluster.Sighting {
	p.mu2.Lock()
	defer p.mu2.Unlock()
	return p.seen
}

func (p *two) HoldAlone(on bool) bool {
	p.mu2.Lock()
	defer p.mu2.Unlock()
	if on && p.no {
		return false
	}
	p.shut = on
	return true
}

func (p *two) closed() bool {
	p.mu2.Lock()
	defer p.mu2.Unlock()
	return p.shut
}

func (*two) SetAlone(cluster.Alone)   {}
func (*two) SetFalls(bool)            {}
func (*two) Leader() (string, uint64) { return "", 7 }

func (p *two) Do(e vip.Effort) {
	p.mu2.Lock()
	defer p.mu2.Unlock()
	p.effort = e
}

func (p *two) probing() bool {
	p.mu2.Lock()
	defer p.mu2.Unlock()
	return p.effort.Probe
}

func (p *two) Look() vip.Sight {
	p.mu2.Lock()
	defer p.mu2.Unlock()
	return p.net
}

func (p *two) change(f func()) {
	p.mu2.Lock()
	f()
	p.mu2.Unlock()
	p.world.set(p.world.lease)
}

// alongside runs a holder with fallback in a bubble until the test has done.
func alongside(t *testing.T, test func(p *two, f *fallback)) {
	synctest.Test(t, func(t *testing.T) {
		p := &two{world: newWorld(), seen: cluster.Sighting{Pair: true, Path: "gossip"}, net: vip.Sight{Gateway: true, Asked: "the gateway"}}
		p.world.state.Carrier = true
		log := slog.New(slog.DiscardHandler)
		f := newFallback(p, p, beat, log)
		f.state = func() vip.State {
			s := kernel{p.world}.State()
			s.Held = s.Answering
			return s
		}
		f.may, f.asked = func() bool { return true }, func() bool { return true }
		f.announce, f.assume = func() {}, func() {}
		h := &holder{
			leases: f, address: kernel{p.world}, traffic: p.world, log: log, heartbeat: beat,
			may: f.may, led: p.led, tell: p.became, follows: f.follows,
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { f.run(ctx) })
		all.Go(func() { h.run(ctx) })
		test(p, f)
		cancel()
		all.Wait()
	})
}

// lease is one of that term that lasts for d from now.
func leaseOf(term uint64, d time.Duration) cluster.Lease {
	return cluster.Lease{Valid: true, Current: true, Term: term, Until: time.Now().Add(d)}
}

const held = "serve\nholder 5\nwant hold true answer true"

func TestAHolderGoesOnWithoutAQuorumAndWithOneAgain(t *testing.T) {
	alongside(t, func(p *two, f *fallback) {
		p.set(leaseOf(5, time.Second))
		time.Sleep(20 * time.Second) // the lease has ended long ago
		if on, d, n := f.standing(); !on || d.Act != cluster.ActKeep || n != 1 || !p.closed() {
			t.Errorf("alone %t, %v, %d times, votes shut %t; want it to hold alone", on, d, n, p.closed())
		}
		p.set(leaseOf(8, time.Hour)) // this node was elected
		time.Sleep(time.Second)
		if on, _, _ := f.standing(); on || p.closed() {
			t.Errorf("alone %t, votes shut %t with a lease", on, p.closed())
		}
		if got := p.lines(); got != held {
			t.Errorf("got\n%s\nwant it to hold all the time, and nothing else", got)
		}
		p.world.mu.Lock()
		defer p.world.mu.Unlock()
		if p.want.Term != 8 {
			t.Errorf("holding in term %d, want 8", p.want.Term)
		}
	})
}

func TestAHolderWithoutAGatewayLetsGo(t *testing.T) {
	alongside(t, func(p *two, f *fallback) {
		p.set(leaseOf(5, time.Second))
		time.Sleep(5 * time.Second)
		p.change(func() { p.net.Gateway = false })
		time.Sleep(100 * time.Millisecond)
		if s := f.state(); !s.Clear {
			t.Error("the address is still there after 100 ms")
		}
		time.Sleep(time.Second)
		if on, d, _ := f.standing(); on || p.closed() {
			t.Errorf("alone %t, %v, votes shut %t", on, d, p.closed())
		}
	})
}

func TestVotesStayShutUntilTheAddressIsGone(t *testing.T) {
	alongside(t, func(p *two, f *fallback) {
		p.set(leaseOf(5, time.Second))
		time.Sleep(5 * time.Second)
		p.world.mu.Lock()
		p.stuck = true // the kernel does not let it go
		p.world.mu.Unlock()
		time.Sleep(5 * time.Millisecond) // what was under way is done
		p.change(func() { p.seen.Wanted = true })
		time.Sleep(700 * time.Millisecond)
		if on, _, _ := f.standing(); on || !p.closed() {
			t.Errorf("alone %t, votes shut %t while the address is there", on, p.closed())
		}
	})
}

func TestAHolderThatHandsOverDoesNotKeepTheAddress(t *testing.T) {
	alongside(t, func(p *two, f *fallback) {
		p.set(leaseOf(5, time.Hour))
		time.Sleep(time.Second)
		l := leaseOf(5, 100*time.Millisecond)
		l.Valid, l.Handing = false, true
		p.set(l)
		time.Sleep(300 * time.Millisecond)
		p.set(cluster.Lease{Term: 5})
		time.Sleep(2 * time.Second)
		if on, d, _ := f.standing(); on || p.closed() {
			t.Errorf("alone %t, %v, votes shut %t after a handover", on, d, p.closed())
		}
	})
}

func TestAChallengerTakesTheAddressAndTellsNobodyOfItsTerm(t *testing.T) {
	alongside(t, func(p *two, f *fallback) {
		p.change(func() { p.seen.Silence = 10 * time.Second })
		time.Sleep(time.Second)
		if on, d, _ := f.standing(); on || d.Act != cluster.ActProbe || !p.probing() {
			t.Errorf("alone %t, %v, probing %t; want it to ask first", on, d, p.probing())
		}
		p.change(func() { p.net.Free = true })
		time.Sleep(time.Second)
		if on, _, _ := f.standing(); !on || !p.closed() || f.own(7) {
			t.Errorf("alone %t, votes shut %t, of its own term %t", on, p.closed(), f.own(7))
		}
		if got, want := p.lines(), "serve\nholder 7\nwant hold true answer true"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestAHolderThatWasRefusedIsNoHolder(t *testing.T) {
	alongside(t, func(p *two, f *fallback) {
		p.change(func() { p.no = true }) // a vote has just left
		p.set(leaseOf(5, time.Second))
		time.Sleep(5 * time.Second)
		if on, _, _ := f.standing(); on || !f.state().Clear {
			t.Errorf("alone %t, clear %t although another may lead", on, f.state().Clear)
		}
	})
}
