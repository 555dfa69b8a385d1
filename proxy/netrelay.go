package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"pen/state"
)

// netConn is one client's connection.
type netConn struct {
	engine    *netEngine
	front     *front
	client    netip.Addr // changed under mu, before there is a trial
	ends      ends       // as a header has told them; not known: there was none
	slot      int        // number of the connection within its service
	trial     trial
	datagrams bool
	idler     bool               // has no client
	cancel    context.CancelFunc // ends a connect under way
	bare      net.Conn           // the client's, without TLS
	account   netAccount

	read   [2]atomic.Uint64 // bytes read from each side
	sent   atomic.Uint64    // bytes written to the client
	active atomic.Int64     // when bytes moved last, in nanoseconds since origin

	mu     sync.Mutex // guards the rest
	side   [2]net.Conn
	server *server // being connected to or connected; nil: none
	open   bool    // the server has answered
	page   bool    // the client gets the page, see present
	ended  [2]bool // sides whose stream has ended
	closed bool
	moved  bool        // a loop has it now, with all that it had
	timer  *time.Timer // for idle_timeout
	paid   struct{ client, server, sent uint64 }
}

// origin is what moments are counted from: the wall clock may be set.
var origin = time.Now()

// The sides of a connection.
const (
	ofClient = 0
	ofServer = 1
)

// welcome takes a client in. The first choice is made at once, so that attempts
// under way are counted before the next client is accepted; with TLS and HTTP it is
// made after the handshake and the first head.
func (e *netEngine) welcome(ctx context.Context, f *front, conn net.Conn) {
	keepFloor()
	f.accepted.Add(1)
	slot, _ := f.slots.take()
	client, port := peerOf(conn)
	ctx, cancel := context.WithCancel(ctx)
	c := &netConn{engine: e, front: f, client: client, slot: slot, cancel: cancel, bare: conn}
	c.side[ofClient] = conn
	c.account.account = account{began: time.Now(), port: port, protocol: f.settings.Load().Protocol}
	c.account.told = e.opts.watching().Visit != nil
	if peer, ok := conn.(*netPeer); ok {
		peer.conn, c.datagrams = c, true
	}
	if tcp, ok := conn.(*net.TCPConn); ok && !f.settings.Load().NoDelay {
		_ = tcp.SetNoDelay(false)
	}
	if !e.add(c) {
		c.blame(NodeStandsBy)
		c.reset()
	}
	t, heads := f.secure.Load(), headsOf(f.settings.Load())
	if t != nil || heads != nil || f.expects(client) {
		e.work.Go(func() {
			relay := c.receive(ctx, t, heads, port)
			if relay == nil {
				c.end()
				return
			}
			e.work.Go(func() { // without the deep stack of a handshake
				defer c.end()
				relay()
			})
		})
		return
	}
	if !c.datagrams && f.settings.Load().Dummy {
		e.work.Go(func() {
			defer c.end()
			c.present()
		})
		return
	}
	now := e.opts.Clock.At(time.Now())
	c.trial = f.begin(client, port, now)
	tg, ok := f.next(&c.trial, client, now)
	e.work.Go(func() {
		defer c.end()
		if c.connect(ctx, tg, ok) {
			c.relay()
		}
	})
}

// receive finds a server for a client who has to say something before it is chosen:
// for whom he comes, hello in the sense of TLS, the head of a request. Until then nobody
// hears of him. It returns what carries him then; nil: nothing.
func (c *netConn) receive(ctx context.Context, t *terminator, heads *state.HTTP, port uint16) (relay func()) {
	f := c.front
	if !c.hear(ctx) {
		return nil
	}
	if f.bars(c.client) {
		f.refused[refusedACL].Add(1)
		c.blame(ClientDenied)
		return nil
	}
	if t != nil && !c.terminate(ctx, t) {
		return nil
	}
	if c.front.settings.Load().Dummy {
		c.present()
		return nil
	}
	relay = c.relay
	if heads != nil {
		x := c.dialogue(heads, t != nil)
		first, ok := x.open()
		if !ok {
			return nil
		}
		relay = func() { x.relay(first) }
	}
	if c.ends.known() {
		port = c.ends.client.Port()
		c.account.port = port
	}
	now := c.engine.opts.Clock.At(time.Now())
	c.trial = f.begin(c.client, port, now)
	tg, ok := f.next(&c.trial, c.client, now)
	if !c.connect(ctx, tg, ok) {
		return nil
	}
	return relay
}

// connect goes through the servers until one answers.
func (c *netConn) connect(ctx context.Context, tg target, ok bool) bool {
	f, clock := c.front, c.engine.opts.Clock
	for ; ok; tg, ok = f.next(&c.trial, c.client, clock.At(time.Now())) {
		c.set(tg.server)
		f.attempting(&c.trial, tg.server, c.client, clock.At(time.Now()))
		conn, err := c.dial(ctx, tg.server)
		now := clock.At(time.Now())
		if err == nil && c.opened(conn) {
			if c.datagrams {
				f.settled() // nobody has answered yet
			} else {
				f.connected(tg.server, now)
			}
			c.account.connected = c.account.since(time.Now())
			if !c.idler {
				c.announce(conn)
			}
			c.engine.freed(f)
			c.active.Store(int64(time.Since(origin)))
			c.rest()
			return true
		}
		c.set(nil)
		switch {
		case ctx.Err() != nil || err == nil:
			f.abandon(tg.server)
			return false
		case scarce(err):
			f.abandon(tg.server)
			if !c.idler {
				f.lost.Add(1)
			}
			c.blame(NoResources)
			return false
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			f.portless(&c.trial, tg.server, plainError(err))
		default:
			f.failed(tg.server, plainError(err), now)
		}
	}
	c.sought(ctx)
	return false
}

func (c *netConn) set(v *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server = v
}

// opened notes the connection to the server, unless c was closed meanwhile.
func (c *netConn) opened(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return false
	}
	c.side[ofServer], c.open = conn, true
	return true
}

// relay moves bytes both ways until both streams have ended.
func (c *netConn) relay() {
	var other sync.WaitGroup
	other.Go(func() { c.pump(ofClient) })
	c.pump(ofServer)
	other.Wait()
}

// pump moves the bytes of one side to the other until its stream ends or the
// other side takes no more. It reads no more than it can write, so a slow reader
// slows its writer down.
func (c *netConn) pump(from int) {
	src, dst := c.side[from], c.side[1-from]
	in := newIntake(src, c.datagrams)
	defer in.release()
	for {
		data, err := in.read()
		if n := len(data); n > 0 || err == nil { // an empty datagram is one, too
			if c.datagrams && from == ofServer && c.read[from].Load() == 0 {
				c.front.answered(c.server, c.engine.opts.Clock.At(time.Now()))
			}
			c.note(from, data)
			c.read[from].Add(uint64(n))
			c.active.Store(int64(time.Since(origin)))
			if from == ofClient {
				c.request(data)
			} else {
				c.account.first.CompareAndSwap(0, c.active.Load())
			}
			m, err := writeTo(dst, data)
			if from == ofServer {
				c.sent.Add(uint64(m))
			}
			if err != nil && c.datagrams {
				c.failed(err)
				return
			}
			if err != nil {
				// What that side still has to say, the other pump delivers. It
				// ends, because nobody is there.
				c.lostSide(1 - from)
				return
			}
			c.active.Store(int64(time.Since(origin)))
		}
		in.release()
		if err != nil {
			c.stopped(from, err)
			return
		}
	}
}

// stopped deals with the end of what one side sends.
func (c *netConn) stopped(from int, err error) {
	switch {
	case errors.Is(err, io.EOF) && !cutOff(c.side[from]):
		c.over(from)
	case c.datagrams:
		c.failed(err)
	default:
		c.lostSide(from)
		c.reset()
	}
}

// failed ends a flow. Whatever is wrong has been said by the server's side.
func (c *netConn) failed(err error) {
	if isAway(err) {
		c.blame(ServerUnreachable)
		c.front.broke(c.server, plainError(err), c.engine.opts.Clock.At(time.Now()))
	}
	c.close()
}

// over passes the end of a stream on, or ends both where that is wished.
func (c *netConn) over(from int) {
	c.mu.Lock()
	c.ended[from] = true
	c.mu.Unlock()
	c.account.over.CompareAndSwap(0, int32(from)+1)
	fast := state.FastcloseDown
	if from == ofServer {
		fast = state.FastcloseUp
	}
	fastclose := c.front.settings.Load().Fastclose&fast != 0
	dst, ok := c.side[1-from].(interface{ CloseWrite() error })
	if _, secure := dst.(*tls.Conn); ok && (secure || !fastclose) {
		_ = dst.CloseWrite() // it may be gone already
	}
	switch bare, ok := c.bare.(interface{ CloseWrite() error }); {
	case fastclose:
		c.close()
	case from == ofServer && ok && c.bare != c.side[ofClient]:
		_ = bare.CloseWrite() // after the notice of TLS: this side has ended altogether
	}
}

// reset closes both sides so that they learn that the stream was cut off.
func (c *netConn) reset() {
	c.mu.Lock()
	for _, side := range []net.Conn{c.bare, c.side[ofServer]} {
		abortive(side)
	}
	c.mu.Unlock()
	c.close()
}

// abortive makes the close of a connection a reset, if there is such a thing.
func abortive(conn net.Conn) {
	if stream, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = stream.SetLinger(0)
	}
}

// resetConn closes a connection with a reset.
func resetConn(conn net.Conn) {
	abortive(conn)
	conn.Close()
}

// close closes both sides, or gives up connecting. Whoever serves c sees to the
// rest.
func (c *netConn) close() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	// The client's bare connection: the close of TLS may wait for him.
	for _, side := range []net.Conn{c.bare, c.side[ofServer]} {
		if side != nil {
			side.Close()
		}
	}
}

// rest closes c if it has been idle for too long, or else sets the timer for
// when it will have been.
func (c *netConn) rest() {
	if c.idler {
		return
	}
	idle := idleOf(c.front.settings.Load())
	left := time.Until(origin.Add(time.Duration(c.active.Load()) + idle))
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	late := idle > 0 && left <= 0 && c.open && !c.closed
	if idle > 0 && left > 0 && c.open && !c.closed {
		c.timer = time.AfterFunc(left, c.rest)
	}
	c.mu.Unlock()
	if late {
		c.blame(Idle)
		c.close()
	}
}

// end gives back all that c has.
func (c *netConn) end() {
	c.close()
	c.credit()
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.open && !c.moved {
		c.front.release(c.server)
	}
	moved := c.moved
	c.mu.Unlock()
	e, f := c.engine, c.front
	if moved {
		e.remove(c)
		return
	}
	c.tell()
	if e.debug() {
		e.log.LogAttrs(context.Background(), slog.LevelDebug, "connection closed",
			slog.Any("client", c.client), slog.Int("slot", c.slot))
	}
	f.slots.give(c.slot)
	e.refund(f)
	e.remove(c)
	if c.idler {
		f.idlers.forgotten(c)
	}
	if e.ended != nil {
		e.ended()
	}
	e.freed(f)
}

// credit adds what c has carried to the counters of its server and client.
func (c *netConn) credit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open {
		return
	}
	client, server, sent := c.read[ofClient].Load(), c.read[ofServer].Load(), c.sent.Load()
	c.server.sent.Add(client - c.paid.client)
	c.server.received.Add(server - c.paid.server)
	if !c.idler {
		c.front.credit(&c.trial, c.client, sent-c.paid.sent, client-c.paid.client)
	}
	c.paid.client, c.paid.server, c.paid.sent = client, server, sent
}

// stats returns the figures of c.
func (c *netConn) stats() ConnStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ConnStats{
		Slot: c.slot, DownFD: descriptor(c.bare), UpFD: descriptor(c.side[ofServer]),
		Client: -1, Server: state.None, State: StateConnecting, Idler: c.idler, client: c.client,
	}
	if !c.idler {
		sent := int(c.sent.Load()) // first, so that it is never ahead, but for what pen itself has said
		s.PendingDown = max(0, int(c.read[ofServer].Load())-sent)
	}
	if c.server != nil {
		s.Server = c.server.index
	}
	switch {
	case c.open:
		s.State = StateConnected
	case c.page:
		s.State = statePage
	}
	if c.ended[ofServer] {
		s.State |= StateServerClosed
	}
	if c.ended[ofClient] {
		s.State |= StateClientClosed
	}
	return s
}

// descriptor returns the number of a connection's descriptor, or -1.
func descriptor(conn net.Conn) int {
	fd := -1
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(n uintptr) { fd = int(n) })
		}
	}
	return fd
}
