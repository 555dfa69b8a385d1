package direct

import "time"

// judge decides about frames of one link. It is for one goroutine.
type judge struct {
	neighbours *neighbours
	totals     *totals
	pieces     *pieces
	tar        bucket

	// kick is called when a server has become reachable.
	kick func()
}

// verdict is what becomes of a frame: it is sent on, answered, or neither.
type verdict uint8

const (
	drop   verdict = iota
	sendOn         // the frame, as it has been changed
	answer         // what was put behind b
)

// frame decides about one. A frame to send on is changed in place; an answer is put at
// the end of b, which is returned. packets and answers say what is allowed.
func (j *judge) frame(p *plan, frame, b []byte, packets, answers bool, now time.Time) (verdict, []byte) {
	k := parse(frame)
	switch k.kind {
	case broken:
		if p.routes[k.dst] != nil {
			j.totals.broken.Add(1)
		}
	case arpAsk, ndAsk:
		if !k.src.IsUnspecified() {
			j.learn(&k)
		}
		return j.question(p, &k, b, answers)
	case arpTell, ndTell:
		j.learn(&k)
	case segment:
		if p.routes[k.dst] == nil {
			return j.stranger(p, frame, &k, b, answers, now)
		}
		return j.forward(p, frame, &k, packets, now), b
	case piece, report:
		return j.forward(p, frame, &k, packets, now), b
	}
	return drop, b
}

func (j *judge) learn(k *packet) {
	if j.neighbours.learn(k.src, k.from) {
		j.kick()
	}
}

// question answers who asks for an address of ours, or of nobody's. Who looks whether
// an address is free, or says that it has it, is not lured.
func (j *judge) question(p *plan, k *packet, b []byte, answers bool) (verdict, []byte) {
	switch {
	case !answers || k.src == k.dst || k.from == p.own:
	case p.answers(k.dst):
		j.totals.answers.Add(1)
		return answer, tell(b, p.own, k.dst, k.from, k.src)
	case !k.src.IsUnspecified() && p.trap(k.dst):
		if !j.tar.take() {
			j.totals.spared.Add(1)
			break
		}
		j.totals.lured.Add(1)
		return answer, tell(b, p.own, k.dst, k.from, k.src)
	}
	return drop, b
}

// stranger accepts connections to addresses of nobody.
func (j *judge) stranger(p *plan, frame []byte, k *packet, b []byte, answers bool, now time.Time) (verdict, []byte) {
	if !answers || !k.opens() || !p.trap(k.dst) || p.local[k.src] {
		return drop, b
	}
	if !j.tar.take() {
		j.totals.spared.Add(1)
		return drop, b
	}
	j.totals.trapped.Add(1)
	return answer, swallow(b, p.own, frame, *k)
}

// forward makes the frame one for a server.
func (j *judge) forward(p *plan, frame []byte, k *packet, packets bool, now time.Time) verdict {
	if mac(frame[:6]) != p.own {
		return drop // to everybody: that is no client's
	}
	v, reported := j.server(p, k, packets, now)
	if v == nil {
		return drop
	}
	to, ok := v.neighbour.mac()
	switch {
	case !ok:
		v.of.nobody.Add(1)
		return drop
	case to == mac(frame[6:12]):
		// A server that forwards, too. It would go round for ever.
		j.totals.returned.Add(1)
		return drop
	}
	if k.kind == segment && k.more {
		j.pieces.first(k, v, now)
	}
	copy(frame, to[:])
	copy(frame[6:], p.own[:])
	s := v.of
	s.packets.Add(1)
	s.bytes.Add(uint64(len(frame)))
	v.packets.Add(1)
	v.bytes.Add(uint64(len(frame)))
	if reported {
		s.reports.Add(1)
	}
	return sendOn
}

// server finds where a packet goes; nil: nowhere, which is counted.
func (j *judge) server(p *plan, k *packet, packets bool, now time.Time) (to *server, reported bool) {
	if k.kind == piece {
		if p.routes[k.dst] == nil || !packets {
			return nil, false
		}
		if to = j.pieces.follow(k, now); to == nil || to.neighbour == nil {
			j.totals.pieces.Add(1)
			return nil, false
		}
		return to, false
	}
	r := p.route(k.dst, k.proto, k.dport)
	if r == nil {
		return nil, false
	}
	if !packets {
		j.totals.standby.Add(1)
		return nil, false
	}
	i := Nobody
	if c := r.choice.Load(); c != nil {
		i = (*c).Server(k.src, k.sport)
	}
	switch {
	case i == Denied:
		r.denied.Add(1)
		return nil, false
	case i < 0 || i >= len(r.servers) || r.servers[i].neighbour == nil:
		r.nobody.Add(1)
		return nil, false
	}
	return &r.servers[i], k.kind == report
}

// bucket bounds how often something is done in a second, and in a burst.
type bucket struct {
	left float64
	last time.Time
}

// tarRate is for answers of the tarpit on one link.
const tarRate = 1000

func (b *bucket) take() bool {
	now := time.Now()
	b.left = min(tarRate, b.left+now.Sub(b.last).Seconds()*tarRate)
	b.last = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
