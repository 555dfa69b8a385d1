package proxy

import (
	"cmp"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// backlogMost is more than a backlog ever holds.
const backlogMost = 1 << 16

// takeOver lets the listeners accept.
func (e *engine) takeOver() {
	e.role.Lock()
	defer e.role.Unlock()
	e.secure.takeOver()
	e.standing.Store(false)
	for _, ln := range *e.listeners.Load() {
		ln.align(e)
	}
}

// standBy ends accepting and resets every connection. The loops come before the
// backlogs: what they give back may be needed to accept who waits there.
func (e *engine) standBy() {
	e.role.Lock()
	defer e.role.Unlock()
	e.standing.Store(true)
	for _, ln := range *e.listeners.Load() {
		ln.align(e)
	}
	// A loop that was just accepting comes to this afterwards, and then it sees
	// that nobody is accepted any more.
	var asked sync.WaitGroup
	for _, l := range e.running() {
		asked.Add(1)
		if !l.post(func(l *loop) { l.resetAll(); asked.Done() }) {
			<-l.over // it closes everything itself
			asked.Done()
		}
	}
	asked.Wait()
	e.secure.standBy() // no loop hands anybody over now
	e.mu.Lock()        // no listener is closed meanwhile
	defer e.mu.Unlock()
	var client sockaddr
	for _, ln := range *e.listeners.Load() {
		ln.turnAway(&client, backlogMost)
	}
}

// turnsAway tells whether the engine stands by.
func (e *engine) turnsAway() bool { return e.standing.Load() }

// align makes ln do what the engine does: serve or stand by. A listener that is opened
// while that changes is published first and then aligned, so nobody forgets it.
func (ln *listener) align(e *engine) {
	ln.mu.Lock()
	standing := e.standing.Load()
	var err errno
	if !ln.retired.Load() {
		if standing {
			ln.disarm(e)
		}
		err = ln.ignore(standing)
	}
	ln.mu.Unlock()
	if err != 0 {
		e.log.Error("filter clients", "listener", ln.String(), "standby", standing, "err", err)
	}
	ln.suspended.Store(false) // there may be more places than before
	ln.arm(e)
}

// nothing is a filter that lets no packet through.
var nothing = unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}

// ignore makes the kernel drop what new clients send to the listener, or not any
// more. Who is not answered tries again a second later and meets whoever is there
// then: the listener's successor, or another node. Otherwise he would be reset, or
// wait in the backlog of a node that accepts nobody. The caller holds mu, if others
// know of the listener.
func (ln *listener) ignore(on bool) errno {
	if ln.path != "" || ln.ignoring == on {
		return 0
	}
	for _, fd := range ln.sockets() {
		if err := filterAll(int(fd), on); err != nil && (on || !errors.Is(err, unix.ENOENT)) {
			no, _ := errors.AsType[errno](err) // that is what it is
			return cmp.Or(no, unix.EINVAL)
		}
	}
	ln.ignoring = on
	return 0
}

// filterAll makes the kernel drop every packet to a socket, or not any more.
func filterAll(fd int, on bool) error {
	if on {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}

// turnAway resets clients in the backlog, so many at most. The address is room
// for that of a client.
func (ln *listener) turnAway(client *sockaddr, most int) {
	if ln.udp {
		for _, fd := range ln.socks {
			discard(fd, most)
		}
		return
	}
	f := ln.front.Load()
	for range most {
		fd, err := accept(ln.fd, client)
		switch err {
		case 0:
			resetOnClose(fd)
			closeFD(fd)
			if f != nil {
				f.cut.Add(1)
			}
		case unix.EAGAIN, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EBADF, unix.EINVAL, unix.ENOTSOCK:
			return
		}
	}
}

// decline is accept on a node that stands by.
func (l *loop) decline(ln *listener, f *front) {
	ln.turnAway(&l.addr, f.settings.Load().AcceptMax)
	ln.resume(l.engine)
}

// resetAll resets all connections of the loop, and who waits at listeners of it.
func (l *loop) resetAll() {
	for _, lv := range l.leavers {
		lv.ln.turnAway(&l.addr, backlogMost)
	}
	l.dismiss(func(leaver) bool { return true })
	var clients, servers []int32
	l.conns.all(func(c *conn) {
		clients = c.half[clientSide].giveUp(clients)
		servers = c.half[serverSide].giveUp(servers)
		c.front.cut.Add(1)
		l.end(c, NodeStandsBy)
	})
	closeAll(append(clients, servers...))
}

// giveUp adds the descriptor of a half to those that are to be closed with a reset.
func (h *half) giveUp(fds []int32) []int32 {
	if h.fd < 0 {
		return fds
	}
	resetOnClose(h.fd) // at once: also if the process ends before the close
	fds = append(fds, h.fd)
	h.fd = -1
	h.gen++
	return fds
}

// closeAll closes descriptors in about that order. A close takes the kernel some ten
// microseconds, and all clients may be in one loop; so every CPU takes part.
func closeAll(fds []int32) {
	const some = 64
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.NumCPU(), (len(fds)+some-1)/some) {
		wg.Go(func() {
			for {
				from := int(next.Add(some)) - some
				if from >= len(fds) {
					return
				}
				for _, fd := range fds[from:min(from+some, len(fds))] {
					closeFD(fd)
				}
			}
		})
	}
	wg.Wait()
}
