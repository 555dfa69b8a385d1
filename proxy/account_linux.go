package proxy

// accounts lie beside the slab of a loop, by the same places. Without anybody who
// is told of visits there are none.
type accounts struct {
	parts []*[chunkSize]account
}

// at returns the account of the connection at a place, nil if it has none.
func (as *accounts) at(place int32) *account {
	if int(place/chunkSize) >= len(as.parts) {
		return nil
	}
	part := as.parts[place/chunkSize]
	if part == nil || part[place%chunkSize].began.IsZero() {
		return nil
	}
	return &part[place%chunkSize]
}

// begin opens an account for a connection, if somebody will be told.
func (l *loop) account(c *conn, port uint16) {
	if l.onVisit == nil {
		return
	}
	as := &l.accounts
	for int(c.place/chunkSize) >= len(as.parts) {
		as.parts = append(as.parts, nil)
	}
	part := &as.parts[c.place/chunkSize]
	if *part == nil {
		*part = new([chunkSize]account)
	}
	(*part)[c.place%chunkSize] = account{began: l.now, port: port, protocol: c.front.settings.Load().Protocol}
}

// blame notes why a connection is about to be closed, if that does not show in it.
func (l *loop) blame(c *conn, why Cause) {
	if a := l.accounts.at(c.place); a != nil {
		a.cause = why
	}
}

// end closes a connection for a cause that does not show in it.
func (l *loop) end(c *conn, why Cause) {
	l.blame(c, why)
	l.close(c)
}

// answered notes the server's first byte.
func (l *loop) answered(c *conn) {
	if a := l.accounts.at(c.place); a != nil && a.first == 0 {
		a.first = a.since(l.now)
	}
}

// tell tells of a connection that is being closed; what it has carried is in the
// account already.
func (l *loop) tell(c *conn, a *account) {
	if a.cause == causeUnsaid {
		a.cause = c.cause()
	}
	if c.phase < phaseOpen {
		a.received += c.half[clientSide].read
	}
	if l.onVisit != nil {
		a.visit(&l.visit, c.front, c.client, c.server, &c.trial, l.now)
		l.onVisit(&l.visit)
	}
	*a = account{}
}

// cause is why c ends, as its state shows.
func (c *conn) cause() Cause {
	d, u := &c.half[clientSide], &c.half[serverSide]
	switch {
	case c.phase == phaseHeader, c.phase == phasePage:
		return ClientLeft
	case c.server == nil:
		return c.trial.cause()
	case c.phase < phaseOpen:
		return ClientLeft
	case u.flags&(broken|deaf) != 0:
		return ServerReset
	case d.flags&(broken|deaf) != 0:
		return ClientReset
	case u.is(passed), u.is(ended) && !d.is(ended):
		return ServerClosed
	}
	return ClientClosed
}

// early tells what the client had sent with his header. What is held before that is
// the header for the server.
func (l *loop) early(c *conn) {
	if h := &c.half[clientSide]; h.held != nil && h.read > 0 {
		s := h.held
		l.request(c, s.buf[s.to-int(h.read):s.to])
	}
}

// request tells what a client has sent.
func (l *loop) request(c *conn, data []byte) {
	l.asked = Request{
		At: l.now, Client: bare(c.client), Server: c.server.addr.Addr(), Path: c.server.path,
		Data: data[:min(len(data), RequestMost)],
	}
	l.onRequest(&l.asked)
}
