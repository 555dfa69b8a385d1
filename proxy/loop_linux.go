package proxy

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pen/state"
)

// loop is one event loop: a thread with an epoll set of its own. A connection
// stays in the loop that accepted it, so that nothing of it needs a lock. All
// fields but those of the queue belong to the loop.
type loop struct {
	engine *engine
	index  int // among the loops, and of its socket at listeners of datagrams
	epoll  int32
	wakeup int32 // an eventfd

	events []unix.EpollEvent
	event  unix.EpollEvent // for registering
	addr   sockaddr
	buf    []byte

	now   time.Time  // when this turn began
	clock state.Time // the same
	tick  tick       // the same
	dump  Dump       // how traffic is dumped in this turn

	conns    slab
	flows    flows
	packets  *packets // nil: none were carried yet
	accounts accounts
	wheel    wheel
	pool     pool
	ready    []turn // connections that used up their budget
	later    []turn // the other of two slices that take turns
	kicked   []*listener
	spare    []*listener
	naps     []nap

	leavers []leaver

	// Who is told what passes, in this turn, and room for that.
	onRequest func(*Request)
	onVisit   func(*Visit)
	asked     Request
	visit     Visit

	mu     sync.Mutex // guards the queue
	posted []func(*loop)
	ended  bool // nothing is taken any more
	stop   bool

	over chan struct{} // closed when the loop has ended
}

// turn is a connection that has more to do, as it was then.
type turn struct {
	place int32
	gen   uint32
}

// Events of what is no connection carry these instead of a place.
const (
	wakeupEvent   = -1
	listenerEvent = -2
)

const (
	eventsMax = 256                  // taken at once
	shortWait = 3 * time.Millisecond // for which the scheduler is not told, see wait
)

func newLoop(e *engine, index int) (*loop, error) {
	l := &loop{
		engine: e, index: index, epoll: -1, wakeup: -1, over: make(chan struct{}),
		events: make([]unix.EpollEvent, eventsMax), buf: make([]byte, bufferSize),
	}
	l.conns.free = noConn
	l.look()
	l.wheel.init(l.tick)
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an event loop: %w", err)
	}
	l.epoll = int32(epoll)
	wakeup, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		l.free()
		return nil, fmt.Errorf("make an event loop: %w", err)
	}
	l.wakeup = int32(wakeup)
	l.event = unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakeupEvent}
	if err := epollAdd(l.epoll, l.wakeup, &l.event); err != 0 {
		l.free()
		return nil, fmt.Errorf("make an event loop: %w", err)
	}
	return l, nil
}

// free gives back the loop's own descriptors.
func (l *loop) free() {
	for _, fd := range []int32{l.epoll, l.wakeup} {
		if fd >= 0 {
			closeFD(fd)
		}
	}
	for _, pi := range l.pool.pipes {
		l.closePipe(pi)
	}
	l.pool.pipes = nil
}

// post has f run by the loop soon. False: the loop has ended, and f never runs.
func (l *loop) post(f func(*loop)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.posted = append(l.posted, f)
	if len(l.posted) == 1 {
		one := [8]byte{0: 1, 7: 1} // some number, in either byte order
		_, _ = unix.Write(int(l.wakeup), one[:])
	}
	return true
}

// runPosted runs what was posted.
func (l *loop) runPosted() {
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f(l)
	}
}

// run is the loop. It returns when it is told to stop, after closing all its
// connections.
func (l *loop) run() (err error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the loop
	shortSlice()
	defer close(l.over)
	for !l.stop && err == nil {
		err = l.turn()
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.runPosted()
	l.dismiss(func(leaver) bool { return true })
	l.conns.all(func(c *conn) { l.end(c, ShutDown) })
	return err
}

// turn waits for something to do and does it.
func (l *loop) turn() error {
	n, err := l.wait()
	if err != 0 {
		return fmt.Errorf("wait for events: %w", err)
	}
	l.look()
	for i := range l.events[:n] {
		l.dispatch(&l.events[i])
	}
	l.goOn()
	l.wheel.turn(&l.conns, l.tick, l.due)
	if len(l.naps) > 0 {
		l.wakeNaps()
	}
	if len(l.leavers) > 0 {
		l.serveLeavers()
	}
	if len(l.kicked) > 0 {
		l.kicks()
	}
	return nil
}

// wait waits for events. Most waits of a busy loop are short, and those are kept
// from the scheduler: it would hand the place of the thread to another and back,
// and its monitor would wake up all the time to see who is away.
func (l *loop) wait() (int, errno) {
	wait := l.patience()
	short := shortWait
	if wait >= 0 {
		short = min(short, wait)
	}
	n, err := epollLook(l.epoll, l.events, short)
	if n != 0 || err != 0 || wait == short {
		return n, err
	}
	if wait > 0 {
		wait -= short
	}
	return epollWait(l.epoll, l.events, wait)
}

// look looks at the clock.
func (l *loop) look() {
	l.now = time.Now()
	l.clock = l.engine.opts.Clock.At(l.now)
	l.tick = l.engine.tickAt(l.now)
	w := l.engine.opts.watching()
	l.onRequest, l.onVisit = w.Request, w.Visit
	l.dump = l.engine.opts.dumping()
}

// patience returns how long the loop may wait for events; negative: as long as
// it likes.
func (l *loop) patience() time.Duration {
	if len(l.ready) > 0 || len(l.kicked) > 0 {
		return 0
	}
	wait := time.Duration(-1)
	if n, ok := l.wheel.next(); ok {
		wait = max(l.engine.timeOf(l.wheel.done+n).Sub(l.now), time.Millisecond)
	}
	if len(l.leavers) > 0 && (wait < 0 || wait > partingLook) {
		wait = partingLook
	}
	for _, nap := range l.naps {
		if left := max(nap.until.Sub(l.now), time.Millisecond); wait < 0 || left < wait {
			wait = left
		}
	}
	return wait
}

// dispatch finds out whom an event is about. What is about a descriptor that
// was closed meanwhile, maybe by an event just before, carries an old generation.
func (l *loop) dispatch(ev *unix.EpollEvent) {
	switch ev.Fd {
	case wakeupEvent:
		var count [8]byte
		_, _ = unix.Read(int(l.wakeup), count[:])
		l.runPosted()
		return
	case listenerEvent:
		// New clients come after everything else: one of them may be a client
		// whose old connection ends in this same turn, and gives a place back.
		if ln := l.engine.listener(ev.Pad); ln != nil {
			l.call(ln)
		}
		return
	}
	side := int(ev.Fd & 1)
	if c := l.conns.at(ev.Fd >> 1); c != nil && c.phase != phaseFree && c.half[side].gen == uint32(ev.Pad) {
		l.happened(c, side, ev.Events)
	}
}

// goOn gives those their next turn who used up their budget in the last one.
func (l *loop) goOn() {
	ready := l.ready
	l.ready, l.later = l.later[:0], ready
	for _, t := range ready {
		if c := l.conns.at(t.place); c.queued && c.half[clientSide].gen == t.gen {
			c.queued = false
			l.relay(c)
		}
	}
}
