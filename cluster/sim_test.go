package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

const ms = time.Millisecond

// weather is what a simulated cluster goes through.
type weather struct {
	name   string
	hb     time.Duration
	signal string // what the others learn of a death: "" nothing (power), "gone" refused, "released" by the guard
	storm  int    // a follower restarts every so many ms, in bad weather (0: 5000)
	calm   bool   // nobody dies
	faults bool   // cuts, restarts, slow messages, with calm phases between
	slow   int    // percent of slow chunks outside faults
	dur    time.Duration
	tune   func(*rules)
	awake  bool          // a restarted voter is not silent
	disk   time.Duration // how long each write of the log takes

	lets    time.Duration   // a killed holder's address stays for up to so long, and the guard says nothing before
	early   bool            // the guard says it at once nevertheless
	timings []time.Duration // of the nodes, where they differ
	wipes   bool            // some who restart have lost their disk: they are new nodes, and the leader changes the members
	same    bool            // who has lost its disk is taken for the one it was
}

type figures struct {
	virtual                   time.Duration
	deaths, changes, restarts int
	wiped, joined             int
	overlap, held             time.Duration
	gap, heal                 []time.Duration
	holds, late               int64
}

const simNodes = 3

// simNode is one life of a node.
type simNode struct {
	core *core
	host *memHost
	stop context.CancelFunc
	done chan struct{}
}

type simFSM struct{}

// slowStore is a log on a slow disk.
type slowStore struct {
	raft.LogStore
	takes time.Duration
}

func (s *slowStore) StoreLogs(l []*raft.Log) error {
	time.Sleep(s.takes)
	return s.LogStore.StoreLogs(l)
}
func (s *slowStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

type sim struct {
	t      *testing.T
	w      weather
	net    *memNet
	ids    [simNodes]ID
	stores [simNodes]*raft.InmemStore
	nodes  [simNodes]*simNode
	until  [simNodes]time.Time // ends of leases as the world must assume them
	ending sync.WaitGroup
	figures
}

func (s *sim) start(i int, found *raft.Configuration) {
	hb := s.w.hb
	if s.w.timings != nil {
		hb = s.w.timings[i]
	}
	hello := Hello{Node: s.ids[i], Boot: NewID(), Heartbeat: hb}
	host := s.net.host(i, hello)
	quiet := hb
	if s.w.awake {
		quiet = 0
	}
	k, err := newCore(coreConfig{
		id: s.ids[i].String(), self: memAddr(i), hb: hb, quiet: quiet, streams: host, fsm: simFSM{},
		logs: &slowStore{s.stores[i], s.w.disk}, stable: s.stores[i], snaps: raft.NewInmemSnapshotStore(),
		log: slog.New(slog.DiscardHandler), found: found, tune: s.w.tune,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	k.links.peers = func() []netip.AddrPort {
		var all []netip.AddrPort
		for j := range simNodes {
			if j != i {
				all = append(all, memAddr(j))
			}
		}
		return all
	}
	k.links.note = func() note { return note{} }
	k.links.heard = func(Hello, note) {}
	ctx, cancel := context.WithCancel(context.Background())
	n := &simNode{core: k, host: host, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(n.done)
		k.run(ctx)
	}()
	s.nodes[i] = n
}

// kill takes a node away at once. What it has sent stays on its way.
func (s *sim) kill(i int, power bool) {
	n := s.nodes[i]
	s.look(i)
	s.nodes[i] = nil
	n.host.vanish(power)
	n.stop()
	s.ending.Go(func() { <-n.done })
	s.holds += n.core.elector.held.Load()
	s.late += n.core.elector.late.Load()
}

// look notes the lease of a node, and tells whether it is valid.
func (s *sim) look(i int) bool {
	e := s.nodes[i].core.elector
	l := e.lease()
	e.mu.Lock()
	defer e.mu.Unlock()
	s.until[i] = later(s.until[i], e.rules.own.Until)
	return l.Valid
}

func simulate(t *testing.T, seed int64, w weather) figures {
	if w.storm == 0 {
		w.storm = 5000
	}
	s := &sim{t: t, w: w, net: newMemNet(seed)}
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		var found raft.Configuration
		s.net.slow = w.slow
		for i := range simNodes {
			s.ids[i], s.stores[i] = ID{byte(i + 1)}, raft.NewInmemStore()
			found.Servers = append(found.Servers, raft.Server{ID: raft.ServerID(s.ids[i].String()), Address: raft.ServerAddress(memAddr(i).String())})
		}
		for i := range simNodes {
			s.start(i, &found)
		}
		s.play()
		for i := range simNodes {
			if s.nodes[i] != nil {
				s.kill(i, false)
			}
		}
		s.ending.Wait()
		time.Sleep(10 * time.Second)
	})
	s.virtual = w.dur
	return s.figures
}

func (s *sim) play() {
	n, w := s.net, s.w
	chance := func(of int) bool { n.mu.Lock(); defer n.mu.Unlock(); return n.rng.Intn(of) == 0 }
	pick := func(k int) int { n.mu.Lock(); defer n.mu.Unlock(); return n.rng.Intn(k) }
	start := time.Now()
	var back [simNodes]time.Time
	var died, healed time.Time
	last, calm := -1, true
	phase, next := start.Add(10*time.Second), start.Add(5*time.Second)
	writes := start.Add(5 * time.Second)
	for time.Since(start) < w.dur {
		time.Sleep(ms)
		now := time.Now()
		holder, leases := -1, 0
		for i := range simNodes {
			if s.nodes[i] == nil {
				if now.After(back[i]) {
					if w.wipes && chance(2) && s.spare(i) {
						s.wipe(i)
					}
					s.start(i, nil)
				}
			} else if s.look(i) {
				holder = i
			}
			if now.Before(s.until[i]) {
				leases++
			}
		}
		if leases > 1 {
			s.overlap += ms
		}
		if holder >= 0 {
			s.held += ms
			if !healed.IsZero() {
				s.heal, healed = append(s.heal, now.Sub(healed)), time.Time{}
			}
			if !died.IsZero() {
				s.gap, died = append(s.gap, now.Sub(died)), time.Time{}
			}
			if holder != last {
				s.changes++
				last = holder
			}
		}
		if w.disk > 0 && holder >= 0 && now.After(writes) {
			writes = now.Add(100 * ms)
			s.nodes[holder].core.raft.Apply([]byte("x"), 0)
		}
		if w.wipes && holder >= 0 && now.Sub(start)%(50*ms) == 0 {
			s.members(holder, chance(40), pick(simNodes))
		}
		die := -1
		if w.faults && !calm {
			if chance(1500) {
				a, b := pick(simNodes), pick(simNodes)
				both := chance(2)
				n.mu.Lock()
				n.cut[[2]int{a, b}] = !n.cut[[2]int{a, b}]
				if both {
					n.cut[[2]int{b, a}] = n.cut[[2]int{a, b}]
				}
				n.mu.Unlock()
			}
			if chance(4000) {
				n.mu.Lock()
				clear(n.cut)
				n.mu.Unlock()
			}
			if chance(w.storm) {
				if k := pick(simNodes); s.nodes[k] != nil && k != holder {
					s.restarts++
					back[k] = now.Add(30 * ms)
					s.kill(k, chance(2))
				}
			}
			if holder >= 0 && died.IsZero() && chance(6000) {
				die = holder
			}
		}
		if !w.faults && !w.calm && holder >= 0 && died.IsZero() && now.After(next) {
			die = holder
			next = now.Add(3*time.Second + time.Duration(pick(1000))*ms)
		}
		if w.faults && now.After(phase) {
			calm = !calm
			phase = now.Add(20 * time.Second)
			n.mu.Lock()
			n.slow = 5
			if calm {
				phase = now.Add(5 * time.Second)
				n.slow, healed = 0, now
				clear(n.cut)
			} else {
				healed = time.Time{}
			}
			n.mu.Unlock()
		}
		if die >= 0 {
			s.deaths++
			died = now
			back[die] = now.Add(30*ms + time.Duration(pick(1500))*ms)
			term := s.nodes[die].core.raft.CurrentTerm()
			s.kill(die, w.signal == "")
			if w.signal == "released" {
				gone := 3 * ms
				if w.lets > 0 {
					gone += time.Duration(pick(int(w.lets/ms))) * ms
				}
				s.until[die] = earlier(s.until[die], now.Add(gone))
				if w.early {
					gone = 3 * ms
				}
				s.release(die, term, gone)
			}
		}
	}
}

// release is the guard of a killed holder.
func (s *sim) release(from int, term uint64, after time.Duration) {
	n := s.net
	for j := range simNodes {
		if j == from {
			continue
		}
		s.ending.Go(func() {
			n.mu.Lock()
			d := n.delay()
			n.mu.Unlock()
			time.Sleep(after + d)
			n.mu.Lock()
			host, cut := n.hosts[memAddr(j)], n.cut[[2]int{from, j}]
			n.mu.Unlock()
			if host != nil && !cut {
				if e, ok := s.electorOf(host); ok {
					e.released(releasedTerm{Term: term}, true)
				}
			}
		})
	}
}

func (s *sim) electorOf(h *memHost) (*elector, bool) {
	for _, n := range s.nodes {
		if n != nil && n.host == h {
			return n.core.elector, true
		}
	}
	return nil, false
}

func (a *figures) add(b figures) {
	a.virtual += b.virtual
	a.deaths += b.deaths
	a.changes += b.changes
	a.restarts += b.restarts
	a.wiped += b.wiped
	a.joined += b.joined
	a.overlap += b.overlap
	a.held += b.held
	a.gap = append(a.gap, b.gap...)
	a.heal = append(a.heal, b.heal...)
	a.holds += b.holds
	a.late += b.late
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[int(q*float64(len(d)-1))]
}

func spread(d []time.Duration) string {
	return fmt.Sprintf("%d/%d/%d", quantile(d, .5).Milliseconds(), quantile(d, .95).Milliseconds(), quantile(d, 1).Milliseconds())
}

func (a *figures) String() string {
	h := a.virtual.Hours()
	return fmt.Sprintf("%.2f h, deaths %d, restarts %d, wiped %d, members changed %d, changes/h %.0f, held %.1f%%, overlap %v, death to lease %s ms, heal to lease %s ms, votes held %d, late %d",
		h, a.deaths, a.restarts, a.wiped, a.joined, float64(a.changes)/h, 100*a.held.Hours()/h, a.overlap, spread(a.gap), spread(a.heal), a.holds, a.late)
}

// simFactor makes the runs longer: PEN_SIM=20 gives twenty times the virtual time.
func simFactor() int {
	n, _ := strconv.Atoi(os.Getenv("PEN_SIM"))
	return max(n, 1)
}

func trial(t *testing.T, w weather) *figures {
	var a figures
	real := time.Now()
	for k := range simFactor() {
		a.add(simulate(t, int64(k+1), w))
	}
	t.Logf("%s: %v (real %v)", w.name, &a, time.Since(real).Round(time.Millisecond))
	return &a
}

// TestSimDeaths: the leader is killed every few seconds, the network is well.
// How long until there is a lease again?
func TestSimDeaths(t *testing.T) {
	for _, hb := range []time.Duration{200 * ms, 100 * ms} {
		for signal, most := range map[string]time.Duration{
			"":         hb + 35*ms,
			"gone":     hb/2 + 45*ms,
			"released": 30 * ms,
		} {
			w := weather{name: fmt.Sprintf("hb %v, deaths, %q", hb, signal), hb: hb, signal: signal, dur: 2 * time.Minute}
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				a := trial(t, w)
				if a.overlap > 0 || len(a.gap) < a.deaths-simFactor() || a.deaths < 20 {
					t.Errorf("overlap %v, %d deaths, %d replaced", a.overlap, a.deaths, len(a.gap))
				}
				if p95, top := quantile(a.gap, .95), quantile(a.gap, 1); p95 > most || top > 5*hb {
					t.Errorf("death to lease p95 %v, max %v; want at most %v, %v", p95, top, most, 5*hb)
				}
			})
		}
	}
}

// TestSimFaults: cuts, slow messages, restarts, deaths; then all is well again,
// and so on. There must never be two leases, and always one soon after.
func TestSimFaults(t *testing.T) {
	for _, w := range []weather{
		{name: "power", hb: 200 * ms},
		{name: "gone", hb: 200 * ms, signal: "gone"},
		{name: "released", hb: 200 * ms, signal: "released"},
		{name: "fast", hb: 100 * ms, signal: "released"},
		{name: "storm, longest lease", hb: 200 * ms, storm: 100, tune: func(r *rules) { r.length = r.hb }},
	} {
		w.faults, w.dur = true, 4*time.Minute
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			a := trial(t, w)
			if a.overlap > 0 {
				t.Errorf("two leases at once for %v", a.overlap)
			}
			if top := quantile(a.heal, 1); top > 2*time.Second {
				t.Errorf("no lease %v after everything was well", top)
			}
		})
	}
}

// TestSimCalm: nobody dies, five percent of the messages are late. The lease
// must not wander about.
func TestSimCalm(t *testing.T) {
	a := trial(t, weather{name: "slow", hb: 200 * ms, calm: true, slow: 5, dur: 4 * time.Minute})
	if a.overlap > 0 {
		t.Errorf("two leases at once for %v", a.overlap)
	}
}

// TestSimSlowDisk: every write of every log takes three timeouts. That costs
// commits, not the lease: heartbeats do not wait for the disk.
func TestSimSlowDisk(t *testing.T) {
	a := trial(t, weather{name: "slow disk", hb: 200 * ms, calm: true, disk: 600 * ms, dur: time.Minute})
	if a.overlap > 0 || a.changes != simFactor() {
		t.Errorf("two leases for %v, %d holders in %d runs, want one for the whole of each", a.overlap, a.changes, simFactor())
	}
	if lost := a.virtual - a.held; lost > time.Duration(simFactor())*4*time.Second {
		t.Errorf("no lease for %v of %v", lost, a.virtual)
	}
}

// TestSimControls breaks the rules on purpose. The checker must see it.
func TestSimControls(t *testing.T) {
	for _, w := range []weather{
		{name: "lease of 1.5 timeouts", tune: func(r *rules) { r.length = r.hb * 3 / 2 }},
		{name: "a restarted voter is not silent", awake: true, storm: 100, tune: func(r *rules) { r.length = r.hb }},
		{name: "no voter's rule", tune: func(r *rules) { r.lax = true; r.length = r.hb }},
	} {
		w.hb, w.faults, w.dur = 200*ms, true, 4*time.Minute
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			var a *figures
			for range 5 {
				if a = trial(t, w); a.overlap > 0 {
					return
				}
			}
			t.Error("no overlap seen")
		})
	}
}

func (simFSM) Apply(*raft.Log) any                 { return nil }
func (simFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, io.EOF }
func (simFSM) Restore(r io.ReadCloser) error       { return r.Close() }
