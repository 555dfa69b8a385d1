package proxy

import (
	"context"
	"log/slog"
	"net/netip"

	"golang.org/x/sys/unix"
)

// filesPerFlow is what a flow needs: replies leave through the listener.
const filesPerFlow = 1

// openFlow makes a flow for a datagram of a client who has none, with a socket
// that is connected to the server. nil: there is no place or no server.
func (l *loop) openFlow(ln *listener, f *front, p *packets, i int, key flowKey, moved bool) *conn {
	if !l.room(f, key.client) {
		return nil
	}
	l.engine.conns.Add(1)
	c := l.conns.take()
	slot, _ := f.slots.take()
	c.front, c.slot, c.client = f, int32(slot), netip.AddrFrom16(key.client).Unmap()
	c.phase, c.active = phaseFlow, l.tick
	c.half[clientSide].fd, c.half[serverSide].fd = -1, -1
	fl := l.flows.add(c.place, f, key)
	fl.listener, fl.name, fl.size = ln, p.names[i], p.in[i].head.Namelen
	l.account(c, uint16(key.port))
	if moved {
		f.failovers.Add(1)
		c.trial = f.resume(c.client, uint16(key.port), l.clock)
	} else {
		f.accepted.Add(1)
		c.trial = f.begin(c.client, uint16(key.port), l.clock)
	}
	if !l.place(c) {
		l.close(c)
		return nil
	}
	l.wheel.add(&l.conns, c, c.deadline())
	if l.engine.debug() {
		l.engine.log.LogAttrs(context.Background(), slog.LevelDebug, "flow",
			slog.String("service", f.name), slog.Int("slot", slot),
			slog.Any("client", c.client), slog.Any("backend", c.server))
	}
	return c
}

// place finds a server for a flow and connects its socket. False: there is none.
func (l *loop) place(c *conn) bool {
	f := c.front
	for {
		tg, ok := f.next(&c.trial, c.client, l.clock)
		if !ok {
			return false
		}
		fd, err := l.connectFlow(c, tg.server)
		switch err {
		case 0:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			f.abandon(tg.server)
			f.lost.Add(1)
			l.blame(c, NoResources)
			return false
		case unix.EAGAIN, unix.EADDRNOTAVAIL:
			f.portless(&c.trial, tg.server, err)
			continue
		default:
			f.failed(tg.server, err, l.clock)
			continue
		}
		f.attempting(&c.trial, tg.server, c.client, l.clock)
		f.settled()
		c.server, c.half[serverSide].fd = tg.server, fd
		l.event = unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.place<<1 | serverSide, Pad: int32(c.half[serverSide].gen)}
		if epollAdd(l.epoll, fd, &l.event) != 0 {
			f.lost.Add(1)
			l.blame(c, NoResources)
			return false
		}
		return true
	}
}

// connectFlow returns a socket for c that exchanges datagrams with v, and with nobody else.
func (l *loop) connectFlow(c *conn, v *server) (int32, errno) {
	if v.path != "" {
		return -1, unix.EPROTONOSUPPORT
	}
	family := l.addr.setAddr(v.addr)
	n, err := retry(unix.SYS_SOCKET, uintptr(family), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0, 0, 0)
	if err != 0 {
		return -1, err
	}
	fd := int32(n)
	l.bindLocal(fd, family, c, v)
	l.addr.setAddr(v.addr)
	if err := connect(fd, &l.addr); err != 0 {
		closeFD(fd)
		return -1, err
	}
	return fd, 0
}

// forward sends a datagram to the server of a flow. False: the server is known
// to be away, the flow is over, and the datagram has not been sent.
func (l *loop) forward(c *conn, data []byte) bool {
	if l.dump != DumpOff {
		l.note(c, clientSide, data)
	}
	_, err := send(c.half[serverSide].fd, data)
	switch {
	case err == 0:
		c.half[clientSide].read += uint64(len(data))
		if l.onRequest != nil {
			l.request(c, data)
		}
	case away(err):
		l.broke(c, err)
		return false
	default:
		c.front.spilled.Add(1)
	}
	c.active = l.tick
	return true
}

// away tells whether an error on a flow's socket is news of its server, which
// came as an ICMP message. Others are about one datagram, or this machine.
func away(err errno) bool {
	switch err {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENOPROTOOPT:
		return true
	}
	return false
}

// broke ends a flow whose server is away, and counts that as a connect that failed.
func (l *loop) broke(c *conn, err errno) {
	c.front.broke(c.server, err, l.clock)
	l.end(c, ServerUnreachable)
}

// singly is how many datagrams of a server are taken one by one until it is looked
// whether more of them wait together. Mostly one does, the answer to one question.
const singly = 16

// take takes what a server has sent, as many datagrams as were there together lately.
func (fl *flow) take(p *packets, fd int32) (int, errno) {
	if fl.singles < singly {
		fl.singles++
		return 1, p.receiveOne(fd)
	}
	n, err := p.receive(fd, false)
	if n <= 1 {
		fl.singles = 0
	}
	return n, err
}

// answer passes on what a server has sent.
func (l *loop) answer(c *conn) {
	p, fl := l.datagrams(), l.flows.at(c.place)
	n, err := fl.take(p, c.half[serverSide].fd)
	if err != 0 {
		if away(err) {
			l.broke(c, err)
		}
		return
	}
	if !fl.answered {
		fl.answered = true
		c.front.answered(c.server, l.clock)
		l.answered(c)
	}
	ln := fl.listener
	for i := range n {
		if l.dump != DumpOff {
			l.note(c, serverSide, p.data(i))
		}
		c.half[serverSide].read += uint64(p.in[i].n)
	}
	_, dropped := p.reply(ln.socks[l.index], n, &fl.name, fl.size, p.leaveFrom(fl.key.local, ln.domain))
	c.front.spilled.Add(uint64(dropped))
	c.active = l.tick
}

// room takes a place for a flow of that client. Where there is none left,
// another flow ends for it; but a conversation does not as long as another loop has
// more than its share: that one is asked, and the client's next datagram finds a place.
func (l *loop) room(f *front, client [16]byte) bool {
	if l.reserveFlow(f) {
		return true
	}
	most := f.settings.Load().ConnMax
	share := most / l.engine.width()
	cr := l.flows.crowd(f)
	poor := cr == nil || cr.count < share
	if poor {
		l.engine.makeRoom(f, l, share)
	}
	poor = poor && f.places.Load() >= int64(most) // otherwise it is descriptors that lack
	place, ok := l.flows.victim(cr, client, max(share/tenantShare, 1))
	if ok && (!poor || !l.flows.talks(place, client)) {
		f.evicted.Add(1)
		l.end(l.conns.at(place), Evicted)
		if l.reserveFlow(f) {
			return true
		}
	}
	f.full.Add(1)
	return false
}

// tenantShare: who has one part in so many of all places, or more, gets another
// one only by giving up one of his own, when all are taken.
const tenantShare = 4

func (l *loop) reserveFlow(f *front) bool {
	if !l.engine.take(filesPerFlow) {
		return false
	}
	if f.places.Add(1) > int64(f.settings.Load().ConnMax) {
		f.places.Add(-1)
		l.engine.give(filesPerFlow)
		return false
	}
	return true
}

// makeRoom has another loop end a flow of f, if it has more than its share. One
// such wish is under way at a time.
func (e *engine) makeRoom(f *front, from *loop, share int) {
	if !f.asked.CompareAndSwap(false, true) {
		return
	}
	asked := false
	for _, other := range e.running() {
		if other != from && other.post(func(l *loop) {
			f.asked.Store(false)
			cr := l.flows.crowd(f)
			if cr == nil || cr.count <= share {
				return
			}
			if place, ok := l.flows.victim(cr, [16]byte{}, 1); ok {
				f.evicted.Add(1)
				l.end(l.conns.at(place), Evicted)
			}
		}) {
			asked = true
		}
	}
	if !asked {
		f.asked.Store(false)
	}
}

// endFlows ends all flows of a listener.
func (l *loop) endFlows(ln *listener) {
	l.conns.all(func(c *conn) {
		if c.phase == phaseFlow && l.flows.at(c.place).listener == ln {
			l.end(c, ListenerClosed)
		}
	})
}

// datagrams returns where the loop has datagrams. Only loops that carry some have it.
func (l *loop) datagrams() *packets {
	if l.packets == nil {
		l.packets = newPackets()
	}
	return l.packets
}
