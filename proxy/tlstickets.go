package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"pen/state"
)

// A key of session tickets is new for ticketAge, and opens tickets for as long as
// it is among those that the state keeps: a session can be resumed for a day at
// least.
const (
	ticketAge   = 8 * time.Hour
	ticketLook  = time.Minute     // how often somebody looks
	ticketRetry = 5 * time.Second // and tries again
)

// ticketRing is the keys of session tickets for all services. While there are none
// each certificate has its own, which no other node knows.
type ticketRing struct{ now atomic.Pointer[ticketKeys] }

type ticketKeys struct {
	version uint64     // differs from that of other keys; never 0
	keys    [][32]byte // the first seals
}

// set takes over the keys of the state, and tells whether there is a new one.
func (r *ticketRing) set(all []state.TicketKey) bool {
	if len(all) == 0 {
		return false
	}
	version := uint64(all[0].Since)
	if now := r.now.Load(); now != nil && now.version == version {
		return false
	}
	k := &ticketKeys{version: version}
	for _, t := range all {
		k.keys = append(k.keys, t.Key)
	}
	r.now.Store(k)
	return true
}

// ticketDue tells when there has to be a new key.
func ticketDue(all []state.TicketKey) state.Time {
	if len(all) == 0 {
		return 0
	}
	return all[0].Since + state.Time(ticketAge.Milliseconds())
}

// keepTickets sees to it that there is a key, and a new one now and then, as long
// as this node serves clients over TLS. Where several nodes do, the state lets one
// of them succeed.
func (p *Proxy) keepTickets(ctx context.Context) {
	var without time.Time // since when proposing has failed
	for {
		var look <-chan time.Time
		if p.talksTLS() {
			look = time.After(ticketLook)
			if all := p.tickets(); p.serving() && p.opts.Clock.At(time.Now()) >= ticketDue(all) {
				if without = p.missed(without, p.rotate(ctx, all)); !without.IsZero() {
					look = time.After(ticketRetry)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-look:
		case <-p.ticketNews:
		}
	}
}

// rotate proposes a new key.
func (p *Proxy) rotate(ctx context.Context, all []state.TicketKey) error {
	o := state.RotateTickets{}
	if len(all) > 0 {
		o.Was = all[0].Since
	}
	_, _ = rand.Read(o.Key[:]) // never fails, see there
	if p.opts.Propose == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ticketLook)
	defer cancel()
	r, err := p.opts.Propose(ctx, state.Command{Time: p.opts.Clock.At(time.Now()), By: "tls", Ops: []state.Op{o}})
	if err == nil {
		err = r.Err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}

// missed notes that there is no new key, and returns since when. A cluster that has
// just been founded can have none in its first moments, so that is said later.
func (p *Proxy) missed(since time.Time, err error) time.Time {
	now := time.Now()
	switch {
	case err == nil:
		return time.Time{}
	case since.IsZero():
		return now
	case now.Sub(since) >= ticketLook && p.ticketless.due(now, time.Hour):
		p.log.Warn("no new key for session tickets: sessions are not resumed on another node", "err", err)
	}
	return since
}

func (p *Proxy) tickets() []state.TicketKey {
	if all := p.ticketKeys.Load(); all != nil {
		return *all
	}
	return nil
}

// takeTickets notes the keys of a view, and has somebody look at them.
func (p *Proxy) takeTickets(v *state.View) {
	all := slices.Clone(v.Tickets())
	p.ticketKeys.Store(&all)
	if p.ring.set(all) {
		p.log.Info("new key for session tickets")
	}
	p.lookAtTickets()
}

func (p *Proxy) lookAtTickets() {
	select {
	case p.ticketNews <- struct{}{}:
	default:
	}
}

func (p *Proxy) talksTLS() bool {
	for _, f := range *p.fronts.Load() {
		if f.secure.Load() != nil {
			return true
		}
	}
	return false
}
