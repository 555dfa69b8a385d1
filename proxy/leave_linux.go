package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

// How long a listener that is not wanted any more stays for clients who wait in
// its backlog, and how often it looks for a place for them.
const (
	parting     = 10 * time.Second
	partingLook = 5 * time.Millisecond
)

// leaver is a retired listener with clients for whom there was no place. The
// kernel lets nobody join them. It belongs to one loop, and until it is closed
// its successor takes nobody in: they were there first.
type leaver struct {
	ln    *listener
	front *front
	until time.Time
}

// leave keeps a retired listener for those who wait at it. Whoever waits for the
// proxy to be empty waits for them as well.
func (l *loop) leave(ln *listener, f *front) {
	ln.unlink()
	f.leaving.Add(1)
	l.engine.conns.Add(1)
	l.leavers = append(l.leavers, leaver{ln, f, l.now.Add(l.engine.parting)})
}

// serveLeavers takes in who waits at retired listeners as places become free, and
// closes those where nobody waits, or where they have waited for too long.
func (l *loop) serveLeavers() {
	l.dismiss(func(lv leaver) bool { return !l.acceptRest(lv.ln, lv.front) || !l.now.Before(lv.until) })
}

// dismiss closes the retired listeners for which done says so.
func (l *loop) dismiss(done func(leaver) bool) {
	all := l.leavers
	l.leavers = nil
	for _, lv := range all {
		if !done(lv) {
			l.leavers = append(l.leavers, lv)
			continue
		}
		closeFD(lv.ln.fd)
		lv.front.leaving.Add(-1)
		for _, next := range lv.front.open() {
			next.resume(l.engine)
		}
		l.engine.closed()
	}
}

// clear closes retired listeners on a port that is wanted again.
func (e *engine) clear(port uint16) {
	everywhere(e, func(l *loop) struct{} {
		l.dismiss(func(lv leaver) bool { return lv.ln.path == "" && localAddress(int(lv.ln.fd)).Port() == port })
		return struct{}{}
	})
}

// awaited tells whether clients wait at the listener.
func (ln *listener) awaited() bool {
	fds := []unix.PollFd{{Fd: ln.fd, Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0
}
