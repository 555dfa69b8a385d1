package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	receiveMost = 512 // datagrams taken from a listener in one turn
	freshMost   = 64  // new flows in one turn; who waits then has his turn in the next
	freshFlood  = 1   // the same under pressure, when the others are dropped

	// pressure is how long datagrams may wait in the listener all the time until the
	// new among them are dropped, so that the known ones are not; and it is over
	// when nothing was dropped for so long as calm.
	pressure = 10 * time.Millisecond
	calm     = time.Second
)

// flood is what a loop knows of the pressure at a listener.
type flood struct {
	since time.Time // datagrams were left over in each turn since; zero: were not in the last
	until time.Time // so long new flows are few
}

// left notes that a turn has left datagrams over, and tells whether that is a
// flood now that was none before.
func (fl *flood) left(now time.Time) bool {
	if fl.since.IsZero() {
		fl.since = now
	}
	if now.Sub(fl.since) < pressure {
		return false
	}
	news := !now.Before(fl.until)
	fl.until = now.Add(calm)
	return news
}

// receive takes in datagrams that wait at a listener. Known clients have theirs
// forwarded whatever happens. To make a flow costs ten times as much, so a flood of
// datagrams from everywhere may not have as many as it likes.
func (l *loop) receive(ln *listener) {
	f := ln.front.Load()
	if f == nil || ln.retired.Load() {
		return
	}
	sock := ln.socks[l.index]
	if l.engine.standing.Load() {
		discard(sock, receiveMost)
		return
	}
	p, fl := l.datagrams(), &ln.floods[l.index]
	flooded, most := l.now.Before(fl.until), freshMost
	if flooded {
		most = freshFlood
	}
	for got, fresh := 0, 0; got < receiveMost && (flooded || fresh < most); {
		n, err := p.receive(sock, true)
		if err != 0 {
			fl.since = time.Time{}
			return
		}
		for i := range n {
			switch l.datagram(ln, f, p, i, !flooded || fresh < most) {
			case isFresh:
				fresh++
			case isDropped:
				f.flooded.Add(1)
				fl.until = l.now.Add(calm)
			}
		}
		if got += n; n < batchSize {
			fl.since = time.Time{}
			return
		}
	}
	if fl.left(l.now) && ln.warned.due(l.now, lackWarning) {
		l.engine.log.Warn("flooded: most datagrams of new clients are dropped", "listener", ln.String())
	}
}

// fate is what became of a datagram.
type fate uint8

const (
	isKnown   fate = iota // it belongs to a flow
	isFresh               // a flow was made for it, or there was no place or server
	isDropped             // no flow may be made now
)

// datagram deals with datagram i. A flow whose server is shunned or gone is placed
// again, and so is one whose server turns out to be away.
func (l *loop) datagram(ln *listener, f *front, p *packets, i int, may bool) fate {
	client, port, scope := p.sender(i)
	if port == 0 {
		return isKnown // nobody can answer that
	}
	key := flowKey{client: client, scope: scope, listener: ln.id, port: uint32(port)}
	if ln.anywhere {
		key.local = p.local(i)
	}
	moved := false
	if place, ok := l.flows.find(&key); ok {
		c := l.conns.at(place)
		if c.front == f && f.keeps(c.server, l.clock) {
			l.flows.used(place)
			if l.forward(c, p.data(i)) {
				return isKnown
			}
		} else {
			l.end(c, Moved)
		}
		moved = true
	}
	if !moved && !may {
		return isDropped
	}
	if c := l.openFlow(ln, f, p, i, key, moved); c != nil {
		l.forward(c, p.data(i))
	}
	return isFresh
}

// discard throws away datagrams that wait at a socket, so many at most.
func discard(fd int32, most int) {
	var none [1]byte
	for range most {
		if _, err := recv(fd, none[:]); err == unix.EAGAIN || err == unix.EBADF || err == unix.ENOTSOCK {
			return
		}
	}
}
