package cluster

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sickDisk is a disk that a test makes ill.
type sickDisk struct {
	mu   sync.Mutex
	err  error         // what every step says
	wait chan struct{} // what every step waits for
}

func (d *sickDisk) under(_, _ string, do func() error) error {
	d.mu.Lock()
	err, wait := d.err, d.wait
	d.mu.Unlock()
	if wait != nil {
		<-wait
	}
	if err != nil {
		return err
	}
	return do()
}

// stall lets nothing through until heal.
func (d *sickDisk) stall() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wait = make(chan struct{})
}

func (d *sickDisk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *sickDisk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wait != nil {
		close(d.wait)
	}
	d.wait, d.err = nil, nil
}

// TestDiskOfTheHolder: the holder's disk stalls, or takes nothing. After two seconds
// another node has the lease, never two at once, and changes are agreed on; when the
// disk works again the node follows by itself.
func TestDiskOfTheHolder(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*sickDisk)
		want string
	}{
		"stalled":   {(*sickDisk).stall, "disk: a "},
		"full":      {func(d *sickDisk) { d.fail(syscall.ENOSPC) }, "disk full: "},
		"read-only": {func(d *sickDisk) { d.fail(syscall.EROFS) }, "disk read-only: "},
	} {
		t.Run(name, func(t *testing.T) {
			testDiskOfTheHolder(t, c.harm, c.want)
		})
	}
}

func testDiskOfTheHolder(t *testing.T, harm func(*sickDisk), want string) {
	disks := [3]*sickDisk{{}, {}, {}}
	c := newTestCluster(t, 3)
	c.opened = func(i int, n *Node) { n.health.under = disks[i].under }
	for i := range 3 {
		c.start(i)
	}
	old := c.holder()
	await(t, "three voters", 10*time.Second, c.members(3))
	c.propose(old, 1)
	watching, unwatch := context.WithCancel(t.Context())
	var doubles int
	var watch sync.WaitGroup
	watch.Go(func() {
		for watching.Err() == nil {
			leases := 0
			for _, n := range c.nodes {
				if n.Lease().Valid {
					leases++
				}
			}
			if leases > 1 {
				doubles++
			}
			time.Sleep(ms)
		}
	})
	begin := time.Now()
	harm(disks[old])
	var next int
	await(t, "another holder", 10*time.Second, func() bool {
		for i, n := range c.nodes {
			if i != old && n.Lease().Valid {
				next = i
				return true
			}
		}
		return false
	})
	// The probe comes two seconds after the last write at most.
	if took := time.Since(begin); took < diskPatience-100*ms || took > diskPatience+2*diskProbe {
		t.Errorf("another holder after %v", took)
	}
	c.propose(next, 2)
	self := func() MemberStatus {
		for _, m := range c.nodes[next].Status().Members {
			if m.ID == c.nodes[old].former.now().Node {
				return m
			}
		}
		return MemberStatus{}
	}
	defer func() {
		if t.Failed() {
			s := c.nodes[next].Status()
			t.Logf("the old holder: %+v\nthe last move: %+v", self(), s.LastMove)
		}
	}()
	await(t, "the others know why", 5*time.Second, func() bool { m := self(); return !m.Eligible && strings.HasPrefix(m.Why, want) })
	if err := c.nodes[old].DiskFault(); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("it says of itself %v, want %q", err, want)
	}
	disks[old].heal()
	await(t, "it follows", 5*time.Second, func() bool { return len(entries(c.nodes[old])) == 2 && self().Eligible })
	await(t, "the new holder still has it", 10*time.Second, func() bool { return c.nodes[next].Lease().Valid })
	unwatch()
	watch.Wait()
	if doubles > 0 {
		t.Errorf("two leases at once, seen %d times", doubles)
	}
}

// TestDiskOfAll: where no other could lead, the holder stays, and ends in order.
func TestDiskOfAll(t *testing.T) {
	disks := [2]*sickDisk{{}, {}}
	c := newTestCluster(t, 2)
	c.opened = func(i int, n *Node) { n.health.under = disks[i].under }
	for i := range 2 {
		c.start(i)
	}
	old := c.holder()
	await(t, "two voters", 10*time.Second, c.members(2))
	disks[old].stall()
	await(t, "the fault is known", 10*time.Second, func() bool { return c.nodes[old].DiskFault() != nil })
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(ms) {
		if !c.nodes[old].Lease().Valid {
			t.Fatal("the lease is gone, and nobody else can have it")
		}
	}
	begin := time.Now()
	c.kill(old)
	if took := time.Since(begin); took > 2*diskPatience {
		t.Errorf("it took %v to end while the disk stood still", took)
	}
	disks[old].heal()
}

func TestEnough(t *testing.T) {
	for _, c := range []struct {
		voters, able int
		want         bool
	}{{1, 0, false}, {2, 1, false}, {3, 1, false}, {3, 2, true}, {4, 2, false}, {5, 2, false}, {5, 3, true}} {
		if got := enough(c.voters, c.able); got != c.want {
			t.Errorf("%d of %d: %t", c.able, c.voters, got)
		}
	}
}
