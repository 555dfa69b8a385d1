package proxy

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// engine is the data plane's half that moves bytes: event loops.
type engine struct {
	log    *slog.Logger
	opts   *Options
	origin time.Time // of ticks

	standing atomic.Bool // accepts nobody
	role     sync.Mutex  // held while that changes

	parting time.Duration // as the constant, less in tests

	secure  *netEngine      // for clients who talk TLS
	serving context.Context // of those; set before the loops run

	loops     atomic.Pointer[[]*loop] // while they run
	listeners atomic.Pointer[map[int32]*listener]
	inUse     atomic.Int64 // descriptors of connections and pipes
	conns     atomic.Int64
	emptied   chan struct{} // gets something when the last connection ends

	mu     sync.Mutex // guards what follows, and changes of listeners
	lastID int32
	stray  netip.Addr // the source address that last could not be bound
}

func newEngine(p *Proxy) *engine {
	e := &engine{log: p.log, opts: &p.opts, origin: time.Now(), parting: parting, emptied: make(chan struct{}, 1)}
	e.secure = newSecure(e)
	e.standing.Store(p.opts.Standby)
	e.listeners.Store(&map[int32]*listener{})
	return e
}

// run runs the loops until ctx ends or one of them fails, and closes all
// connections.
func (e *engine) run(ctx context.Context) error {
	n := e.width()
	if want := max(4, n+2); runtime.GOMAXPROCS(0) < want {
		runtime.GOMAXPROCS(want)
	}
	loops := make([]*loop, n)
	for i := range loops {
		l, err := newLoop(e, i)
		if err != nil {
			for _, l := range loops[:i] {
				l.free()
			}
			return err
		}
		loops[i] = l
	}
	secure, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	e.serving = secure
	e.secure.begin(secure)
	e.loops.Store(&loops)
	for _, ln := range *e.listeners.Load() {
		ln.arm(e)
	}
	var wg sync.WaitGroup
	failures := make(chan error, n)
	for _, l := range loops {
		wg.Go(func() { failures <- l.run() })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failures:
	}
	for _, l := range loops {
		l.post(func(l *loop) { l.stop = true })
	}
	wg.Wait()
	e.secure.finish()
	e.loops.Store(nil)
	for _, ln := range *e.listeners.Load() {
		ln.mu.Lock()
		ln.armed = false
		ln.mu.Unlock()
	}
	for _, l := range loops {
		l.free()
	}
	for len(failures) > 0 {
		err = errors.Join(err, <-failures)
	}
	return err
}

// width returns how many loops there are, also before they run.
func (e *engine) width() int {
	if e.opts.Loops > 0 {
		return e.opts.Loops
	}
	return runtime.NumCPU()
}

// running returns the loops, none if they do not run.
func (e *engine) running() []*loop {
	if loops := e.loops.Load(); loops != nil {
		return *loops
	}
	return nil
}

// listener returns the listener with that number, or nil.
func (e *engine) listener(id int32) *listener { return (*e.listeners.Load())[id] }

// publish changes the listeners that loops see. The caller holds mu.
func (e *engine) publish(change func(map[int32]*listener)) {
	all := maps.Clone(*e.listeners.Load())
	change(all)
	e.listeners.Store(&all)
}

// take sets n descriptors aside, unless that would leave too few for others.
func (e *engine) take(n int64) bool {
	for {
		used := e.inUse.Load()
		if e.opts.Files > 0 && used+n > int64(e.opts.Files) {
			return false
		}
		if e.inUse.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

func (e *engine) give(n int64) { e.inUse.Add(-n) }

// filesLeft returns how many descriptors may still be used.
func (e *engine) filesLeft() int64 {
	if e.opts.Files <= 0 {
		return 1 << 30
	}
	return int64(e.opts.Files) - e.inUse.Load()
}

func (e *engine) files() int { return int(e.inUse.Load()) }

// closed counts a connection that has ended.
func (e *engine) closed() {
	if e.conns.Add(-1) == 0 {
		select {
		case e.emptied <- struct{}{}:
		default:
		}
	}
}

// idle returns when there is no connection or ctx has ended.
func (e *engine) idle(ctx context.Context) {
	everywhere(e, func(*loop) struct{} { return struct{}{} }) // retired listeners are closed by now
	for e.conns.Load() > 0 {
		select {
		case <-e.emptied:
		case <-ctx.Done():
			return
		}
	}
}

// tickAt returns the tick in which t lies.
func (e *engine) tickAt(t time.Time) tick { return tick(t.Sub(e.origin)/tickLength) + 1 }

// timeOf returns when a tick begins.
func (e *engine) timeOf(t tick) time.Time { return e.origin.Add(time.Duration(t-1) * tickLength) }

// unbound says, once for each address, that connections go out without it.
func (e *engine) unbound(source netip.Addr, err errno) {
	e.mu.Lock()
	known := e.stray == source
	e.stray = source
	e.mu.Unlock()
	if !known {
		e.log.Warn("connecting from another address than source", "source", source, "err", err)
	}
}

// debug tells whether each connection is logged.
func (e *engine) debug() bool { return e.log.Enabled(context.Background(), slog.LevelDebug) }
