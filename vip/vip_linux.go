package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Check says why the addresses can not be held on this machine: an interface
// that is not found, an address that the machine's own configuration holds, a
// missing capability and what it is needed for. What makes holding less safe,
// but not impossible, is logged as a warning. Nothing in the kernel changes.
func Check(cfg Config) error {
	_, err := check(cfg)
	return err
}

func check(cfg Config) ([]target, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	links, have, err := look()
	if err != nil {
		return nil, err
	}
	targets, err := resolve(cfg.Addresses, links, have)
	err = errors.Join(err, foreign(targets, links, have), checkCapabilities(cfg.Addresses), checkIPv6(targets))
	if err != nil {
		return nil, err
	}
	if !cfg.fenceless {
		if err := newFence(tableName(cfg.Name)+"_check", addressesOf(targets), cfg.Lease).rehearse(); err != nil {
			cfg.logger().Warn("no nf_tables: a frozen node is silenced later, by its guard", "err", err)
		}
	}
	return targets, nil
}

func look() ([]link, []present, error) {
	links, err := readLinks()
	if err != nil {
		return nil, nil, err
	}
	have, err := readAddresses()
	return links, have, err
}

func addressesOf(targets []target) []netip.Addr {
	addrs := make([]netip.Addr, len(targets))
	for i, t := range targets {
		addrs[i] = t.Addr
	}
	return addrs
}

// A VIP holds the addresses of one cluster. Its methods may be called from
// any goroutine, before, while and after Run runs.
type VIP struct {
	cfg     Config
	log     *slog.Logger
	targets []target
	addrs   []netip.Addr
	guard   *guardian

	// Wake the loops; room for one.
	leaseKick, addressKick chan struct{}

	// Owned by the loop of the lease.
	fence    *fence
	retry    time.Time // when to try again to have a fence
	deadline int64     // the guard's
	said     spoken
	repairs  pace
	open     bool // the lease stood at the last look
	answered bool // and was one for answers

	// Owned by the loop of the addresses.
	segments  map[string]*segment
	seenAt    time.Time
	holding   bool
	announces schedule
	whole     bool // every address was there at the last look at the schedule
	defence   defence
	flaps     carrier
	readds    pace
	lost      error // interfaces that are not there
	links     []link
	have      []present
	put       map[netip.Addr]added // in this holding

	mu        sync.Mutex // guards what is below
	want      Want
	offset    int64 // between the boot time and the monotonic clock when want came
	ending    bool
	deaf      []Port // replaced, never changed
	released  func(term uint64) []byte
	words     int // how often released was replaced
	facts     facts
	state     State
	changed   chan struct{}
	restart   bool               // of the announcements
	begun     time.Time          // of the lease that want is part of
	contested bool               // somebody else has claimed an address
	own       []net.HardwareAddr // the MACs of this machine
}

// spoken is the word that the guard would give, and for whom.
type spoken struct {
	term    uint64
	words   int
	message []byte
}

// facts are what the two loops tell each other.
type facts struct {
	fence  bool // there is a kernel lease
	pass   bool // it may be open for packets
	answer bool // it may be open for answers
	passes bool // it is open for packets
	tells  bool // it is open for answers
	clear  bool // no address is in the kernel
	all    bool // every address is
	sends  bool // announcements may be on their way
	bare   bool // an address may be there without a kernel lease
}

// New checks as Check does and prepares to hold the addresses. It starts nothing.
func New(cfg Config) (*VIP, error) {
	targets, err := check(cfg)
	if err != nil {
		return nil, err
	}
	v := &VIP{
		cfg: cfg, log: cfg.logger(), targets: targets, addrs: addressesOf(targets),
		leaseKick: make(chan struct{}, 1), addressKick: make(chan struct{}, 1),
		segments: map[string]*segment{}, put: map[netip.Addr]added{},
		changed: make(chan struct{}),
	}
	v.facts.clear = true
	v.state = State{Clear: true}
	command := cfg.Guard
	if command == nil {
		command = guardCommand
	}
	v.guard = &guardian{command: command, log: v.log, fd: -1, changed: v.guardChanged, ended: v.guardEnded, fired: v.guardFired}
	return v, nil
}

// Want says what should be from now on. It never waits; State tells when it has
// been done. Before Run, and after it, nothing is done.
func (v *VIP) Want(w Want) {
	v.mu.Lock()
	old, now := v.want, time.Now()
	if w.Hold && (!old.Hold || old.Term != w.Term || !now.Before(old.Until)) {
		v.begun = now
	}
	v.want, v.offset = w, clockOffset()
	v.mu.Unlock()
	// A later end of the same lease is looked at in its time, a quarter of a
	// kernel lease away: it comes with every heartbeat.
	if old.Hold != w.Hold || old.Answer != w.Answer || old.Term != w.Term || !now.Before(old.Until) || w.Until.Before(old.Until) {
		kick(v.leaseKick)
	}
}

// GuardConns gives the guard the connections over which it shall say that this
// node has let go, if this node dies, and the words for it. It replaces what an
// earlier call gave. The files are the package's from now on, which closes
// them; at most 64 are used. They must be sockets. released is called for the term of a Want,
// from a goroutine of Run, and must return at once.
func (v *VIP) GuardConns(conns []*os.File, released func(term uint64) []byte) {
	v.guard.hand(conns)
	v.mu.Lock()
	v.released, v.words = released, v.words+1
	v.mu.Unlock()
	kick(v.leaseKick)
}

// Announce begins the announcements anew, if there is anything to announce. It
// is for news that only the caller has: that a partition of the network has
// healed. It never waits.
func (v *VIP) Announce() {
	v.mu.Lock()
	v.restart = true
	v.mu.Unlock()
	kick(v.addressKick)
}

// State returns what is. It is the caller's copy.
func (v *VIP) State() State {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.state
	s.Conflicts = slices.Clone(s.Conflicts)
	return s
}

// Changed returns a channel that is closed at the next change of State, other
// than of its counters. Ask for it before State, or a change may be missed.
func (v *VIP) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// Run does what Want says until ctx ends; then it lets go of everything. It
// begins with what an earlier process has left. It may be called once. An error
// says that something may be left; the addresses then end with their lifetime.
func (v *VIP) Run(ctx context.Context) error {
	gone, err := sweep(v.addrs)
	if err != nil {
		return fmt.Errorf("remove what an earlier process left: %w", err)
	}
	if gone > 0 {
		v.log.Warn("removed addresses that an earlier process left", "count", gone)
	}
	// What began first ends last. The lease closes before the addresses go, and
	// the guard watches over both.
	late := context.WithoutCancel(ctx)
	guarding, endGuard := context.WithCancel(late)
	addressing, endAddresses := context.WithCancel(late)
	watching, endWatch := context.WithCancel(late)
	defer endWatch()
	defer endAddresses()
	defer endGuard()

	var guard, addresses, watch sync.WaitGroup
	v.keepLeaseOnce() // closed before anything can be added
	guard.Go(func() { v.guard.run(guarding) })
	watch.Go(func() { v.watchKernel(watching) })
	addresses.Go(func() { err = v.keepAddresses(addressing) })

	v.keepLease(ctx)
	endAddresses()
	addresses.Wait()
	endWatch()
	watch.Wait()
	v.tellGuard(Want{}, 0)
	endGuard()
	guard.Wait()
	v.guard.hand(nil)
	return errors.Join(err, v.endFence())
}

func (v *VIP) endFence() error {
	if v.fence == nil {
		return nil
	}
	return v.fence.remove()
}

// asked returns what is wanted and how long that lease still lasts; nothing if
// it does not stand.
func (v *VIP) asked() (Want, time.Duration) {
	v.mu.Lock()
	w, offset, ending := v.want, v.offset, v.ending
	v.mu.Unlock()
	if ending || !w.Hold {
		return w, 0
	}
	left := time.Until(w.Until)
	// The monotonic clock does not count while the machine is suspended, and the
	// lease does.
	if slept := clockOffset() - offset; slept > int64(time.Millisecond) {
		left -= time.Duration(slept)
	}
	return w, max(left, 0)
}

// clockOffset grows by the time that the machine is suspended.
func clockOffset() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("no monotonic clock: " + err.Error())
	}
	return bootTime() - ts.Nano()
}

// learn changes the facts, and what the world sees of them.
func (v *VIP) learn(change func(*facts, *State)) {
	v.mu.Lock()
	before, wasClear := visible(&v.state), v.state.Clear
	change(&v.facts, &v.state)
	f, s := &v.facts, &v.state
	s.Answering = f.answer || f.sends || f.bare
	s.Clear = f.clear && !f.pass && !f.answer
	held := f.all && (f.passes || !f.fence) && !v.ending
	if held && !s.Held {
		s.Since = time.Now()
	}
	s.Held = held
	s.Fences = Fences{NFT: f.fence, Guard: v.guard.stands()}
	if visible(s) != before {
		close(v.changed)
		v.changed = make(chan struct{})
	}
	if s.Clear && !wasClear {
		// The guard hears at once that it has nothing to take away any more.
		kick(v.leaseKick)
	}
	v.mu.Unlock()
}

type view struct {
	term                            uint64
	held, answering, clear, carrier bool
	fences                          Fences
	readded, lapsed, conflicts      uint64
	repaired, guards, losses        uint64
	err                             string
}

func visible(s *State) view {
	w := view{term: s.Term, held: s.Held, answering: s.Answering, clear: s.Clear, carrier: s.Carrier, fences: s.Fences, readded: s.Readded, lapsed: s.Lapsed, repaired: s.Repaired, guards: s.GuardEnds, losses: s.Losses}
	for _, c := range s.Conflicts {
		w.conflicts += c.Count
	}
	w.err = text(errors.Join(s.Unsteady, s.Err))
	return w
}

func (v *VIP) guardChanged() {
	v.learn(func(*facts, *State) {})
	kick(v.leaseKick)
}

func (v *VIP) guardEnded() { v.learn(func(_ *facts, s *State) { s.GuardEnds++ }) }

func (v *VIP) guardFired(r report) {
	v.log.Warn("the guard has taken the addresses away: this process was silent for too long", "times", r.Fired, "err", r.Err)
	kick(v.addressKick)
}

// watchKernel wakes the loop of the addresses whenever the kernel reports a
// change. What has changed is found by looking.
func (v *VIP) watchKernel(ctx context.Context) {
	for ctx.Err() == nil {
		s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
		if err != nil {
			v.log.Warn("no events of the kernel, looking every 250 ms", "err", err)
			sleep(ctx, time.Second)
			continue
		}
		stop := context.AfterFunc(ctx, s.Close)
		for err == nil || errors.Is(err, unix.ENOBUFS) {
			// An overflow means many events: one look does for all.
			_, _, err = s.Receive()
			kick(v.addressKick)
		}
		if stop() {
			s.Close()
			sleep(ctx, period)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func kick(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
