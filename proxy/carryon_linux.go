package proxy

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// carryOn gives a connection back to the loops, in which nothing more has to be
// understood: it has turned from HTTP to something else. False: it stays with its
// goroutines, which do the same. No goroutine may read from it or write to it now.
func (e *engine) carryOn(c *netConn) bool {
	loops := e.running()
	client := c.side[ofClient]
	if ahead, ok := client.(*aheadConn); ok && len(ahead.ahead) == 0 {
		client = ahead.Conn
	}
	if client != c.bare || len(loops) == 0 {
		return false // TLS
	}
	done := make(chan bool, 1)
	l := loops[c.slot%len(loops)]
	return l.post(func(l *loop) { done <- l.adopt(c) }) && <-done
}

// adopt makes a connection of its own out of one of goroutines, with all that this has:
// its slot, its places, its server.
func (l *loop) adopt(n *netConn) bool {
	n.credit()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	client, err := duplicate(n.bare)
	if err != nil {
		return false
	}
	server, err := duplicate(n.side[ofServer])
	if err != nil {
		closeFD(client)
		return false
	}
	c := l.conns.take()
	c.front, c.server, c.client, c.trial, c.slot = n.front, n.server, n.client, n.trial, int32(n.slot)
	c.phase, c.active = phaseOpen, l.tick
	c.half[clientSide].fd, c.half[clientSide].flags = client, flagsOf(n.bare)
	c.half[serverSide].fd, c.half[serverSide].flags = server, flagsOf(n.side[ofServer])
	if l.watch(c, clientSide) != 0 || l.watch(c, serverSide) != 0 {
		l.hangUp(&c.half[clientSide])
		l.hangUp(&c.half[serverSide])
		l.conns.give(c)
		return false
	}
	n.moved = true
	l.takeAccount(c, n)
	if l.engine.standing.Load() {
		c.front.cut.Add(1)
		resetOnClose(client)
		resetOnClose(server)
		l.close(c)
		return true
	}
	if t := c.deadline(); t != 0 {
		l.wheel.add(&l.conns, c, t)
	}
	l.relay(c)
	return true
}

// takeAccount lets the account of a connection go on with it.
func (l *loop) takeAccount(c *conn, n *netConn) {
	if !n.account.told {
		return
	}
	l.account(c, n.account.port)
	a := l.accounts.at(c.place)
	if a == nil {
		return
	}
	*a = n.account.account
	if first := n.account.first.Load(); first != 0 {
		a.first = a.since(origin.Add(time.Duration(first)))
	}
	a.received, a.sent = n.read[ofClient].Load(), n.sent.Load()
}

// duplicate returns another descriptor of a connection, which outlives that.
func duplicate(conn net.Conn) (fd int32, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, unix.ENOTSOCK
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	ctl := raw.Control(func(n uintptr) {
		var new int
		new, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0)
		fd = int32(new)
	})
	if ctl != nil {
		return -1, ctl
	}
	return fd, err
}

// flagsOf is what is known about a side of which only the connection is. Whether small
// pieces go out at once was settled when it was made.
func flagsOf(conn net.Conn) flags {
	_, tcp := conn.(*net.TCPConn)
	if h, ok := conn.(*handed); ok {
		tcp = h.client.IsValid()
	}
	if tcp {
		return readable | writable | prompt
	}
	return readable | writable | prompt | exact
}
