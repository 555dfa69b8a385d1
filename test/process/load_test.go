//go:build linux

package process

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/test/rig"
)

// needFiles skips where a process may not open as many files as a test needs.
func needFiles(t testing.TB, n uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	rig.Need(t, l.Max >= n, fmt.Sprintf("%d open files (ulimit -Hn)", n))
}

// Idle connections first, then more clients than there are places: one pen, to
// save time. Not parallel: it measures.
func TestNineThousandConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	needFiles(t, 18_100)
	const places, more = 9000, 3000
	d := place(t)
	newActor(t, "server a "+d.backendAddr(0))
	clients := newActor(t, "crowd "+d.block.Listen())
	d.start("-x", "9000", "-q", "4096", "{listen}", "{a}")

	// What a first load takes once does not count.
	clients.do("open 300")
	clients.do("close 300")
	idle := func() bool { return strings.Contains(d.ask("servers"), "conn 0 ") }
	if !rig.Eventually(rig.Patience, idle) {
		t.Fatalf("connections do not end: %s", d.ask("servers"))
	}
	memory, files := resident(t, d.Pid()), descriptors(t, d.Pid())

	if got := clients.do(fmt.Sprint("open ", places)); !strings.HasPrefix(got, fmt.Sprint(places+300, " answered, 0 failed")) {
		t.Fatalf("%d clients: %s", places, got)
	}
	each := float64(resident(t, d.Pid())-memory) / places
	t.Logf("%.0f bytes for each idle connection", each)
	// 0.2 KiB is promised, and measured by bench; what the collector has not come to
	// on a busy machine is in it here.
	if each > 0.5*1024 {
		t.Errorf("an idle connection costs %.0f bytes, want at most %.0f", each, 0.5*1024)
	}
	if n := descriptors(t, d.Pid()) - files; n > 2*places+16 {
		t.Errorf("%d connections take %d descriptors", places, n)
	}

	clients.do(fmt.Sprint("queue ", more))
	time.Sleep(time.Second) // for the crowd to be at the door
	before := busy(t, d.Pid())
	var slowest time.Duration
	for range 10 {
		began := time.Now()
		if got := d.ask("conn_max"); got != "9000\n" {
			t.Errorf("conn_max %q", got)
		}
		slowest = max(slowest, time.Since(began))
		time.Sleep(100 * time.Millisecond)
	}
	spent := busy(t, d.Pid()) - before
	t.Logf("beyond the limit: %v of processor time in a second, control answers within %v", spent, slowest)
	if spent > 300*time.Millisecond {
		t.Errorf("pen spins: %v of processor time in a second", spent)
	}
	if slowest > 2*time.Second { // it is less than a millisecond where nothing else runs
		t.Errorf("the control port takes %v", slowest)
	}
	if got, want := clients.do("count"), fmt.Sprint(places+300, " answered, 0 failed"); !strings.HasPrefix(got, want) {
		t.Errorf("before a place is free: %s, want %s", got, want)
	}

	began := time.Now()
	clients.do(fmt.Sprint("close ", more))
	all := fmt.Sprint(places+300+more, " answered, 0 failed")
	if !rig.Eventually(3*rig.Patience, func() bool { return strings.HasPrefix(clients.do("count"), all) }) {
		t.Errorf("after places are free: %s, want %s", clients.do("count"), all)
	}
	took := time.Since(began)
	t.Logf("%d waiting clients served %v after places are free", more, took)
	if took > rig.Patience { // 1 s is promised; the rest is for a busy machine
		t.Errorf("recovery takes %v", took)
	}
}

func TestServerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	d := place(t)
	a := newActor(t, "server a "+d.backendAddr(0))
	newActor(t, "server b "+d.backendAddr(1))
	d.start("-r", "{listen}", "{a}", "{b}")

	var dying, killed atomic.Int64 // when the server began to end, and when it was gone, in ns; 0: not yet
	var served, during, meanwhile atomic.Int64
	var wg sync.WaitGroup
	stop := time.Now().Add(3 * time.Second)
	for w := range 8 {
		wg.Go(func() {
			for time.Now().Before(stop) {
				began := time.Now().UnixNano()
				name, err := rig.Fetch(client(10+w), d.block.Listen())
				gone := killed.Load()
				switch {
				case err == nil && name != "":
					served.Add(1)
				case gone != 0 && began > gone:
					t.Errorf("a client that came after the server had gone: %v", err)
				case dying.Load() != 0 && began > dying.Load():
					meanwhile.Add(1) // a server that ends takes connections to the last
				default:
					during.Add(1) // its request may have been with the server
				}
			}
		})
	}
	time.Sleep(time.Second)
	dying.Store(time.Now().UnixNano())
	a.kill()
	killed.Store(time.Now().UnixNano())
	wg.Wait()
	t.Logf("%d served, %d lost with the server, %d while it ended", served.Load(), during.Load(), meanwhile.Load())
	if during.Load() > 8 {
		t.Errorf("%d clients failed, but only 8 can have been with the server", during.Load())
	}
	if served.Load() < 100 {
		t.Errorf("only %d clients served", served.Load())
	}
}

// A burst of clients does not pass a limit.
func TestLimitHoldsInABurst(t *testing.T) {
	t.Parallel()
	d := place(t)
	a, b := d.backend(0), d.backend(1)
	d.start("-r", "{listen}", "{a}:3", "{b}")
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			c, err := rig.Dial(client(10+i), d.block.Listen())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Say("hi"); err != nil {
				t.Error(err)
			}
			time.Sleep(200 * time.Millisecond) // while the others come
		})
	}
	wg.Wait()
	if a.Most() > 3 {
		t.Errorf("%d connections at once at a server with room for 3", a.Most())
	}
	if b.Most() < 30 {
		t.Errorf("only %d connections at the other", b.Most())
	}
}

// Clients wait while pen has no descriptors left, and are served when it has.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.start("{listen}", "{a}")
	d.fetch(2)
	var limit unix.Rlimit
	if err := unix.Prlimit(d.Pid(), unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: uint64(descriptors(t, d.Pid()) + 7), Max: limit.Max}
	if err := unix.Prlimit(d.Pid(), unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	var answered atomic.Int64
	var wg sync.WaitGroup
	release := make(chan struct{})
	for i := range 20 {
		wg.Go(func() {
			c, err := rig.Dial(client(10+i), d.block.Listen())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Say("hi"); err == nil {
				answered.Add(1)
			}
			<-release
		})
	}
	rig.Eventually(2*time.Second, func() bool { return answered.Load() >= 3 })
	before := busy(t, d.Pid())
	time.Sleep(time.Second)
	if spent := busy(t, d.Pid()) - before; spent > 300*time.Millisecond {
		t.Errorf("pen spins: %v of processor time in a second", spent)
	}
	if n := answered.Load(); n >= 20 {
		t.Errorf("%d clients served with descriptors for 3", n)
	}
	if err := unix.Prlimit(d.Pid(), unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	if !rig.Eventually(3*time.Second, func() bool { return answered.Load() == 20 }) {
		t.Errorf("%d of 20 clients served", answered.Load())
	}
	close(release)
	wg.Wait()
	contains(t, "log", d.Stderr(), "too many open files")
}

// pending_max: accepting stops, nothing spins, and goes on.
func TestPendingMax(t *testing.T) {
	t.Parallel()
	d := place(t)
	a := d.backend(0)
	d.backend(1)
	d.start("-t", "2", "-r", "-O", "pending_max 3", "-O", "blacklist 0", "{listen}", "{a}")
	a.Mute()
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() { rig.Fetch(client(10+i), d.block.Listen()) })
	}
	time.Sleep(300 * time.Millisecond)
	before := busy(t, d.Pid())
	time.Sleep(time.Second)
	if spent := busy(t, d.Pid()) - before; spent > 300*time.Millisecond {
		t.Errorf("pen spins: %v of processor time in a second", spent)
	}
	d.ask("server 0 address " + d.block.Host(12) + " port 9002")
	if !rig.Eventually(5*time.Second, func() bool { return d.fetch(2) == "b" }) {
		t.Error("new clients are not served")
	}
	wg.Wait()
}

// A hundred megabytes each way through a slow reader neither grow memory nor
// lose a byte.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	d.start("{listen}", "{a}")
	warm, err := rig.Fetch(client(2), d.block.Listen())
	if err != nil || warm != "a" {
		t.Fatal(warm, err)
	}
	c, err := rig.Dial(client(2), d.block.Listen())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	before := resident(t, d.Pid())
	const size = 100 << 20
	fmt.Fprintf(c, "send %d\n", size)
	time.Sleep(500 * time.Millisecond) // the server sends, nobody reads
	if grown := resident(t, d.Pid()) - before; grown > 8<<20 {
		t.Errorf("memory grows by %d bytes while the client does not read", grown)
	}
	n, err := io.CopyN(io.Discard, c, size)
	if n != size || err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
}
