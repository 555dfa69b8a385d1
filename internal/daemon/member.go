package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"pen/cluster"
	"pen/internal/config"
	"pen/state"
	"pen/vip"
)

// member is what a node of a cluster has beside one that stands alone.
type member struct {
	*daemon
	node   *cluster.Node
	vip    *vip.VIP  // nil: nothing to hold
	notify *notifier // nil: nobody to tell
	holder holder
	self   config.Peer
	prober *prober     // of a rehearsal
	fall   *fallback   // nil: nothing to hold
	sees   *vip.Prober // what it sees

	assumed time.Time // when assume was last tried; owned by the loop of fall

	holding context.Context
	stop    context.CancelFunc // ends holding
	held    chan struct{}      // closed when the last term has been undone

	want     *state.View // what this node's file and command line ask for
	stopping atomic.Bool
	settled  atomic.Bool               // the cluster has settings, and this node knows them
	unopened atomic.Pointer[error]     // why not all listeners are open
	leaving  atomic.Bool               // the last term is being undone
	turned   chan struct{}             // this node's part has changed; room for one
	term     atomic.Uint64             // of the last part
	since    atomic.Pointer[time.Time] // when the addresses came to this node; nil: not here
}

// join opens this node's part in the cluster: its port, its log and what it
// needs to hold the addresses.
func (d *daemon) join(plan *config.Plan) (*member, error) {
	m := &member{daemon: d, want: plan.View, held: make(chan struct{}), turned: make(chan struct{}, 1)}
	m.holding, m.stop = context.WithCancel(context.Background())
	local := d.local.Load()
	m.prober = newProber(m.isVirtual)
	self, err := selfOf(local)
	if err != nil {
		return nil, err
	}
	m.self = self
	key, err := cluster.ReadKey(local.ClusterKey)
	if err != nil {
		return nil, fmt.Errorf("cluster_key: %w", err)
	}
	if len(local.VIPs) > 0 && !self.Witness {
		if m.vip, err = vip.New(vipConfig(local, d.log)); err != nil {
			return nil, err
		}
	}
	c := cluster.Config{
		Name: local.Cluster, Key: key, Self: self.Addr, Node: nodeName(), Dir: local.DataDir,
		Heartbeat: local.Timing(), Preempt: local.Preempt,
		Version: d.version, Digest: digest(plan.View, local.Membership), Answer: m.answerNode, Log: d.log,
	}
	for _, p := range local.Peers {
		c.Peers = append(c.Peers, cluster.Peer(p))
	}
	if local.Notify != "" {
		if m.notify, err = newNotifier(local.Notify, local.Cluster, c.Node, d.log); err != nil {
			return nil, err
		}
	}
	if m.node, err = cluster.Open(c); err != nil {
		return nil, err
	}
	m.unopened.Store(&errNotOpen)
	m.holder = holder{
		leases: m.node, address: m.vip, log: d.log, heartbeat: c.Heartbeat,
		may: m.may, led: m.led, tell: m.became,
	}
	if m.vip != nil {
		m.sees = m.vip.Prober(gatewayOf(local))
		m.fall = newFallback(m.node, m.sees, c.Heartbeat, d.log)
		m.fall.state, m.fall.may, m.fall.announce = m.vip.State, m.may, m.vip.Announce
		m.fall.assume = m.assume
		m.fall.asked = func() bool { return m.local.Load().Fallback() }
		m.holder.leases, m.holder.follows = m.fall, m.fall.follows
	}
	return m, nil
}

// assume takes what is on this node's disk for the settings of the cluster, where
// a node of two has started alone: nobody is there to say what was agreed on.
func (m *member) assume() {
	if m.settled.Load() || time.Since(m.assumed) < assumeAgain {
		return
	}
	m.assumed = time.Now()
	if err := m.node.Assume(); err != nil {
		m.log.Warn("alone, and the settings of the cluster are not known", "err", err)
		return
	}
	m.log.Warn("alone since the start: going by what this node's disk knows", "changes", m.state.View().Index)
	m.settle()
}

// assumeAgain is how often that is tried.
const assumeAgain = 10 * time.Second

// gatewayOf is whom fallback asks.
func gatewayOf(l *config.Local) vip.Gateway {
	addr, _ := netip.ParseAddr(l.Gateway) // a word is no address
	return vip.Gateway{Addr: addr, None: l.Gateway == "none"}
}

func vipConfig(l *config.Local, log *slog.Logger) vip.Config {
	c := vip.Config{Name: l.Cluster, Lease: l.Timing() / 2, Log: log}
	for _, a := range l.VIPs {
		c.Addresses = append(c.Addresses, vip.Address(a))
	}
	return c
}

// virtual are the addresses that a bare port to listen on means.
func virtual(l *config.Local) []netip.Addr {
	var all []netip.Addr
	for _, a := range l.VIPs {
		all = append(all, a.Prefix.Addr())
	}
	return all
}

// foresee returns a function that tells, when the process is in its jail and its
// user, what will be out of its reach there when it is needed.
func (m *member) foresee(l *config.Local) (func() error, error) {
	dir := filepath.Join(l.DataDir, "cluster")
	was, err := os.Stat(dir)
	return func() error {
		errs := []error{stillOurs(dir, was)}
		if m.vip != nil {
			errs = append(errs, guardable())
		}
		if m.notify != nil {
			errs = append(errs, checkNotify(l.Notify))
		}
		return errors.Join(errs...)
	}, err
}

// run takes part until ctx ends. Then the addresses go first, the word that they
// are free is given, and the cluster is left last.
func (m *member) run(ctx context.Context) error {
	always := context.WithoutCancel(ctx)
	group, parts := errgroup.WithContext(always)
	agreeing, leave := context.WithCancel(parts)
	defer leave()
	group.Go(func() error { return m.node.Run(agreeing) })
	group.Go(func() error { m.found(agreeing); return nil })
	group.Go(func() error { m.report(agreeing); return nil })
	group.Go(func() error { m.prober.run(agreeing); return nil })
	telling, told := context.WithCancel(always)
	defer told()
	if m.notify != nil {
		group.Go(func() error { return m.notify.run(telling) })
	}
	addressing, letGo := context.WithCancel(always)
	defer letGo()
	var gone sync.WaitGroup
	m.holder.traffic = m.proxy
	go m.hold()
	if m.vip != nil {
		ended := make(chan error, 1)
		gone.Go(func() { ended <- m.vip.Run(addressing) })
		group.Go(func() error { return <-ended })
		gone.Go(func() { m.sees.Run(addressing) })
		gone.Go(func() { m.fall.run(addressing) })
	}
	select {
	case <-ctx.Done():
	case <-parts.Done(): // a part failed
	}
	m.stop()
	<-m.held
	letGo()
	gone.Wait()
	leave()
	told()
	return group.Wait()
}

// hold holds the addresses whenever it is this node's turn, until stop.
func (m *member) hold() {
	defer close(m.held)
	if m.vip != nil {
		m.holder.run(m.holding)
	}
}

// leave gives the addresses away, if they are here, before anything else of this
// process ends: to another node, or else to nobody.
func (m *member) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if m.vip != nil && m.node.Lease().Valid {
		if err := m.node.Transfer(ctx, ""); err != nil {
			m.log.Warn("nobody takes the addresses over", "err", err)
		} else {
			m.holder.until(ctx, takeover+m.holder.heartbeat, func() bool { return m.vip.State().Clear })
		}
	}
	m.stopping.Store(true)
	m.judge()
	m.stop()
	select {
	case <-m.held:
	case <-ctx.Done():
	}
}

// unsettled tells why nothing can be changed yet.
func (m *member) unsettled() error {
	select {
	case <-m.node.Formed():
		return errUnsettled
	default:
		return errUnformed
	}
}

// may tells whether this node may take the addresses.
func (m *member) may() bool {
	r := m.readiness()
	if ok, _ := r.eligible(); !ok && !r.in(m.node.Alternative(), m.node.Accompanied()) {
		return false
	}
	return !m.state.View().Drained(m.node.ID())
}

// led tells whether another node leads in a later term.
func (m *member) led(term uint64) bool {
	leader, now := m.node.Leader()
	return leader != "" && leader != m.node.ID() && now > term
}

// became notes what this node is now.
func (m *member) became(p part, term uint64) {
	m.since.Store(nil)
	if p == partHolder {
		now := time.Now() // with the monotonic clock: the other may be set
		m.since.Store(&now)
	}
	m.leaving.Store(p == partLeaving)
	m.term.Store(term)
	select {
	case m.turned <- struct{}{}:
	default:
	}
}

// part is what this node is now. It has none before it knows the settings, and
// between two parts.
func (m *member) part() part {
	fit, _ := m.fit()
	switch {
	case m.since.Load() != nil:
		return partHolder
	case !m.settled.Load() || m.leaving.Load():
		return ""
	case fit || m.stopping.Load():
		return partStandby
	}
	return partFault
}

// report keeps the cluster informed of what this node could do, and the guard
// able to speak for it.
func (m *member) report(ctx context.Context) {
	tick := time.NewTicker(m.holder.heartbeat)
	defer tick.Stop()
	var spoken []cluster.ReleaseConn
	var told part
	heard := map[cluster.ID]time.Time{}
	for {
		m.judge()
		m.node.SetFacts(m.facts())
		if p := m.part(); p != "" && p != told && m.notify != nil {
			told = p
			m.notify.tell(string(p), m.term.Load())
		}
		if m.vip != nil {
			spoken = m.arm(spoken)
			if returned(heard, m.node.Status().Members) {
				m.vip.Announce()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.turned:
		case <-m.addressChanged():
		}
	}
}

// absence is for how long a member must have been silent to be one that has
// come back: it speaks twice a second.
const absence = time.Second

// returned tells whether a member is heard again after a silence. The network
// between may have been cut, and neighbours on its side may still believe in
// another holder.
func returned(heard map[cluster.ID]time.Time, members []cluster.MemberStatus) (some bool) {
	for _, o := range members {
		if o.Self || o.Heard.IsZero() {
			continue
		}
		last, known := heard[o.ID]
		some = some || known && o.Heard.Sub(last) > absence
		heard[o.ID] = o.Heard
	}
	return some
}

func (m *member) addressChanged() <-chan struct{} {
	if m.vip == nil {
		return nil
	}
	return m.vip.Changed()
}

// facts is what the others show of this node.
func (m *member) facts() cluster.Facts {
	var f cluster.Facts
	if since := m.since.Load(); since != nil {
		f.Holding, f.Since = true, *since
	}
	for _, s := range m.state.View().Services {
		stats := m.proxy.Stats(s.Name)
		f.Unreplicated += stats.Recent
		f.UnreplicatedAge = max(f.UnreplicatedAge, stats.RecentAge)
	}
	return f
}

// judge says whether this node is eligible.
func (m *member) judge() { m.node.SetEligible(m.fit()) }

func (m *member) fit() (ok bool, why string) {
	if m.vip == nil {
		return false, "no vip"
	}
	return m.readiness().eligible()
}

func (m *member) readiness() readiness {
	return readiness{
		stopping: m.stopping.Load(), leaving: m.leaving.Load(), settled: m.settled.Load(), listeners: *m.unopened.Load(), direct: m.undirected(),
		address: m.vip.State(), behind: m.node.Behind(), disk: m.node.DiskFault(),
	}
}

// release is what the guard says when this node has died in that term.
func (m *member) release(term uint64) []byte {
	if !m.fall.own(term) {
		return nil // nobody was elected in it
	}
	return m.node.ReleaseMessage(term)
}

// arm gives the guard the connections over which it can say that this node has
// died, when they are others than before.
func (m *member) arm(before []cluster.ReleaseConn) []cluster.ReleaseConn {
	now := m.node.ReleaseConns()
	slices.SortFunc(now, func(a, b cluster.ReleaseConn) int { return slices.Compare(a.Peer[:], b.Peer[:]) })
	if slices.EqualFunc(before, now, func(a, b cluster.ReleaseConn) bool { return a.Conn == b.Conn }) {
		return before
	}
	var files []*os.File
	for _, c := range now {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			if f, err := tcp.File(); err == nil {
				files = append(files, f)
			}
		}
	}
	m.vip.GuardConns(files, m.release)
	return now
}
