package proxy

import "golang.org/x/sys/unix"

// present takes a client in who gets the page, as soon as he says something. So many
// bytes of that were read already.
func (l *loop) present(c *conn, early int) {
	f := c.front
	c.phase, c.active = phasePage, l.tick
	c.trial = f.greet(c.client, l.clock)
	if f.bars(c.client) {
		f.refused[refusedACL].Add(1)
		l.end(c, ClientDenied)
		return
	}
	if t := c.deadline(); t != 0 {
		l.wheel.add(&l.conns, c, t)
	}
	l.page(c, early)
}

// page answers who has said something, and closes. What else he sends at once is
// read first: left unread it would make the close a reset, which overtakes the page.
func (l *loop) page(c *conn, heard int) {
	fd, why := c.half[clientSide].fd, ClientLeft
	n, err := recv(fd, l.buf)
	for ; n > 0; n, err = recv(fd, l.buf) {
		if l.dump != DumpOff {
			l.note(c, clientSide, l.buf[:n])
		}
		if heard += n; heard >= budget {
			break
		}
	}
	if heard > 0 {
		c.front.credit(&c.trial, c.client, 0, uint64(heard))
		c.half[clientSide].read = uint64(heard) // for the account
		if a := l.accounts.at(c.place); a != nil {
			a.sent = uint64(len(page))
		}
		why = ServerClosed
		_, _ = send(fd, l.buf[:copy(l.buf, page)]) // it fits into the buffer of a new socket, or the client has gone
	} else if err == unix.EAGAIN {
		return
	}
	l.end(c, why)
}
