package proxy

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// How long accepting pauses when the system has no descriptors or memory left:
// a little at first, then twice as long each time, up to the most.
const (
	shortPause = 5 * time.Millisecond
	longPause  = 100 * time.Millisecond
)

// filesPerConn is what a connection needs, and what accepting one sets aside.
const filesPerConn = 2

// accept takes in the clients that wait at a listener, as many as there are
// places for and AcceptMax allows.
//
// Without a place, the listener is taken out of the epoll set of every loop, so
// that nothing spins, and who waits goes on waiting in the backlog. From then
// on whoever gives a place back looks after the listener himself, see kick; it
// goes back into the sets when nobody waits any more.
func (l *loop) accept(ln *listener) {
	if ln.udp {
		l.receive(ln)
		return
	}
	f := ln.front.Load()
	if f == nil || ln.retired.Load() {
		return
	}
	if l.engine.standing.Load() {
		l.decline(ln, f)
		return
	}
	if f.leaving.Load() > 0 {
		ln.suspend(l.engine)
		if f.leaving.Load() > 0 { // if not, nobody else would end the suspension
			return
		}
	}
	for range f.settings.Load().AcceptMax {
		if !l.admit(ln, f) {
			return
		}
		fd, err := accept(ln.fd, &l.addr)
		if err == 0 {
			ln.pause.Store(0)
			f.took(ln)
			l.welcome(ln, f, fd)
			continue
		}
		l.refund(f)
		switch err {
		case unix.EAGAIN:
			ln.resume(l.engine)
			l.kick(f) // while this one looked, another may have missed the place
			return
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			l.hold(ln, f, err)
			return
		case unix.EBADF, unix.EINVAL, unix.ENOTSOCK:
			l.engine.log.Error("accepting clients", "listener", ln.String(), "err", err)
			ln.suspend(l.engine)
			return
		}
		// Whatever else went wrong, went wrong with that client.
	}
	l.kick(f) // nobody will tell us of those who are left
}

// acceptRest takes in who waits at a listener that is about to be closed, as far
// as there are places. It tells whether somebody still waits.
func (l *loop) acceptRest(ln *listener, f *front) bool {
	if l.engine.standing.Load() {
		ln.turnAway(&l.addr, backlogMost)
		return false
	}
	for l.reserve(f) == lackNothing {
		fd, err := accept(ln.fd, &l.addr)
		if err != 0 {
			l.refund(f)
			l.kick(f) // the successor may have missed the place
			return false
		}
		l.welcome(ln, f, fd)
	}
	return ln.awaited()
}

// admit takes a place for the next client. False: there is none, and the
// listener is suspended.
func (l *loop) admit(ln *listener, f *front) bool {
	if l.reserve(f) == lackNothing {
		return true
	}
	ln.suspend(l.engine)
	// A place that was given back before that was seen would be forgotten.
	switch l.reserve(f) {
	case lackNothing:
		return true
	case lackFiles:
		// Descriptors may come from another service, which does not look here.
		l.hold(ln, f, unix.EMFILE)
	}
	return false
}

// lack is what there is not enough of to take another client in.
type lack uint8

const (
	lackNothing lack = iota
	lackPlaces       // who gives one back looks after the listener, see kick
	lackFiles
)

// reserve takes all that a connection needs before it is accepted, or nothing
// of it if something is lacking.
func (l *loop) reserve(f *front) lack {
	set := f.settings.Load()
	if f.pending.Load() >= int64(set.PendingMax) {
		return lackPlaces
	}
	if !l.engine.take(filesPerConn) {
		return lackFiles
	}
	if f.places.Add(1) > int64(set.ConnMax) {
		f.places.Add(-1)
		l.engine.give(filesPerConn)
		return lackPlaces
	}
	return lackNothing
}

// refund gives back what reserve took.
func (l *loop) refund(f *front) {
	f.places.Add(-1)
	l.engine.give(filesPerConn)
}

// kick remembers that clients of f may be waiting for a place that is free now.
// They are looked after at the end of the turn, because the caller may be in
// the middle of anything.
func (l *loop) kick(f *front) {
	open := f.open()
	first := f.first(open)
	for i := range open {
		if ln := open[(first+i)%len(open)]; ln.suspended.Load() {
			l.call(ln)
		}
	}
}

// call has the clients that wait at a listener taken in at the end of the turn.
func (l *loop) call(ln *listener) {
	if !slices.Contains(l.kicked, ln) {
		l.kicked = append(l.kicked, ln)
	}
}

// kicks accepts at the listeners that kick has named.
func (l *loop) kicks() {
	kicked := l.kicked
	l.kicked, l.spare = l.spare[:0], kicked
	for _, ln := range kicked {
		l.accept(ln)
	}
}

// nap is a listener that waits for the system.
type nap struct {
	ln    *listener
	until time.Time
}

// hold suspends a listener for a while, because something has run out that this
// proxy does not give back alone.
func (l *loop) hold(ln *listener, f *front, err errno) {
	ln.suspend(l.engine)
	for i := range l.naps {
		if l.naps[i].ln == ln {
			return
		}
	}
	pause := min(2*time.Duration(ln.pause.Load()), longPause)
	if pause == 0 {
		pause = shortPause
		f.pauses.Add(1)
		if ln.warned.due(l.now, pauseWarning) {
			l.engine.log.Warn("accepting pauses", "listener", ln.String(), "err", err)
		}
	}
	ln.pause.Store(int64(pause))
	l.naps = append(l.naps, nap{ln, l.now.Add(pause)})
}

// wakeNaps accepts again at the listeners that have waited long enough.
func (l *loop) wakeNaps() {
	for i := 0; i < len(l.naps); i++ {
		if n := l.naps[i]; !l.now.Before(n.until) {
			l.naps[i] = l.naps[len(l.naps)-1]
			l.naps = l.naps[:len(l.naps)-1]
			i--
			l.accept(n.ln)
		}
	}
}
