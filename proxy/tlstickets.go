package proxy

import (
	"context"
	"crypto/rand"
	"slices"
	"sync/atomic"
	"time"

	"pen/state"
)

// A key of session tickets is new for ticketAge, and opens tickets for as long as
// it is among those that the state keeps: a session can be resumed for a day at
// least.
const (
	ticketAge  = 8 * time.Hour
	ticketLook = time.Minute // how often somebody looks, and tries again
)

// ticketRing is the keys of session tickets for all services. While there are none
// each certificate has its own, which no other node knows.
type ticketRing struct{ now atomic.Pointer[ticketKeys] }

type ticketKeys struct {
	version uint64     // differs from that of other keys; never 0
	keys    [][32]byte // the first seals
}

// set takes over the keys of the state.
func (r *ticketRing) set(all []state.TicketKey) {
	if len(all) == 0 {
		return
	}
	version := uint64(all[0].Since)
	if now := r.now.Load(); now != nil && now.version == version {
		return
	}
	k := &ticketKeys{version: version}
	for _, t := range all {
		k.keys = append(k.keys, t.Key)
	}
	r.now.Store(k)
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
	for {
		var look <-chan time.Time
		if p.talksTLS() {
			look = time.After(ticketLook)
			if all := p.tickets(); p.serving() && p.opts.Clock.At(time.Now()) >= ticketDue(all) {
				p.rotate(ctx, all)
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
func (p *Proxy) rotate(ctx context.Context, all []state.TicketKey) {
	o := state.RotateTickets{}
	if len(all) > 0 {
		o.Was = all[0].Since
	}
	_, _ = rand.Read(o.Key[:]) // never fails, see there
	if p.opts.Propose == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ticketLook)
	defer cancel()
	r, err := p.opts.Propose(ctx, state.Command{Time: p.opts.Clock.At(time.Now()), By: "tls", Ops: []state.Op{o}})
	if err == nil {
		err = r.Err
	}
	if err != nil && ctx.Err() == nil && p.ticketless.due(time.Now(), time.Hour) {
		p.log.Warn("no new key for session tickets: sessions are not resumed on another node", "err", err)
	}
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
	p.ring.set(all)
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
