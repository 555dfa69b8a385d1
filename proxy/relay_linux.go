package proxy

import (
	"golang.org/x/sys/unix"

	"pen/state"
)

// budget is how many bytes one way of a connection may move before others have
// their turn.
const budget = 512 << 10

// happened deals with what epoll reports of one side of a connection.
func (l *loop) happened(c *conn, side int, events uint32) {
	if c.phase == phaseFlow {
		l.answer(c)
		return
	}
	h := &c.half[side]
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLPRI) != 0 {
		h.flags |= readable
		if events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
			h.flags |= hungUp
		}
		if events&(unix.EPOLLERR|unix.EPOLLPRI) != 0 {
			// An error is behind the last byte. And reading stops at urgent
			// data, though there may be more behind it.
			h.flags |= exact
		}
	}
	switch {
	case c.phase >= phaseOpen:
		if events&unix.EPOLLOUT != 0 {
			h.flags |= writable
		}
		if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 && h.is(ended) {
			l.lost(c, side)
		}
		l.relay(c)
	case c.phase == phaseHeader && events&unix.EPOLLERR == 0:
		l.hear(c)
	case c.phase == phasePage:
		l.page(c, 0)
	case side == clientSide:
		if events&unix.EPOLLERR != 0 {
			l.close(c) // the client has gone before it had a server
		}
	case events&(unix.EPOLLERR|unix.EPOLLHUP) != 0:
		l.refused(c, socketError(h.fd))
	case events&unix.EPOLLOUT != 0:
		l.connected(c)
	}
}

// refused deals with an error on a connect. A reset is none of the connect's: the
// server had answered, and then thought better of it.
func (l *loop) refused(c *conn, err errno) {
	switch err {
	case unix.ECONNRESET, unix.EPIPE:
		c.half[serverSide].flags |= deaf
		l.connected(c)
	case 0:
		l.failed(c, unix.ECONNREFUSED)
	default:
		l.failed(c, err)
	}
}

// lost deals with an error on a side whose stream had ended: nobody is left there
// to write to. A hang-up is one too, if it is not of our making.
func (l *loop) lost(c *conn, side int) {
	if h := &c.half[side]; !c.half[1-side].is(passed) || socketError(h.fd) != 0 {
		h.flags |= broken | deaf
	}
}

// relay moves what can be moved, both ways, and then looks whether that was all.
func (l *loop) relay(c *conn) {
	more := l.pump(c, clientSide)
	more = l.pump(c, serverSide) || more
	if c.half[clientSide].flags&(deaf|readable) == deaf|readable {
		more = l.pump(c, clientSide) || more // what is left of a client who takes no more
	}
	if more && !c.queued {
		c.queued = true
		l.ready = append(l.ready, turn{c.place, c.half[clientSide].gen})
	}
	if (c.half[clientSide].flags|c.half[serverSide].flags)&(ended|broken|deaf) != 0 {
		l.settle(c)
	}
}

// pump moves bytes from one side to the other until there are no more, the other
// side takes no more, or the budget is used up: then it returns true.
//
// Nothing is read that can not be written at once, but for what the last write
// left over. So a slow reader slows its writer down, and costs one buffer.
func (l *loop) pump(c *conn, side int) bool {
	src, dst := &c.half[side], &c.half[1-side]
	if src.held != nil && !l.flush(c, src, dst) {
		return false
	}
	for left := budget; src.flags&(readable|ended) == readable && dst.flags&(writable|deaf) == writable; {
		if left <= 0 {
			return true
		}
		var n int
		if src.is(bulk) && l.dump == DumpOff && (l.onRequest == nil || side == serverSide) {
			n = l.splice(c, src, dst)
		} else {
			n = l.copy(c, src, dst)
		}
		left -= n
	}
	return false
}

// copy moves what one read gives through the loop's buffer. It returns how much
// that was.
func (l *loop) copy(c *conn, src, dst *half) int {
	n, err := recv(src.fd, l.buf)
	if n <= 0 {
		src.stop(n, err)
		return 0
	}
	if l.dump != DumpOff {
		l.note(c, c.sideOf(src), l.buf[:n])
	}
	src.read += uint64(n)
	c.active = l.tick
	if l.onRequest != nil && src == &c.half[clientSide] {
		l.request(c, l.buf[:n])
	}
	if n < len(l.buf) {
		src.drained()
	}
	if dst.flags&(wrote|prompt) == wrote && dst == &c.half[serverSide] {
		// The first write is sent at once anyway, and many connections make no
		// second one.
		dst.flags |= prompt
		setFlag(dst.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, true)
	}
	if dst.flags&wrote == 0 && dst == &c.half[clientSide] {
		l.answered(c)
	}
	dst.flags |= wrote
	m, err := send(dst.fd, l.buf[:n])
	switch {
	case m == n:
		if n == len(l.buf) && !src.is(copying) {
			src.flags |= bulk
		}
		return n
	case m < 0 && err != unix.EAGAIN:
		dst.flags |= deaf | readable | exact // it may have said why before it left
		return n
	}
	dst.flags &^= writable
	src.held = l.pool.keep(l.buf[max(m, 0):n])
	return n
}

// drained notes that a read gave less than was asked for. For TCP that means
// that there is no more; and if the peer had ended before, no more will come.
func (h *half) drained() {
	if h.is(exact) {
		return
	}
	h.flags &^= readable
	if h.is(hungUp) {
		h.flags |= ended
	}
}

// stop notes why a read gave nothing: there is nothing now, or no more, or an
// error.
func (h *half) stop(n int, err errno) {
	switch {
	case n == 0:
		h.flags |= ended
		h.flags &^= readable
	case err == unix.EAGAIN:
		h.flags &^= readable
	default:
		h.flags |= ended | broken | deaf
		h.flags &^= readable
	}
}

// flush writes what src holds to dst. It tells whether all of it is gone.
func (l *loop) flush(c *conn, src, dst *half) bool {
	s := src.held
	for s.from < s.to {
		if dst.flags&(writable|deaf) != writable {
			break
		}
		var n int
		var err errno
		if s.pipe != nil {
			n, err = splice(s.pipe.r, dst.fd, s.to-s.from)
		} else {
			n, err = send(dst.fd, s.buf[s.from:s.to])
		}
		switch {
		case n > 0:
			s.from += n
			c.active = l.tick
			dst.flags |= wrote
		case err == unix.EAGAIN:
			dst.flags &^= writable
		default:
			dst.flags |= deaf | readable | exact
		}
	}
	if s.from < s.to {
		return false
	}
	if s.pipe != nil {
		l.putPipe(s.pipe, true)
	}
	l.pool.release(s)
	src.held = nil
	return true
}

// settle looks whether a connection, on which at least one stream has ended, is
// done with, and passes on what has ended.
func (l *loop) settle(c *conn) {
	d, u := &c.half[clientSide], &c.half[serverSide]
	if (d.flags|u.flags)&(broken|deaf) != 0 {
		l.wind(c)
		return
	}
	if d.done() && u.done() {
		l.close(c)
		return
	}
	fast := c.front.settings.Load().Fastclose
	if (d.done() && fast&state.FastcloseDown != 0 || u.done() && fast&state.FastcloseUp != 0) &&
		d.held == nil && u.held == nil {
		l.close(c)
		return
	}
	for side := range c.half {
		if h := &c.half[side]; h.done() && !h.is(passed) {
			h.flags |= passed
			shutdown(c.half[1-side].fd)
		}
	}
}

// done tells whether everything that came from a half has been delivered.
func (h *half) done() bool { return h.is(ended) && h.held == nil }

// wind ends a connection of which one side is broken, when what that side had
// sent has been delivered. The other side gets a reset, but not before it has
// what is still on its way to it: a reset would overtake that.
func (l *loop) wind(c *conn) {
	if c.phase != phaseClosing {
		c.phase, c.active = phaseClosing, l.tick
	}
	lost := clientSide
	if c.half[serverSide].flags&(broken|deaf) != 0 {
		lost = serverSide
	}
	gone, survivor := &c.half[lost], &c.half[1-lost]
	if survivor.held != nil {
		l.drop(survivor)
	}
	if survivor.flags&(broken|deaf) != 0 {
		l.close(c)
		return
	}
	read := gone.flags&(readable|ended) != readable
	delivered := read && gone.held == nil && unsent(survivor.fd) == 0
	if delivered || l.tick >= c.deadline() {
		l.reset(c, survivor)
		return
	}
	l.wheel.add(&l.conns, c, l.tick+1)
}
