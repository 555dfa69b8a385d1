package cluster

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// frozen is a network on which an address can fall silent for changes, as that of
// a process that is stopped does: the kernel still takes connections.
type frozen struct {
	streams
	at  *atomic.Pointer[netip.AddrPort]
	how *atomic.Int32
}

const (
	frozenBefore = iota // it never says hello
	frozenAfter         // it takes what it is told, and never answers
)

func (f frozen) Dial(ctx context.Context, to netip.AddrPort, p Purpose) (Stream, error) {
	at := f.at.Load()
	if at == nil || *at != to || p != PurposeForward {
		return f.streams.Dial(ctx, to, p)
	}
	if f.how.Load() == frozenBefore {
		<-ctx.Done()
		return Stream{}, ctx.Err()
	}
	s, err := f.streams.Dial(ctx, to, p)
	s.Conn = &muteConn{Conn: s.Conn, closed: make(chan struct{})}
	return s, err
}

// muteConn never has anything to read.
type muteConn struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (c *muteConn) Read([]byte) (int, error) { <-c.closed; return 0, net.ErrClosed }

func (c *muteConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestFrozenLeader: a change is on its way to a leader that does not answer when
// another takes its place. It goes there at once, and happens once.
func TestFrozenLeader(t *testing.T) {
	for name, how := range map[string]int32{"no hello": frozenBefore, "no answer": frozenAfter} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTestCluster(t, 3)
			f := frozen{at: &atomic.Pointer[netip.AddrPort]{}, how: &atomic.Int32{}}
			c.between = func(_ int, s streams) streams { return frozen{s, f.at, f.how} }
			for i := range 3 {
				c.start(i)
			}
			h := c.holder()
			await(t, "three voters", 10*time.Second, c.members(3))
			other := c.nodes[(h+1)%3]
			await(t, "a follower that knows who leads", time.Second, func() bool { id, _ := other.Leader(); return id == c.nodes[h].ID() })
			f.how.Store(how)
			f.at.Store(&c.peers[h].Addr)
			done := make(chan error, 1)
			start := time.Now()
			go func() {
				_, err := other.Propose(t.Context(), permit(1))
				done <- err
			}()
			time.Sleep(100 * ms)
			c.kill(h)
			c.holder()
			lease := time.Since(start)
			if err := <-done; err != nil {
				t.Fatalf("after %v, with a new lease after %v: %v", time.Since(start), lease, err)
			}
			if took := time.Since(start); took > lease+300*ms {
				t.Errorf("took %v, the new lease was there after %v", took, lease)
			}
			c.propose((h+1)%3, 2)
			if got := len(entries(other)); got != 2 {
				t.Errorf("%d entries, want each change once", got)
			}
		})
	}
}
