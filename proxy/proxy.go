// Package proxy is the data plane: it accepts clients, chooses a server for
// each and moves bytes between the two until both are done. A service carries TCP
// streams or UDP datagrams.
//
// It promises that a client's bytes arrive whole and in order or not at all,
// that the end of a stream is passed on as such and a reset as a reset, that
// memory and descriptors stay within bounds whatever clients do, and that no
// change of configuration touches a connection that stands. A change of
// listeners opens the new ones before it closes the old ones. A proxy that stands
// by keeps its listeners open and lets nobody in, so that to serve is quick and can
// not fail; when it stops serving, it resets every connection.
//
// It leaves out what more than one node has to know: settings, marks of failed
// servers and the tables of known clients come from package state, and what the
// proxy learns about them goes back through Options.Propose.
//
// On Linux the bytes are moved by event loops (loop_linux.go), elsewhere, and where
// clients talk TLS, by goroutines (netrelay.go).
package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"pen/state"
)

// Options are what a Proxy is made from. The zero value of each field works,
// but for Propose, without which nothing is remembered.
type Options struct {
	Log *slog.Logger // nil: nowhere

	// Loops is the number of event loops; 0 means one for each CPU.
	Loops int

	// Files bounds the descriptors that connections and their pipes may use,
	// so that there are always some left for control; 0 means no bound.
	Files int

	// Virtual are the addresses that move between the nodes of a cluster. A service
	// that listens on a port alone listens on each of them, and on no other.
	// Whether an address is on this machine does not matter.
	Virtual []netip.Addr

	// Standby lets the proxy begin as after a call of that method.
	Standby bool

	// Clock is the logical time of the replicated state; nil: the wall clock.
	Clock *state.Clock

	// Propose hands a command to the replicated state and returns when it is
	// applied. The proxy calls it from goroutines of its own, never from a loop.
	Propose func(context.Context, state.Command) (state.Result, error)

	watch *atomic.Pointer[Watch] // who is told; see Proxy.Watch
	dump  *atomic.Uint32         // a Dump; nil: never
}

// Proxy is the data plane of one process. All its methods are safe at once from
// any goroutine; Run is called once.
type Proxy struct {
	opts   Options
	log    *slog.Logger
	engine *engine

	// fronts is what is configured now, by name of service. The map is never
	// changed, only replaced, so that figures need no lock.
	fronts atomic.Pointer[map[string]*front]

	mu       sync.Mutex // held by one change of configuration at a time
	prepared map[place]*listener
	// terminators are those that Prepare has made and Configure may use.
	terminators map[identityTLS]*terminator
	lists       *lists          // of the newest view
	atlas       *atlas          // of countries
	ended       bool            // no listener is opened any more
	base        context.Context // what the services run under; nil: not yet

	keepers sync.WaitGroup // services that run

	ring       ticketRing
	ticketKeys atomic.Pointer[[]state.TicketKey] // as the state has them
	ticketNews chan struct{}                     // asks for a look at them; room for one
	ticketless pace                              // of warnings that there is no new one
}

// front is a service as the data plane sees it: the choice of servers, the
// settings in force, and the listeners that feed it.
type front struct {
	*service
	settings atomic.Pointer[state.Settings]
	secure   atomic.Pointer[terminator] // nil: clients talk plain

	idlers idlers

	shaking handshakes
	spurned [spurnedReasons]atomic.Uint64 // clients who did not come through the handshake, or said not for whom they come
	unheard atomic.Int64                  // clients whose header has not come
	heading handshakes                    // heads of HTTP that clients take their time for
	faults  [faults]atomic.Uint64         // clients whose requests had them

	doors    atomic.Pointer[doors]    // whom to tell of a place that is free; nil: nobody
	last     atomic.Pointer[listener] // where a client was taken in last, if there are several
	places   atomic.Int64             // connections, and accepts under way
	leaving  atomic.Int32             // retired listeners at which clients still wait
	accepted atomic.Uint64            // clients
	lost     atomic.Uint64            // clients sent away for lack of descriptors or memory
	opaque   atomic.Uint64            // connects that left from another address than the client's
	cut      atomic.Uint64            // clients reset because this node stands by
	pauses   atomic.Uint64            // times that accepting had to wait for such

	asked   atomic.Bool   // a loop was asked to end a flow for another
	full    atomic.Uint64 // datagrams dropped because there was no place for a flow
	flooded atomic.Uint64 // datagrams of new clients dropped in a flood
	evicted atomic.Uint64 // flows that ended for others
	spilled atomic.Uint64 // datagrams that could not be sent on

	// Guarded by Proxy.mu.
	listeners doors              // none: not listening
	stop      context.CancelFunc // nil: not started
}

// mute is a log that nobody reads.
var mute = slog.New(slog.DiscardHandler)

// New returns a Proxy that has no services yet. It starts nothing.
func New(opts Options) *Proxy {
	opts.Virtual = distinct(opts.Virtual)
	opts.watch = newWatching()
	opts.dumps()
	if opts.Log == nil {
		opts.Log = mute
	}
	p := &Proxy{opts: opts, log: opts.Log, prepared: map[place]*listener{}, ticketNews: make(chan struct{}, 1)}
	p.fronts.Store(&map[string]*front{})
	p.atlas = &atlas{log: opts.Log}
	p.engine = newEngine(p)
	return p
}

// Run serves until ctx ends, then closes listeners and connections and returns
// when nothing of the proxy is left. It returns nil when ctx ended it.
//
// Each event loop keeps a thread, and while it is busy also one of the threads
// that Go lets run at once. So Run raises GOMAXPROCS to two more than there are
// loops, and to four at least: whatever else the process does never waits
// behind traffic.
func (p *Proxy) Run(ctx context.Context) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	p.mu.Lock()
	p.base = base
	for _, f := range *p.fronts.Load() {
		p.start(f)
	}
	p.mu.Unlock()
	p.keepers.Go(func() { p.keepTickets(base) })
	p.keepers.Go(func() { p.atlas.keep(base) })
	err := p.engine.run(ctx)
	p.closeListeners()
	stop() // what the services learned last is told now
	p.keepers.Wait()
	return err
}

// start lets a service tell the state what it learns. The caller holds mu.
func (p *Proxy) start(f *front) {
	if p.base == nil || f.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(p.base)
	f.stop = stop
	p.keepers.Go(func() { f.run(ctx) })
	p.keepers.Go(func() { p.keepIdlers(ctx, f) })
}

// Drain stops accepting clients and returns when no connection is left or ctx
// has ended. Connections that stand are not touched.
func (p *Proxy) Drain(ctx context.Context) {
	p.closeListeners()
	p.lookAtIdlers()
	p.engine.idle(ctx)
}

// Settle hands over to the state what this node has decided until now: whom it
// sent where, and which servers failed or came back. When it returns nil, the
// state has it. A change that must come after that, or a report that must show
// it, begins with Settle.
func (p *Proxy) Settle(ctx context.Context) error {
	var errs []error
	for _, f := range *p.fronts.Load() {
		f.herald.tellAll(ctx)
		errs = append(errs, f.memory.handOver(ctx))
	}
	return errors.Join(errs...)
}

// closeListeners closes every listener for good.
func (p *Proxy) closeListeners() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for at, l := range p.prepared {
		p.engine.retire(l)
		delete(p.prepared, at)
	}
	for _, f := range *p.fronts.Load() {
		f.doors.Store(nil)
		for _, l := range f.listeners {
			p.engine.retire(l)
		}
		f.listeners = nil
	}
}

// Country returns the two letters of the country that an address is in, or nothing
// if that is not known here.
func (p *Proxy) Country(a netip.Addr) string { return p.atlas.land(a.Unmap()).String() }

// Address returns where a service really listens ("127.0.0.1:34567", a path),
// or nothing; several places are separated by commas. It differs from what was
// asked for where the port was 0.
func (p *Proxy) Address(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.front(name)
	if f == nil {
		return ""
	}
	var all []string
	for _, l := range f.listeners {
		all = append(all, l.String())
	}
	return strings.Join(all, ",")
}

// doors are listeners in the order of their places.
type doors []*listener

// open returns the listeners that feed f.
func (f *front) open() doors {
	if doors := f.doors.Load(); doors != nil {
		return *doors
	}
	return nil
}

// first returns which of the doors is the first to get a place: the one behind that
// where a client was taken in last. So clients who wait at several get places by turns.
func (f *front) first(open doors) int {
	if len(open) < 2 {
		return 0
	}
	return slices.Index(open, f.last.Load()) + 1
}

// took notes where a client was taken in.
func (f *front) took(ln *listener) {
	if len(f.open()) > 1 {
		f.last.Store(ln)
	}
}

// front returns the front of a service, or nil. The empty name means the
// default service.
func (p *Proxy) front(name string) *front {
	if name == "" {
		name = state.DefaultService
	}
	return (*p.fronts.Load())[name]
}
