package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// again is the shortest time between two additions of the same address: two
// programs that disagree about it must not do so at full speed.
const again = 20 * time.Millisecond

// keepAddresses makes the kernel's addresses what they should be, announces
// them, and watches for other claims, until ctx ends. Then it lets go. The
// error says that an address may be left.
func (v *VIP) keepAddresses(ctx context.Context) error {
	defer v.closeSegments()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		looked := true
		select {
		case <-ctx.Done():
			return v.letGo()
		case <-v.addressKick:
		case <-timer.C:
			looked = false
		}
		timer.Reset(v.keepAddressesOnce(looked))
	}
}

// letGo is the last look. The lease has been closed before.
func (v *VIP) letGo() error {
	var err error
	for range 3 {
		if _, err = v.reconcile(false); err == nil {
			return nil
		}
		time.Sleep(period / 10)
	}
	return fmt.Errorf("let go of the addresses: %w", err)
}

// keepAddressesOnce looks, if an event or the time asks for it, and announces
// what is due. It returns when to come again.
func (v *VIP) keepAddressesOnce(event bool) time.Duration {
	now := time.Now()
	hold, answer := v.allowed()
	if event || hold != v.holding || now.Sub(v.seenAt) >= period {
		v.look(hold)
	}
	v.announce(hold && answer)
	next := period - time.Since(v.seenAt)
	if at, ok := v.announces.due(); ok {
		next = min(next, time.Until(at))
	}
	if at, ok := v.defence.due(); ok {
		next = min(next, time.Until(at))
	}
	if _, left := v.asked(); left > 0 {
		next = min(next, left)
	}
	return max(next, 0)
}

// allowed says whether the addresses may be here: the lease stands and, where
// there is a kernel lease, that has been opened first.
func (v *VIP) allowed() (hold, answer bool) {
	w, left := v.asked()
	v.mu.Lock()
	f := v.facts
	v.mu.Unlock()
	if left == 0 {
		return false, false
	}
	if !f.fence {
		// The kernel can not be silenced otherwise.
		return w.Answer, w.Answer
	}
	return f.passes, f.tells && w.Answer
}

func (v *VIP) look(hold bool) {
	v.seenAt, v.holding = time.Now(), hold
	all, err := v.reconcile(hold)
	if hold {
		err = errors.Join(err, foreign(v.targets, v.links, v.have))
	}
	carrier := v.openSegments() && v.carrier()
	if v.flaps.see(v.seenAt, carrier) {
		v.log.Warn("no carrier", "times", v.flaps.total)
	}
	var unsteady error
	if !hold {
		err = errors.Join(err, v.lost)
		unsteady = v.flaps.unsteady(v.seenAt)
	}
	var before bool
	v.learn(func(f *facts, s *State) {
		before = s.Carrier
		f.all = all
		s.Carrier, s.Losses = carrier, v.flaps.total
		if s.Unsteady == nil && unsteady != nil {
			v.log.Warn("the addresses should not come here for a while", "err", unsteady)
		}
		s.Unsteady = unsteady
		if text(err) != text(s.Err) {
			if err != nil {
				v.log.Error("the addresses are not as they should be", "err", err)
			}
			s.Err = err
		}
	})
	if carrier && !before {
		// Switches have forgotten us, and neighbours may have looked elsewhere.
		v.announces.stop()
	}
}

// reconcile compares and mends. It reports whether every address is there.
func (v *VIP) reconcile(hold bool) (all bool, err error) {
	links, have, err := look()
	if err != nil {
		return false, err
	}
	v.links, v.have = links, have
	v.followLinks()
	if !hold {
		clear(v.put)
	}
	p := decide(v.targets, links, have, hold)
	var errs []error
	var lost []error
	for _, t := range p.Lost {
		lost = append(lost, fmt.Errorf("no interface %s for %v", t.Link, t.Addr))
	}
	if v.lost = errors.Join(lost...); hold {
		// Elsewhere it does not keep us from taking away what there is.
		errs = append(errs, v.lost)
	}
	for _, a := range p.Remove {
		errs = append(errs, dropAddress(a))
	}
	if len(p.Add) > 0 {
		v.learn(func(f *facts, _ *State) { f.clear, f.bare = false, !f.fence })
	}
	paused := false
	for _, a := range p.Add {
		done, err := v.add(a)
		paused = paused || !done
		errs = append(errs, err)
	}
	for _, a := range p.Renew {
		errs = append(errs, putAddress(a))
	}
	err = errors.Join(errs...)
	if still, _ := v.allowed(); hold && !still && len(p.Add)+len(p.Renew) > 0 {
		// The lease ended while we were busy, or frozen, in between.
		kick(v.addressKick)
		_, sweepErr := sweep(v.addrs)
		return false, errors.Join(err, sweepErr)
	}
	if !hold {
		v.learn(func(f *facts, _ *State) {
			if err == nil {
				f.clear, f.bare, f.all = true, false, false
			}
		})
		return false, err
	}
	return err == nil && !paused, err
}

// added is when an address was last added, and how often the guard had taken the
// addresses by then.
type added struct {
	at    time.Time
	taken uint64
}

// add counts and names what others have removed; of what our own guard has removed
// the guard tells. False: not yet, it has just been added. That is no error: who
// has to fight for an address still is its holder.
func (v *VIP) add(to placed) (done bool, err error) {
	last, had := v.put[to.Addr]
	if wait := again - time.Since(last.at); had && wait > 0 {
		time.AfterFunc(wait, func() { kick(v.addressKick) })
		return false, nil
	}
	taken := v.guard.taken() // asked before: it was gone by then
	if err := putAddress(to); err != nil {
		return false, err
	}
	now := time.Now()
	v.put[to.Addr] = added{now, taken}
	if had {
		v.whole = false // and has to be announced
	}
	if had && taken <= last.taken {
		v.learn(func(_ *facts, s *State) { s.Readded++ })
		if times, ok := v.readds.allow(now); ok {
			v.log.Warn("an address was removed by others and added again; a network manager must leave it alone", "vip", to.Addr, "iface", to.Link.Name, "times", times)
		}
	}
	return true, nil
}

// followLinks notices interfaces that have another name, or are others.
func (v *VIP) followLinks() {
	next := refind(v.cfg.Addresses, v.targets, v.links, v.have)
	for i, t := range next {
		if was := v.targets[i]; was.Link != t.Link {
			v.log.Warn("the address has another interface now", "vip", t.Addr, "iface", t.Link, "was", was.Link)
		}
	}
	v.targets = next
}

// carrier says whether every interface that there is is of use.
func (v *VIP) carrier() bool {
	for _, t := range v.targets {
		i := slices.IndexFunc(v.links, func(l link) bool { return l.Name == t.Link })
		if i >= 0 && !v.links[i].ready() {
			return false
		}
	}
	return true
}

// announce sends what is due, and begins a burst where there was none.
func (v *VIP) announce(answering bool) {
	v.mu.Lock()
	f, restart, contested := v.facts, v.restart, v.contested
	v.restart, v.contested = false, false
	v.mu.Unlock()
	now := time.Now()
	if contested {
		v.defence.claim(now)
	}
	if !answering {
		v.defence.stop()
		v.announces.stop()
		v.whole = false
		return
	}
	if _, running := v.announces.due(); f.all && (restart || !running || !v.whole) {
		v.announces.burst(now)
	}
	v.whole = f.all
	// What is due while an address is away is not made up for: there will be a burst.
	defend, scheduled := v.defence.take(now), v.announces.take(now)
	if f.all && (defend || scheduled) {
		v.tellNeighbours()
	}
}

// tellNeighbours announces every address on every link that can carry it. The
// probe beside it makes another owner speak up.
func (v *VIP) tellNeighbours() {
	sent, errs := uint64(0), []error(nil)
	// Said before the lease is asked: a handover that ends the answers in between
	// waits for the frames.
	v.learn(func(f *facts, _ *State) { f.sends = true })
	for _, t := range v.targets {
		s := v.segments[t.Link]
		if s == nil || !s.link.ready() {
			continue
		}
		// Asked before each frame: a stale announcement moves every neighbour.
		if hold, answer := v.allowed(); !hold || !answer {
			break
		}
		for i, build := range []func(net.HardwareAddr, netip.Addr) ([]byte, error){announcement, probe} {
			frame, err := build(s.link.MAC, t.Addr)
			if err == nil {
				err = s.send(frame)
			}
			if err == nil && i == 0 {
				sent++
			}
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		v.log.Warn("announcement not sent", "err", err)
	}
	v.learn(func(f *facts, s *State) {
		f.sends = false
		s.Announced += sent
	})
}

// openSegments has a segment for every interface, as it is now. It reports
// whether all of them work.
func (v *VIP) openSegments() bool {
	own := make([]net.HardwareAddr, 0, len(v.links))
	for _, l := range v.links {
		own = append(own, l.MAC)
	}
	v.mu.Lock()
	v.own = own
	v.mu.Unlock()
	for name, s := range v.segments {
		if !slices.ContainsFunc(v.targets, func(t target) bool { return t.Link == name }) {
			s.close()
			delete(v.segments, name)
		}
	}
	good := true
	for _, t := range v.targets {
		i := slices.IndexFunc(v.links, func(l link) bool { return l.Name == t.Link })
		s := v.segments[t.Link]
		if s != nil && i >= 0 && s.link.Index == v.links[i].Index {
			s.link = v.links[i]
			continue
		}
		if s != nil {
			s.close()
			delete(v.segments, t.Link)
		}
		if i < 0 {
			continue
		}
		four, six := v.families(t.Link)
		s, err := openSegment(v.links[i], four, six, v.claimed)
		if err != nil {
			v.log.Warn("no sockets for announcements", "iface", t.Link, "err", err)
			good = false
			continue
		}
		v.segments[t.Link] = s
	}
	return good
}

// families says which ones an interface has addresses of.
func (v *VIP) families(name string) (four, six bool) {
	for _, t := range v.targets {
		if t.Link == name {
			four, six = four || t.Addr.Is4(), six || t.Addr.Is6()
		}
	}
	return four, six
}

func (v *VIP) closeSegments() {
	for _, s := range v.segments {
		s.close()
	}
}
