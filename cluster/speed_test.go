package cluster

import (
	"errors"
	"net"
	"testing"
	"time"
)

// Rounds: at least so many, as a median of a few says little.
const speedRounds = 25

// obey does what a daemon does whose holder lets go at once.
func (c *testCluster) obey(i int) {
	n := c.nodes[i].Node
	go func() {
		for {
			changed := n.Changed()
			if l := n.Lease(); l.Handing {
				n.Released(l.Term)
			}
			select {
			case <-changed:
			case <-n.down:
				return
			}
		}
	}()
}

// lease waits for a lease in a later term, without a pause between looks, and
// tells when it was there, and when its node had caught up.
func (c *testCluster) lease(after uint64) (leased, current time.Time) {
	won := make(chan [2]time.Time, len(c.nodes))
	done := make(chan struct{})
	defer close(done)
	for _, n := range c.nodes {
		if n == nil {
			continue
		}
		go func() {
			var leased time.Time
			for {
				changed := n.Changed()
				l := n.Lease()
				if l.Valid && l.Term > after && leased.IsZero() {
					leased = time.Now()
				}
				if l.Valid && l.Term > after && l.Current {
					won <- [2]time.Time{leased, time.Now()}
					return
				}
				select {
				case <-changed:
				case <-done:
					return
				}
			}
		}()
	}
	select {
	case at := <-won:
		return at[0], at[1]
	case <-time.After(10 * time.Second):
		c.t.Fatal("no lease")
		return leased, current
	}
}

// fresh starts all nodes anew: nobody has led yet, so that nothing is warm from
// an earlier round.
func (c *testCluster) fresh() {
	for i := range c.nodes {
		c.kill(i)
	}
	for i := range c.nodes {
		c.start(i)
		c.obey(i)
	}
	c.holder()
	await(c.t, "three voters", 10*time.Second, c.members(3))
	await(c.t, "connections for the guards", 10*time.Second, func() bool {
		for _, n := range c.nodes {
			if len(n.ReleaseConns()) != 2 {
				return false
			}
		}
		return true
	})
	time.Sleep(600 * ms) // the notes go round
}

func report(b *testing.B, what string, took []time.Duration) {
	us := func(q float64) float64 { return float64(quantile(took, q).Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(us(.5), what+"-p50-ms")
	b.ReportMetric(us(.95), what+"-p95-ms")
	b.ReportMetric(us(1), what+"-max-ms")
	b.Logf("%s: %d rounds, p50 %.1f, p95 %.1f, max %.1f ms", what, len(took), us(.5), us(.95), us(1))
}

// die takes a node away as the kernel does when its process is killed: all its
// sockets at once, except those that its guard has inherited.
func (c *testCluster) die(i int) (guard []net.Conn) {
	n := c.nodes[i]
	for _, r := range n.ReleaseConns() {
		f, err := r.Conn.(*net.TCPConn).File()
		if err != nil {
			c.t.Fatal(err)
		}
		own, err := net.FileConn(f)
		f.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		guard = append(guard, own)
	}
	n.wire.shut()
	n.stop()
	c.nodes[i] = nil
	return guard
}

// BenchmarkRelease: the holder's process is gone, its guard says that the address
// is free. How long until another has a lease?
func BenchmarkRelease(b *testing.B) {
	c := newTestCluster(b, 3)
	var leased, current []time.Duration
	for range max(b.N, speedRounds) {
		c.fresh()
		h := c.holder()
		n := c.nodes[h]
		term := n.Lease().Term
		word := n.ReleaseMessage(term)
		guard := c.die(h)
		start := time.Now()
		for _, g := range guard {
			if _, err := g.Write(word); err != nil {
				b.Fatal(err)
			}
		}
		l, cur := c.lease(term)
		leased, current = append(leased, l.Sub(start)), append(current, cur.Sub(start))
		for _, g := range guard {
			g.Close()
		}
		if err := <-n.done; err != nil && !errors.Is(err, net.ErrClosed) {
			b.Fatal(err)
		}
		n.Close()
	}
	report(b, "lease", leased)
	report(b, "current", current)
}

// BenchmarkTransfer: from the request to the lease of the other, the holder lets
// go at once.
func BenchmarkTransfer(b *testing.B) {
	c := newTestCluster(b, 3)
	var leased, current []time.Duration
	for range max(b.N, speedRounds) {
		c.fresh()
		h := c.holder()
		term := c.nodes[h].Lease().Term
		start := time.Now()
		if err := c.nodes[h].Transfer(b.Context(), ""); err != nil {
			b.Fatal(err)
		}
		l, cur := c.lease(term)
		leased, current = append(leased, l.Sub(start)), append(current, cur.Sub(start))
	}
	report(b, "lease", leased)
	report(b, "current", current)
}
