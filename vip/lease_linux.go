package vip

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"
)

// Between attempts to have a fence on a kernel that refuses.
const fenceRetry = 5 * time.Second

// keepLease renews the kernel lease and the guard's until ctx ends, and then
// closes it. Nothing here waits for the lock of the routing tables, which
// others on a busy machine hold for long.
func (v *VIP) keepLease(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			v.mu.Lock()
			v.ending = true
			v.mu.Unlock()
			v.keepLeaseOnce()
			return
		case <-v.leaseKick:
		case <-timer.C:
		}
		timer.Reset(v.keepLeaseOnce())
	}
}

// keepLeaseOnce makes the lease what it should be and returns when to look again.
func (v *VIP) keepLeaseOnce() time.Duration {
	w, left := v.asked()
	// First the guard, so that it knows whatever the kernel is told.
	v.tellGuard(w, left)
	if v.ensureFence(left, w.Answer) {
		v.setFence(w, left)
	}
	v.learn(func(_ *facts, s *State) { s.Term = w.Term })
	if open, answer := left > 0, left > 0 && w.Answer; open != v.open || answer != v.answered {
		v.open, v.answered = open, answer
		kick(v.addressKick)
	}
	if left == 0 {
		return period
	}
	return min(v.cfg.Lease/4, left)
}

// setFence opens, renews or closes.
func (v *VIP) setFence(w Want, left time.Duration) {
	if left > 0 {
		v.learn(func(f *facts, _ *State) { f.pass, f.answer = true, f.answer || w.Answer })
	}
	err := v.fence.open(left, w.Answer)
	if errors.Is(err, errLapsed) {
		// We were late. The lease is asked again: only one that still stands
		// opens what has closed.
		err = v.reopen()
	}
	if _, still := v.asked(); left > 0 && still == 0 && err == nil {
		// It ended while we were busy, or frozen, in between.
		err = v.fence.close()
	}
	if err != nil {
		v.loseFence(err)
		return
	}
	v.learn(v.know)
}

// know takes over what the fence has become.
func (v *VIP) know(f *facts, _ *State) {
	f.fence, f.bare = true, false
	f.pass, f.passes = v.fence.passing != closed, v.fence.passing == opened
	f.answer, f.tells = v.fence.answering != closed, v.fence.answering == opened
}

// reopen opens a fence that is in any state, or that somebody has removed.
func (v *VIP) reopen() error {
	w, left := v.asked()
	if ok, err := v.fence.inspect(); err != nil || !ok {
		v.damaged()
		return v.fence.build(left, w.Answer)
	}
	v.learn(func(_ *facts, s *State) { s.Lapsed++ })
	return v.fence.open(left, w.Answer)
}

// damaged counts and tells that the tables were not as we made them.
func (v *VIP) damaged() {
	v.learn(func(_ *facts, s *State) { s.Repaired++ })
	if times, ok := v.repairs.allow(time.Now()); ok {
		v.log.Warn("the nftables table was changed by others, made again; a firewall must leave it alone", "table", v.fence.inet.Name, "times", times)
	}
}

// ensureFence reports whether there is a kernel lease, after making one if
// necessary and possible.
func (v *VIP) ensureFence(left time.Duration, answer bool) bool {
	if v.cfg.fenceless {
		return false
	}
	if v.fence == nil {
		if time.Now().Before(v.retry) {
			return false
		}
		f := newFence(tableName(v.cfg.Name), v.addrs, v.cfg.Lease)
		f.deaf = v.deafness()
		if err := f.build(left, answer); err != nil {
			f.hangUp()
			v.retry = time.Now().Add(fenceRetry)
			v.log.Warn("no kernel lease: the other fences remain", "err", err)
			return false
		}
		v.fence = f
		v.learn(v.know)
		return true
	}
	ok, err := v.fence.intact()
	deaf := v.deafness()
	changed := !slices.Equal(deaf, v.fence.deaf)
	if err == nil && ok && !changed {
		return true
	}
	if err != nil || !ok {
		v.damaged()
	}
	v.fence.deaf = deaf
	if err := v.fence.build(left, answer); err != nil {
		v.loseFence(err)
		return false
	}
	return true
}

// loseFence goes on without a kernel lease, and tries again soon: a fence that
// can not be renewed closes by itself, and holding back would not open it.
func (v *VIP) loseFence(err error) {
	v.log.Warn("the kernel lease is lost: the other fences remain", "err", err)
	v.fence.hangUp()
	v.fence = nil
	v.retry = time.Time{}
	v.learn(func(f *facts, _ *State) { *f = facts{clear: f.clear, all: f.all, sends: f.sends, bare: !f.clear} })
	kick(v.addressKick)
}

// tellGuard gives the guard its order. It has a deadline for as long as
// anything may be left, also after the lease.
func (v *VIP) tellGuard(w Want, left time.Duration) {
	v.mu.Lock()
	clear, fenced, released, words := v.state.Clear, v.facts.fence, v.released, v.words
	v.mu.Unlock()
	switch {
	case left > 0:
		// Where the kernel lease ends the answers to the millisecond, the guard leaves
		// a busy holder a little longer before it takes the addresses away. That is
		// still before anybody else can be elected: the lease is at most half of the
		// time that takes.
		grace := time.Duration(0)
		if fenced {
			grace = v.cfg.Lease / 2
		}
		v.deadline = bootTime() + int64(left+grace)
	case clear:
		v.deadline = 0
	}
	if (v.said.words != words || v.said.term != w.Term) && left > 0 {
		v.said = spoken{term: w.Term, words: words}
		if released != nil {
			v.said.message = released(w.Term)
		}
		if len(v.said.message) > maxMessage {
			v.log.Error("the guard's words are too long, it will say nothing", "bytes", len(v.said.message))
			v.said.message = nil
		}
	}
	o := order{Holder: os.Getpid(), Addrs: v.addrs, Table: tableName(v.cfg.Name), Fence: fenced, Deadline: v.deadline}
	if v.deadline != 0 {
		o.Message = v.said.message
	}
	v.guard.tell(o)
}
