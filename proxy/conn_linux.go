package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"pen/state"
)

// conn is one client's connection with all that is known about it. An idle one
// costs nothing but this.
type conn struct {
	front  *front
	server *server // being connected to or connected; nil: none yet
	client netip.Addr
	half   [2]half
	trial  trial

	place      int32  // in the slab
	next, prev int32  // neighbours in the wheel; next also chains free places
	slot       int32  // number of the connection within its service
	active     tick   // last moved bytes, or began to connect
	spoke      uint16 // list of the wheel that it is in, counted from 1; 0: none
	phase      phase
	queued     bool // is among those that did not finish their turn
}

// half is one side of a connection, and the way from it to the other side.
type half struct {
	fd    int32  // -1: none
	gen   uint32 // changes when fd does, so that old events are known as such
	flags flags
	owed  uint32 // size of held at the last credit
	held  *stash // read from here and not taken by the other side
	read  uint64 // bytes read from here since the last credit
}

// The two sides.
const (
	clientSide = 0
	serverSide = 1
)

type phase uint8

const (
	phaseFree    phase = iota
	phaseHeader        // waits for the header that says for whom the client comes
	phaseStarved       // waits for a descriptor to connect with
	phaseBusy          // waits for room in the backlog of a server on a Unix socket
	phasePage          // has no server: waits for the client to say something, see page
	phaseConnecting
	phaseOpen
	phaseClosing // one side broke; what came from it is still delivered
	phaseFlow    // datagrams; there is a socket to the server alone, see flow
)

// flags say what is known about a half.
type flags uint16

const (
	readable flags = 1 << iota // there may be something to read
	writable                   // writing may succeed
	hungUp                     // the peer has ended: what can be read now is the rest
	exact                      // a short read proves nothing: read until there is no more
	ended                      // the end of the stream, or an error, was read
	passed                     // and the other side knows
	deaf                       // writing failed for good
	broken                     // reading failed: the stream was cut off
	bulk                       // reads fill the buffer: splice
	copying                    // can not be spliced
	wrote                      // has been written to
	prompt                     // has TCP_NODELAY, or need not have it
)

func (h *half) is(f flags) bool { return h.flags&f != 0 }

// lingering is how long the rest of a broken connection may go without being
// taken before it is given up.
const lingering = 10 * time.Second

// connEvents is what a connection is registered for, once.
const connEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET

// watch registers one side of a connection.
func (l *loop) watch(c *conn, side int) errno {
	h := &c.half[side]
	l.event = unix.EpollEvent{Events: connEvents, Fd: c.place<<1 | int32(side), Pad: int32(h.gen)}
	return epollAdd(l.epoll, h.fd, &l.event)
}

// welcome takes a client in, for which there is a place, and looks for a server.
func (l *loop) welcome(ln *listener, f *front, fd int32) {
	if f.secure.Load() != nil || headsOf(f.settings.Load()) != nil {
		l.handOver(l.engine.serving, f, fd)
		return
	}
	l.engine.conns.Add(1)
	f.accepted.Add(1)
	c := l.conns.take()
	slot, _ := f.slots.take()
	client, port := l.addr.peer()
	c.front, c.slot, c.client = f, int32(slot), client
	c.phase = phaseConnecting
	c.half[serverSide].fd = -1
	c.half[clientSide].fd, c.half[clientSide].flags = fd, writable
	if ln.path != "" {
		c.half[clientSide].flags |= exact
	}
	l.account(c, port)
	gen := c.half[clientSide].gen
	if f.expects(client) {
		l.await(c)
	} else {
		l.enter(c, ends{client: netip.AddrPortFrom(client, port)}, nil)
	}
	if c.half[clientSide].gen != gen {
		return // it came to nothing
	}
	if err := l.watch(c, clientSide); err != 0 {
		f.lost.Add(1)
		l.end(c, NoResources)
	}
}

// enter looks for a server for a client of whom we know who he is. early is what he
// has sent already, as far as it was read.
func (l *loop) enter(c *conn, e ends, early []byte) {
	if a := l.accounts.at(c.place); a != nil {
		a.port = e.client.Port()
	}
	if len(early) > 0 && l.dump != DumpOff {
		l.note(c, clientSide, early)
	}
	if c.front.settings.Load().Dummy {
		l.present(c, len(early))
		return
	}
	c.trial = c.front.begin(c.client, e.client.Port(), l.clock)
	n := 0
	if len(early) > 0 || c.front.announces() {
		n = l.prepare(c, e, early)
		c.half[clientSide].read = uint64(len(early))
	}
	l.taste(c, n)
	l.choose(c)
}

// tasteSize is how much of what a client has sent already is read before its
// server is connected to.
const tasteSize = 1 << 10

// taste reads what the client has sent with the handshake, if anything. It would
// be read a moment later anyway; read now, it can go out to the server together
// with the end of that handshake, which saves both a packet. Until then it is
// held, whichever server it goes to in the end. The client is not being watched
// yet: that begins with a report of what there is to read. The first n bytes of the
// buffer go before. Who is told of requests wants each in one piece, and with the
// server: then nothing is read yet.
func (l *loop) taste(c *conn, n int) {
	h := &c.half[clientSide]
	if n < tasteSize && l.onRequest == nil {
		if m, _ := recv(h.fd, l.buf[n:tasteSize]); m > 0 {
			if l.dump != DumpOff {
				l.note(c, clientSide, l.buf[n:n+m])
			}
			h.read += uint64(m)
			n += m
		}
	}
	if n > 0 {
		h.held = l.pool.keep(l.buf[:n])
	}
}

// choose goes through the servers until one is being connected to, and closes
// the connection if there is none left.
func (l *loop) choose(c *conn) {
	for {
		tg, ok := c.front.next(&c.trial, c.client, l.clock)
		if !ok {
			c.server = nil
			if h := &c.half[clientSide]; h.read > 0 {
				resetOnClose(h.fd) // something that it sent is lost
			}
			l.close(c)
			return
		}
		c.server = tg.server
		if l.dial(c) {
			return
		}
	}
}

// dial begins to connect to c.server. False means that this came to nothing,
// has been noted, and that the next server is to be tried.
func (l *loop) dial(c *conn) bool {
	f := c.front
	set := f.settings.Load()
	c.phase, c.active = phaseConnecting, l.tick
	fd, err := l.begin(c, set)
	switch err {
	case 0, unix.EINPROGRESS:
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		c.phase = phaseStarved
		l.wheel.add(&l.conns, c, l.tick+1)
		return true
	case unix.EAGAIN:
		if c.server.path == "" { // no port for the address, says connect(2)
			f.portless(&c.trial, c.server, err)
			return false
		}
		c.phase = phaseBusy
		l.wheel.add(&l.conns, c, l.tick+1)
		return true
	case unix.EADDRNOTAVAIL:
		f.portless(&c.trial, c.server, err)
		return false
	default:
		f.failed(c.server, err, l.clock)
		return false
	}
	h := &c.half[serverSide]
	h.fd, h.flags = fd, 0
	if c.server.path != "" {
		h.flags = exact | prompt
	}
	if e := l.watch(c, serverSide); e != 0 {
		closeFD(fd)
		h.fd = -1
		f.lost.Add(1)
		l.end(c, NoResources)
		return true
	}
	f.attempting(&c.trial, c.server, c.client, l.clock)
	if err == 0 {
		l.connected(c)
		return true
	}
	l.wheel.add(&l.conns, c, c.deadline())
	return true
}

// begin makes a socket and connects it to the server of c, to write to it at once if
// there is something to write. With a result other than success or EINPROGRESS there
// is no socket.
func (l *loop) begin(c *conn, set *state.Settings) (int32, errno) {
	v, eager := c.server, c.half[clientSide].held != nil
	family := unix.AF_UNIX
	if v.path == "" {
		family = unix.AF_INET6
		if v.addr.Addr().Is4() {
			family = unix.AF_INET
		}
	}
	fd, err := newSocket(family)
	if err != 0 {
		return -1, err
	}
	if family != unix.AF_UNIX {
		if eager {
			// The last packet of the handshake waits for the first bytes. Without
			// any, a server that speaks first would wait as well.
			setFlag(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, false)
		}
		if set.Keepalive {
			setFlag(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, true)
		}
		l.bindLocal(fd, family, c, v)
		l.addr.setAddr(v.addr)
	} else if !l.addr.setPath(v.path) {
		closeFD(fd)
		return -1, unix.ENAMETOOLONG
	}
	if err = connect(fd, &l.addr); err != 0 && err != unix.EINPROGRESS {
		closeFD(fd)
	}
	return fd, err
}

// bindSource gives a socket its local address and leaves the port to connect,
// which finds one that is free for this server, not free altogether. An address
// that does not fit is left out, as in the original.
func (l *loop) bindSource(fd int32, family int, source netip.Addr) {
	setFlag(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, true)
	if l.addr.setAddr(netip.AddrPortFrom(source, 0)) != family {
		l.engine.unbound(source, unix.EAFNOSUPPORT)
	} else if err := bind(fd, &l.addr); err != 0 {
		l.engine.unbound(source, err)
	}
}

// deadline is when the wheel should look at c again.
func (c *conn) deadline() tick {
	set := c.front.settings.Load()
	switch c.phase {
	case phaseHeader:
		return c.active + ticks(headerTime)
	case phaseConnecting, phaseStarved, phaseBusy:
		return c.active + ticks(time.Duration(max(set.Timeout, 1))*time.Second)
	case phaseClosing:
		return c.active + ticks(lingering)
	}
	idle := idleOf(set)
	if c.phase == phaseFlow && idle == 0 {
		idle = flowIdle // the service carries something else by now
	}
	if idle == 0 {
		return 0
	}
	return c.active + ticks(idle)
}

// due is called when the wheel has come round to c.
func (l *loop) due(c *conn) {
	t := c.deadline()
	if t == 0 {
		return
	}
	late := t <= l.tick
	switch {
	case c.phase == phaseConnecting && late:
		l.failed(c, unix.ETIMEDOUT)
	case c.phase == phaseHeader && late:
		l.spurn(c, spurnedHeaderTime)
	case c.phase == phaseStarved && late:
		c.front.lost.Add(1)
		l.end(c, NoResources)
	case c.phase == phaseBusy && late:
		c.front.failed(c.server, unix.EAGAIN, l.clock)
		l.choose(c)
	case c.phase == phaseStarved, c.phase == phaseBusy:
		begun := c.active
		if !l.dial(c) {
			l.choose(c)
		} else if c.phase == phaseStarved || c.phase == phaseBusy {
			c.active = begun
		}
	case c.phase == phaseClosing:
		l.relay(c)
	case late:
		l.end(c, Idle)
	default:
		l.wheel.add(&l.conns, c, t)
	}
}

// connected is called when the server has answered the connect.
func (l *loop) connected(c *conn) {
	f := c.front
	c.phase, c.active = phaseOpen, l.tick
	c.half[serverSide].flags |= writable
	if !f.settings.Load().NoDelay {
		c.half[serverSide].flags |= prompt
	}
	f.connected(c.server, l.clock)
	if a := l.accounts.at(c.place); a != nil {
		a.connected = a.since(l.now)
	}
	l.kick(f)
	l.wheel.remove(&l.conns, c)
	if t := c.deadline(); t != 0 {
		l.wheel.add(&l.conns, c, t)
	}
	if l.engine.debug() {
		l.engine.log.LogAttrs(context.Background(), slog.LevelDebug, "connected",
			slog.String("service", f.name), slog.Int("slot", int(c.slot)),
			slog.Any("client", c.client), slog.Any("backend", c.server))
	}
	if l.onRequest == nil {
		l.join(c)
	} else {
		l.early(c)
	}
	l.relay(c)
}

// failed is called when the server has refused the connect or not answered it.
// The next server is tried; the client's bytes are still in its socket.
func (l *loop) failed(c *conn, err errno) {
	l.wheel.remove(&l.conns, c)
	l.hangUp(&c.half[serverSide])
	c.front.failed(c.server, err, l.clock)
	c.server = nil
	l.choose(c)
	// The place of the attempt is taken again unless there was no server left,
	// and then close has seen to those who wait for it.
}

// hangUp closes the descriptor of a half.
func (l *loop) hangUp(h *half) {
	closeFD(h.fd)
	h.fd = -1
	h.gen++
}

// close ends a connection whatever state it is in and frees all that it has. The
// place at the server comes first: a client that sees the end and comes back at
// once must not find it taken by himself.
func (l *loop) close(c *conn) {
	f := c.front
	l.credit(c)
	if a := l.accounts.at(c.place); a != nil {
		l.tell(c, a)
	}
	switch {
	case c.phase == phaseHeader:
		f.unheard.Add(-1)
	case c.server == nil:
	case c.phase >= phaseOpen:
		f.release(c.server)
	default:
		f.abandon(c.server)
	}
	for side := range c.half {
		h := &c.half[side]
		if h.held != nil {
			l.drop(h)
		}
		if h.fd >= 0 {
			l.hangUp(h)
		}
	}
	l.wheel.remove(&l.conns, c)
	files := int64(filesPerConn)
	if c.phase == phaseFlow {
		l.flows.remove(c.place)
		files = filesPerFlow
	}
	if l.engine.debug() {
		l.engine.log.LogAttrs(context.Background(), slog.LevelDebug, "closed",
			slog.String("service", f.name), slog.Int("slot", int(c.slot)), slog.Any("client", c.client))
	}
	f.slots.give(int(c.slot))
	l.conns.give(c)
	f.places.Add(-1)
	l.engine.give(files)
	l.engine.closed()
	l.kick(f)
}

// reset ends a connection of which one side broke, so that the other side
// learns that the stream was cut off.
func (l *loop) reset(c *conn, survivor *half) {
	if survivor.fd >= 0 {
		resetOnClose(survivor.fd)
	}
	l.close(c)
}

// credit adds what c has carried to the counters of its server and client.
func (l *loop) credit(c *conn) {
	d, u := &c.half[clientSide], &c.half[serverSide]
	owed := uint32(u.held.size())
	if c.phase < phaseOpen || d.read == 0 && u.read == 0 && owed == u.owed {
		return // what was read before there is a server counts for the one that gets it
	}
	c.server.sent.Add(d.read)
	c.server.received.Add(u.read)
	// What the client has been sent is what was read for it, less what waits.
	sent := u.read + uint64(u.owed) - uint64(owed)
	c.front.credit(&c.trial, c.client, sent, d.read)
	if a := l.accounts.at(c.place); a != nil {
		a.sent += sent
		a.received += d.read
	}
	d.read, u.read, u.owed = 0, 0, owed
}

// stats returns the figures of c.
func (c *conn) stats() ConnStats {
	s := ConnStats{
		Slot: int(c.slot), DownFD: int(c.half[clientSide].fd), UpFD: int(c.half[serverSide].fd),
		PendingDown: c.half[serverSide].held.size(), PendingUp: c.half[clientSide].held.size(),
		Client: -1, Server: state.None, State: StateConnecting, client: c.client,
	}
	if c.server != nil {
		s.Server = c.server.index
	}
	if c.phase >= phaseOpen {
		s.State = StateConnected
	}
	if c.phase == phasePage {
		s.State = statePage
	}
	if c.half[serverSide].is(ended) {
		s.State |= StateServerClosed
	}
	if c.half[clientSide].is(ended) {
		s.State |= StateClientClosed
	}
	return s
}
