package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"pen/state"
)

// netEngine moves bytes with a goroutine for each direction, through Go's own
// poller. It is what serves where there are no event loops of ours, and does
// what they do, slower: it copies, and an idle connection costs its stacks and
// buffers. Three things package net does not offer: the length of the backlog is
// the system's, a listener can not take its place beside another one on an
// overlapping address, and a client who leaves before he has a server is not
// noticed until then. A listener that moves does not wait for places for those
// in its backlog. A node that stands by resets those who come, where the loops
// leave them without an answer. And the address of a listener has to be there.
//
// It is built everywhere, so that its tests run everywhere.
type netEngine struct {
	log   *slog.Logger
	opts  *Options
	inUse *atomic.Int64 // descriptors of connections
	turns reckoning     // of handshakes

	headTime time.Duration // as the constant, less in tests

	// freedOne, began and ended are called when there may be a place again at a service,
	// when a connection has begun that no listener has accepted, and when any has gone. nil: the listeners here are told, and nobody. carryOn
	// is for a connection of which nothing has to be understood any more; it tells
	// whether somebody else carries it on. nil: nobody.
	freedOne func(*front)
	began    func() // a connection that nobody has accepted
	ended    func()
	carryOn  func(*netConn) bool

	ready chan struct{} // closed when it serves for the first time

	mu        sync.Mutex // guards the rest
	ctx       context.Context
	standing  bool // who comes is turned away
	listeners map[*netListener]bool
	conns     map[*netConn]bool
	leaving   int           // retired listeners that still take clients in
	emptied   chan struct{} // closed when all of that is gone; nil: nobody waits
	stray     netip.Addr    // the source address that last could not be bound

	role sync.Mutex     // held while standing changes
	work sync.WaitGroup // accept loops and connections
}

// netFiles is the number of descriptors of a connection.
const netFiles = 2

func newNetEngine(log *slog.Logger, opts *Options) *netEngine {
	return &netEngine{
		log: log, opts: opts, standing: opts.Standby,
		listeners: map[*netListener]bool{}, conns: map[*netConn]bool{},
		ready: make(chan struct{}),
		inUse: new(atomic.Int64), turns: make(reckoning, runtime.NumCPU()), headTime: headTime,
	}
}

// run serves until ctx ends and closes all connections.
func (e *netEngine) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	e.begin(ctx)
	<-ctx.Done()
	e.finish()
	return nil
}

// begin serves, until finish.
func (e *netEngine) begin(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ctx = ctx
	close(e.ready)
	for ln := range e.listeners {
		e.start(ln)
	}
}

// finish closes all connections and returns when none is left.
func (e *netEngine) finish() {
	e.mu.Lock()
	e.ctx = nil
	for ln := range e.listeners {
		ln.halt(time.Now())
	}
	for c := range e.conns {
		c.blame(ShutDown)
		c.close()
	}
	e.mu.Unlock()
	e.work.Wait()
}

// takeOver accepts clients from now on.
func (e *netEngine) takeOver() {
	e.role.Lock()
	defer e.role.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.standing = false
}

// standBy resets every connection, and everybody who comes from now on. It returns
// when no connection is left.
func (e *netEngine) standBy() {
	e.role.Lock()
	defer e.role.Unlock()
	e.mu.Lock()
	e.standing = true
	for c := range e.conns {
		if !c.idler {
			c.front.cut.Add(1)
		}
		c.blame(NodeStandsBy)
		c.reset()
	}
	e.mu.Unlock()
	e.idle(context.Background())
}

// turnsAway tells whether the engine stands by.
func (e *netEngine) turnsAway() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.standing
}

// take sets n descriptors aside, unless that would leave too few for others.
func (e *netEngine) take(n int64) bool {
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

func (e *netEngine) give(n int64) { e.inUse.Add(-n) }

func (e *netEngine) files() int { return int(e.inUse.Load()) }

// held returns the pipes and buffers in use, of which this engine has none.
func (e *netEngine) held() (pipes, buffers int) { return 0, 0 }

// add takes a connection in, unless the engine has stopped.
func (e *netEngine) add(c *netConn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil || e.standing {
		return false
	}
	e.conns[c] = true
	return true
}

func (e *netEngine) remove(c *netConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	e.tellEmpty()
}

// tellEmpty tells who waits in idle. The caller holds mu.
func (e *netEngine) tellEmpty() {
	if len(e.conns) == 0 && e.leaving == 0 && e.emptied != nil {
		close(e.emptied)
		e.emptied = nil
	}
}

// idle returns when there is no connection or ctx has ended.
func (e *netEngine) idle(ctx context.Context) {
	for {
		e.mu.Lock()
		if len(e.conns) == 0 && e.leaving == 0 {
			e.mu.Unlock()
			return
		}
		if e.emptied == nil {
			e.emptied = make(chan struct{})
		}
		emptied := e.emptied
		e.mu.Unlock()
		select {
		case <-emptied:
		case <-ctx.Done():
			return
		}
	}
}

// of returns the connections of f.
func (e *netEngine) of(f *front) (conns []*netConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		if c.front == f {
			conns = append(conns, c)
		}
	}
	return conns
}

// credit brings the counters of f's servers and clients up to date.
func (e *netEngine) credit(f *front) {
	for _, c := range e.of(f) {
		c.credit()
	}
}

// retime looks at the timers of f's connections anew.
func (e *netEngine) retime(f *front) {
	for _, c := range e.of(f) {
		c.rest()
	}
}

func (e *netEngine) connections(f *front) (all []ConnStats) {
	for _, c := range e.of(f) {
		all = append(all, c.stats())
	}
	return all
}

// connection returns the connection of f in a slot, if there is one.
func (e *netEngine) connection(f *front, slot int) (ConnStats, bool) {
	conns := e.of(f)
	i := slices.IndexFunc(conns, func(c *netConn) bool { return c.slot == slot })
	if i < 0 {
		return ConnStats{}, false
	}
	return conns[i].stats(), true
}

// closeConnection closes the connection of f in a slot, if there is one.
func (e *netEngine) closeConnection(f *front, slot int) bool {
	conns := e.of(f)
	i := slices.IndexFunc(conns, func(c *netConn) bool { return c.slot == slot })
	if i >= 0 {
		conns[i].blame(ClosedByOperator)
		conns[i].close()
	}
	return i >= 0
}

// debug tells whether each connection is logged.
func (e *netEngine) debug() bool { return e.log.Enabled(context.Background(), slog.LevelDebug) }

// systemKeepalive is SO_KEEPALIVE with the system's times.
var systemKeepalive = net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}

// dial connects to v. A local address that can not be had is left out, as in the
// original.
func (c *netConn) dial(ctx context.Context, v *server) (net.Conn, error) {
	set := c.front.settings.Load()
	if set.Protocol == state.UDP && v.path != "" {
		return nil, syscall.EPROTONOSUPPORT
	}
	d := net.Dialer{Timeout: time.Duration(max(set.Timeout, 1)) * time.Second, KeepAlive: -1}
	if v.path != "" {
		return dialPath(ctx, &d, v.path)
	}
	if set.Keepalive {
		d.KeepAliveConfig = systemKeepalive
	}
	network := "tcp"
	if set.Protocol == state.UDP {
		network = "udp"
	}
	without := c.leaveFrom(&d, network, v, set)
	conn, err := d.DialContext(ctx, network, v.addr.String())
	if failed, ok := errors.AsType[*os.SyscallError](err); d.LocalAddr != nil && (ok && failed.Syscall == "bind" || without.refused != nil) {
		without.note(cmp.Or(without.refused, err))
		d.LocalAddr, d.Control = nil, nil
		conn, err = d.DialContext(ctx, network, v.addr.String())
	}
	if tcp, ok := conn.(*net.TCPConn); ok && !set.NoDelay {
		_ = tcp.SetNoDelay(false)
	}
	return conn, err
}

// without is what there is to say where a connection goes out without its local address.
type without struct {
	note    func(error)
	refused error // the socket could not be prepared for it
}

// leaveFrom gives a dialer the local address that is asked for: source, or else that of
// the client.
func (c *netConn) leaveFrom(d *net.Dialer, network string, v *server, set *state.Settings) *without {
	local, w := set.Source.Unmap(), &without{}
	w.note = func(err error) { c.engine.unbound(local, err) }
	if !local.IsValid() && set.Transparent {
		local = c.client.Unmap()
		w.note = func(err error) { c.front.opaqueTo(v, local, plainError(err)) }
		d.Control = func(network, _ string, raw syscall.RawConn) error {
			w.refused = transparently(network, raw)
			return w.refused
		}
	}
	switch {
	case !local.IsValid() && !set.Transparent:
	case !local.IsValid() || local.Is4() != v.addr.Addr().Is4():
		d.Control = nil
		w.note(syscall.EAFNOSUPPORT)
	case network == "udp":
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	default:
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	return w
}

// dialPath connects to a Unix socket. Its backlog may be full, which says nothing
// against it: that is waited out for as long as a connect may take.
func dialPath(ctx context.Context, d *net.Dialer, path string) (net.Conn, error) {
	end := time.Now().Add(d.Timeout)
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) || time.Now().After(end) || !sleep(ctx, busyPause) {
			return conn, err
		}
	}
}

// busyPause is how long a server with a full backlog is left alone.
const busyPause = 50 * time.Millisecond

// unbound says, once for each address, that connections go out without it.
func (e *netEngine) unbound(source netip.Addr, err error) {
	e.mu.Lock()
	known := e.stray == source
	e.stray = source
	e.mu.Unlock()
	if !known {
		e.log.Warn("connecting from another address than source", "source", source, "err", err)
	}
}

// scarce tells whether err means that this system has run out of something.
func scarce(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}
