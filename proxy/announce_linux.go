package proxy

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// A loop reads the header of a connection that has to begin with one before it looks
// for a server; mostly it is there when the client is accepted. What it writes to
// servers lies before the client's first bytes in what is held of him: so it goes
// out with them, and to the next server if the first is away.

// headerRoom is how much is read while a header is waited for. What follows it is
// the client's.
const headerRoom = headerMost + tasteSize

// await lets c wait for its header.
func (l *loop) await(c *conn) {
	f := c.front
	if !f.waits() {
		f.spurned[spurnedHeaderCrowd].Add(1)
		l.end(c, HeaderCrowded)
		return
	}
	c.phase, c.active = phaseHeader, l.tick
	l.wheel.add(&l.conns, c, c.deadline())
	l.hear(c)
}

// hear reads what has come of c's header.
func (l *loop) hear(c *conn) {
	h := &c.half[clientSide]
	n := 0
	if h.held != nil {
		n = copy(l.buf, h.held.buf[h.held.from:h.held.to])
	}
	for {
		m, err := recv(h.fd, l.buf[n:headerRoom])
		if m < 0 && err == unix.EAGAIN {
			h.flags &^= readable
			break
		}
		if m <= 0 {
			l.spurn(c, spurnedHeader)
			return
		}
		if n += m; n < headerRoom {
			h.drained()
		}
		e, size, bad := parseHeader(l.buf[:n])
		switch {
		case bad != nil, size == 0 && h.is(ended):
			l.spurn(c, spurnedHeader)
			return
		case size > 0:
			l.heard(c, e, l.buf[size:n])
			return
		}
	}
	l.keepHeard(c, n)
}

// keepHeard holds the n bytes in the loop's buffer until more of the header comes.
func (l *loop) keepHeard(c *conn, n int) {
	h := &c.half[clientSide]
	if h.held.size() == n {
		return
	}
	if h.held != nil {
		l.drop(h)
	}
	h.held = l.pool.keep(l.buf[:n])
}

// spurn sends a client away who did not say for whom he comes.
func (l *loop) spurn(c *conn, why spurned) {
	c.front.spurned[why].Add(1)
	l.end(c, why.cause())
}

// heard goes on with c, whose header was read, and of whom early has come already.
func (l *loop) heard(c *conn, e ends, early []byte) {
	h := &c.half[clientSide]
	if h.held != nil {
		l.drop(h)
	}
	c.front.unheard.Add(-1)
	l.wheel.remove(&l.conns, c)
	if !e.known() {
		e = ends{client: l.peerOf(h.fd)}
	}
	c.phase, c.client = phaseConnecting, e.client.Addr()
	l.enter(c, e, early)
}

// peerOf returns the address of a client.
func (l *loop) peerOf(fd int32) netip.AddrPort {
	if getpeername(fd, &l.addr) != 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(l.addr.peer())
}

// localOf returns the address that a client has connected to.
func (l *loop) localOf(fd int32) netip.AddrPort {
	if getsockname(fd, &l.addr) != 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(l.addr.peer())
}

// prepare puts what goes to the server first to the beginning of the loop's buffer:
// the header, if servers want one, and what the client has sent already. It returns
// the length of both together. What came early lies anywhere in the first half.
func (l *loop) prepare(c *conn, e ends, early []byte) int {
	b := l.buf[bufferSize/2 : bufferSize/2]
	if c.front.announces() {
		if !e.local.IsValid() {
			e.local = l.localOf(c.half[clientSide].fd)
		}
		b = c.front.announce(b, e, nil)
	}
	return copy(l.buf, append(b, early...))
}

// join adds what the client has sent by now to the header for his server, which
// goes out next: so both go together. Where some of it goes with the header anyway,
// nothing would be saved.
func (l *loop) join(c *conn) {
	h := &c.half[clientSide]
	s := h.held
	if s == nil || h.read > 0 || s.to == len(s.buf) || !c.front.announces() {
		return
	}
	n, err := recv(h.fd, s.buf[s.to:])
	if n <= 0 {
		h.stop(n, err)
		return
	}
	h.read += uint64(n)
	if s.to += n; s.to < len(s.buf) {
		h.drained()
	}
}
