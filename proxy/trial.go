package proxy

import (
	"math"
	"net/netip"
	"time"

	"pen/state"
)

// trial is one connection's way through the servers: which one is next, and
// what is left when that one cannot be had. It is kept in the connection.
type trial struct {
	slot   int32 // of the client in the client table; -1: it has none yet
	at     int16 // the server to try next, or tried last
	known  int16 // the server that the client's slot remembers
	left   int16 // servers left in the round
	stage  stage
	why    refusal // counted when no server is found
	tries  uint8   // servers tried, 255 at most
	sticky bool    // the first choice was the server that the client had
	full   bool    // a server was passed over because it has all that it may have
	idler  bool    // there is no client, see idlers
}

// noClient stands for the client of an idler.
var noClient netip.Addr

// stage is how far a trial has come.
type stage uint8

const (
	chosen    stage = iota // nothing tried: at is the first choice
	scanning               // the first choice was tried
	exhausted              // nothing follows what is being tried
)

// refusal is why a client was sent away without a server.
type refusal uint8

const (
	refusedServers refusal = iota // no server could be had
	refusedACL                    // client_acl denies the client, and there is no abuse server
	refusedAbuse                  // the abuse server could not be had
	refusedPorts                  // a server was passed over for lack of a local port, and no other could be had
	refusals
)

// String is the reason's name in counters.
func (r refusal) String() string {
	return [...]string{refusedServers: "no_server", refusedACL: "denied", refusedAbuse: "no_abuse_server", refusedPorts: "ports"}[r]
}

// target is a server to connect to. A place at it is taken, and the attempt
// ends with exactly one of connected, failed and abandon.
type target struct {
	server *server
	source netip.Addr // local address to connect from; invalid: the kernel's choice
}

// begin starts the trial of a new connection: it notes the client's visit and
// makes the first choice. The invalid client stands for all on Unix sockets.
func (s *service) begin(client netip.Addr, port uint16, now state.Time) trial {
	client = bare(client)
	known, slot := s.memory.visit(client, now)
	return s.opening(client, port, known, slot, now)
}

// opening makes the first choice for a client that remembers the known server.
func (s *service) opening(client netip.Addr, port uint16, known, slot int, now state.Time) trial {
	p := s.plan.Load()
	t := trial{known: int16(known), slot: int32(slot)}
	switch {
	case !p.lists.permits(p.ClientACL, client):
		t.deny(p)
	case !p.RoundRobin && p.usable(known):
		t.at, t.sticky = t.known, true
	default:
		t.at = int16(s.choose(p, client, port, now))
	}
	return t
}

// beginIdler makes the first choice for an idler: whoever's turn it is.
func (s *service) beginIdler(now state.Time) trial {
	p := s.plan.Load()
	at := s.draw(p, question{method: byTurn}, now)
	return trial{slot: -1, at: int16(at), known: state.None, idler: true}
}

// bars tells whether there is nothing for the client here, whatever he says.
func (s *service) bars(client netip.Addr) bool {
	p := s.plan.Load()
	return p.abuse == nil && !p.lists.permits(p.ClientACL, bare(client))
}

// deny sends the trial to the abuse server, or nowhere: not on to the others,
// nor to the emergency server.
func (t *trial) deny(p *plan) {
	t.at, t.why = state.Abuse, refusedAbuse
	if p.abuse == nil {
		t.at, t.stage, t.why = state.None, exhausted, refusedACL
	}
}

// next finds the next server that may be tried and takes a place at it. False
// means that there is none: the connection is to be closed, and that is counted.
func (s *service) next(t *trial, client netip.Addr, now state.Time) (target, bool) {
	p := s.plan.Load()
	client = bare(client)
	for t.advance(p) {
		if seat := p.seat(int(t.at)); seat != nil && p.admits(seat, t, client, now) {
			s.pending.Add(1)
			if t.tries > 0 && !t.idler {
				s.failovers.Add(1)
			}
			t.tries = max(t.tries, t.tries+1)
			return target{server: seat.server, source: p.Source}, true
		}
	}
	if !t.idler {
		s.refused[t.why].Add(1)
	}
	return target{}, false
}

// advance moves on to the next candidate: the first choice, then one round by
// index from there up to and including the first choice, then the emergency
// server. After the emergency or the abuse server nothing follows.
func (t *trial) advance(p *plan) bool {
	n := len(p.seats)
	if t.stage == chosen {
		t.stage = scanning
		switch {
		case t.at == state.Abuse:
			t.stage = exhausted
			return true
		case t.at != state.None:
			if n > 1 {
				t.left = int16(n)
			}
			return true
		}
	}
	switch {
	case t.stage == exhausted || p.Stubborn:
		return false
	case t.left > 0 && n > 1:
		t.left--
		t.at = int16((int(t.at) + 1) % n)
		return true
	}
	t.stage, t.at = exhausted, state.Emergency
	return p.emergency != nil && !t.idler
}

// admits tells whether the server may be tried for the client, and takes a
// place if so. Who already has the server may use its extra places.
func (p *plan) admits(seat *seat, t *trial, client netip.Addr, now state.Time) bool {
	if !seat.usable || seat.server.shunned(now, p.Blacklist) {
		return false
	}
	if t.at >= 0 && !p.lists.permits(seat.acl, client) {
		return false
	}
	limit := int64(math.MaxInt64)
	if seat.soft != 0 {
		limit = int64(seat.soft)
		if t.known == t.at {
			limit = max(limit, int64(seat.hard))
		}
	}
	took := seat.server.take(limit)
	t.full = t.full || !took
	return took
}

// attempting notes that a connect to v is under way or done: from this moment
// the client has this server, whatever becomes of the attempt.
func (s *service) attempting(t *trial, v *server, client netip.Addr, now state.Time) {
	v.attempts.Add(1)
	s.current.Store(int32(v.index))
	if int(t.known) != v.index && !t.idler {
		t.known = int16(v.index)
		s.memory.put(bare(client), v.index, now)
	}
}

// connected notes that the connect to v has succeeded; its place stays taken
// until release.
func (s *service) connected(v *server, now state.Time) {
	s.pending.Add(-1)
	s.answered(v, now)
}

// answered lifts the mark of a server that has shown that it is there. One that
// was set while it was being asked stays, because somebody knows something newer.
func (s *service) answered(v *server, now state.Time) {
	mark := v.mark.Load()
	if mark == 0 || v.shunned(now, s.plan.Load().Blacklist) || !v.mark.CompareAndSwap(mark, 0) {
		return
	}
	s.herald.queue(v)
	s.log.Info("server answers again", "service", s.name, "server", v.index, "backend", v)
}

// failed notes that the connect to v was refused, timed out or could not be
// begun: v is shunned, and the place is free again.
func (s *service) failed(v *server, reason error, now state.Time) {
	s.pending.Add(-1)
	v.give()
	v.failures.Add(1)
	s.shun(v, reason, now)
}

// shun marks v as failed now.
func (s *service) shun(v *server, reason error, now state.Time) {
	shunned := v.shunned(now, s.plan.Load().Blacklist)
	v.fail(now)
	s.herald.queue(v)
	if !shunned { // one line for a burst that fails together
		s.log.Warn("blacklisting server", "service", s.name, "server", v.index, "backend", v, "err", reason)
	}
}

// abandon ends an attempt that says nothing about v: the client has gone, or
// this node lacks something.
func (s *service) abandon(v *server) {
	s.pending.Add(-1)
	v.give()
}

// portless ends an attempt for which this node has no local port or address
// left. It says nothing about v, but it is why the client may find no server.
func (s *service) portless(t *trial, v *server, reason error) {
	s.abandon(v)
	t.why = refusedPorts
	if s.ports.due(time.Now(), lackWarning) {
		s.log.Warn("no local port to connect from", "service", s.name, "server", v.index, "backend", v, "err", reason)
	}
}

// release gives back the place of a connection to v that has ended.
func (s *service) release(v *server) { v.give() }

// credit adds what a connection has carried to its client's counters: bytes
// sent to the client and received from it. It may be called more than once for
// a connection, with what is new.
func (s *service) credit(t *trial, client netip.Addr, sent, received uint64) {
	s.memory.credit(bare(client), int(t.slot), tally{sent: sent, received: received})
}

// bare is the address by which a client is known: IPv4 clients of an IPv6
// listener are the IPv4 clients that they are, and a zone says nothing.
func bare(client netip.Addr) netip.Addr { return client.Unmap().WithZone("") }
