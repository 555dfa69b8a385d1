package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultPort is the one port of the cluster, TCP and UDP.
const DefaultPort = 7950

// What others can take from us at most. Addresses of the list of peers have
// their own share of handshakes, so that strangers can not take theirs.
const (
	handshakeTime  = 3 * time.Second // from the connect to the end of the hellos
	handshakeBytes = 16 << 10        // read from one connection until then
	handshakesMax  = 64              // at once, of all strangers together
	handshakesEach = 16              // at once, of one address
	streamsEach    = 64              // accepted from one node that has proved itself
	nodesMax       = 64              // remembered
	acceptBacklog  = 16              // of one purpose that nobody has taken yet
	probeTime      = time.Second     // for a process to show that it lives
	closeTime      = 100 * time.Millisecond
	pauseFirst     = 5 * time.Millisecond
	pauseMax       = 100 * time.Millisecond
)

// WireConfig is what a Wire is made of.
type WireConfig struct {
	Key    Key
	Listen netip.AddrPort // where others reach this node; its own connections leave from this address, too
	Peers  []netip.Addr   // who is expected
	// Hello is what this node says about itself. Min, Max, Purpose and, where it
	// is missing, Addr are filled in.
	Hello   Hello
	Log     *slog.Logger
	Network Network // nil: the kernel's
}

// Network is what a Wire is built on. Tests have one in memory, where time is
// theirs.
type Network interface {
	Listen(at netip.AddrPort) (net.Listener, error)
	ListenPacket(at netip.AddrPort) (net.PacketConn, error)
	// Dial connects from an address; from any if it is not valid.
	Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)
}

// Wire is the one port of a node, TCP and UDP. What comes out of it are streams
// of peers that have the same key, belong to the same cluster, speak a common
// protocol and are who they say they are. No byte of others reaches anything
// else, and what they can take is bounded. Its methods may be called by any
// goroutine.
type Wire struct {
	log      *slog.Logger
	network  Network
	identity *identity
	from     netip.Addr
	known    map[netip.Addr]bool
	tcp      net.Listener
	udp      net.PacketConn
	accepted map[Purpose]chan Stream
	refusals refusals

	mu      sync.Mutex // guards what follows
	hello   Hello
	waiting []*rawConn // accepted and not yet through their hellos, oldest first
	streams map[*wireConn]struct{}
	nodes   map[ID]sighting // the process that each node was last
	closed  bool
}

// NewWire opens the port. Run serves it; a Wire that is never run must be closed.
func NewWire(cfg WireConfig) (*Wire, error) {
	w := &Wire{
		log: cfg.Log, network: cfg.Network, hello: cfg.Hello, from: cfg.Listen.Addr(),
		known: map[netip.Addr]bool{}, accepted: map[Purpose]chan Stream{}, streams: map[*wireConn]struct{}{}, nodes: map[ID]sighting{},
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.refusals.log = w.log
	for _, p := range cfg.Peers {
		w.known[p.Unmap().WithZone("")] = true
	}
	for p := PurposeRaft; p < purposeProbe; p++ {
		w.accepted[p] = make(chan Stream, acceptBacklog)
	}
	if w.network == nil {
		w.network = kernel{}
	}
	if !w.from.IsValid() || w.from.IsUnspecified() || w.from.Zone() != "" {
		return nil, fmt.Errorf("cluster port: %s is no address that others can reach", cfg.Listen)
	}
	w.hello.Min, w.hello.Max, w.hello.Purpose = ProtocolMin, ProtocolMax, purposeProbe
	if err := w.hello.Check(); err != nil {
		return nil, fmt.Errorf("cluster port: %w", err)
	}
	var err error
	if w.identity, err = newIdentity(cfg.Key, w.hello.Node); err != nil {
		return nil, fmt.Errorf("cluster port: %w", err)
	}
	if err := w.listen(cfg.Listen); err != nil {
		return nil, fmt.Errorf("cluster port: %w", err)
	}
	if !w.hello.Addr.IsValid() {
		w.hello.Addr = w.Addr()
	}
	return w, nil
}

// listen opens both halves of the port. When the kernel chooses it, the number
// may be taken in the other half.
func (w *Wire) listen(at netip.AddrPort) error {
	tries := 1
	if at.Port() == 0 {
		tries = 16
	}
	var err error
	for range tries {
		if w.tcp, err = w.network.Listen(at); err != nil {
			return err
		}
		if w.udp, err = w.network.ListenPacket(netip.AddrPortFrom(at.Addr(), addrPort(w.tcp.Addr()).Port())); err == nil {
			return nil
		}
		w.tcp.Close()
	}
	return err
}

// Addr is the address that the port has.
func (w *Wire) Addr() netip.AddrPort { return addrPort(w.tcp.Addr()) }

// Hello is what this node says about itself.
func (w *Wire) Hello() Hello {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hello
}

// SetFormation says which formation this node belongs to from now on. Streams of
// peers that belong to another are closed.
func (w *Wire) SetFormation(id ID, generation uint64) {
	w.mu.Lock()
	w.hello.Formation, w.hello.Generation = id, generation
	var gone []*wireConn
	for s := range w.streams {
		if r := w.hello.fits(s.hello); r != nil {
			gone = append(gone, s)
		}
	}
	w.mu.Unlock()
	for _, s := range gone {
		_ = s.Close()
	}
}

// Accept gives the streams that peers opened for a purpose. Whoever takes one
// closes it. A stream that nobody takes in time is closed. The channel is closed
// when Run ends.
func (w *Wire) Accept(p Purpose) <-chan Stream {
	if w.accepted[p] == nil {
		panic("cluster: accept " + p.String())
	}
	return w.accepted[p]
}

// Refused lists who was refused lately, the latest first.
func (w *Wire) Refused() []Refusal { return w.refusals.list() }

// RefusedTotal counts refusals by reason since the start.
func (w *Wire) RefusedTotal() map[Reason]uint64 { return w.refusals.totals() }

// Run serves the port until ctx ends. Then it closes the port and all streams,
// waits for what it started and returns nil. Any error is one of the port.
func (w *Wire) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, w.shut)
	defer stop()
	var serving sync.WaitGroup
	err := w.acceptLoop(ctx, &serving)
	w.shut()
	cancel()
	serving.Wait()
	for _, ch := range w.accepted {
		close(ch)
		for s := range ch {
			s.Close()
		}
	}
	return err
}

// Close gives up a Wire that is not run.
func (w *Wire) Close() error {
	w.shut()
	return nil
}

// shut closes everything, so that whoever waits for any of it stops waiting.
func (w *Wire) shut() {
	w.mu.Lock()
	w.closed = true
	waiting := w.waiting
	w.waiting = nil
	streams := make([]*wireConn, 0, len(w.streams))
	for s := range w.streams {
		streams = append(streams, s)
	}
	w.mu.Unlock()
	w.tcp.Close()
	_ = w.udp.Close()
	for _, c := range waiting {
		c.Close()
	}
	var closing sync.WaitGroup
	for _, s := range streams {
		closing.Go(func() { _ = s.Close() })
	}
	closing.Wait()
}

func (w *Wire) acceptLoop(ctx context.Context, serving *sync.WaitGroup) error {
	pause := pauseFirst
	for {
		c, err := w.tcp.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("cluster port: %w", err)
		}
		if err != nil { // out of descriptors, as a rule
			w.refusals.trouble(err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, pauseMax)
			continue
		}
		pause = pauseFirst
		raw := newRawConn(c)
		if !w.admit(raw) {
			raw.Close()
			continue
		}
		serving.Go(func() { w.serve(ctx, raw) })
	}
}

// admit counts a connection in. Where its address or the strangers have their
// share already, the oldest of them has to go: an honest handshake takes
// milliseconds, so it is hardly ever the oldest.
func (w *Wire) admit(c *rawConn) bool {
	share := w.share(c.addr)
	w.mu.Lock()
	var out []*rawConn
	oldest := func(limit int, same func(*rawConn) bool) {
		n := 0
		for _, o := range w.waiting {
			if same(o) {
				n++
			}
		}
		if n < limit {
			return
		}
		i := slices.IndexFunc(w.waiting, same)
		out = append(out, w.waiting[i])
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
	oldest(handshakesEach, func(o *rawConn) bool { return w.share(o.addr) == share })
	if !w.known[c.addr] {
		oldest(handshakesMax, func(o *rawConn) bool { return !w.known[o.addr] })
	}
	closed := w.closed
	if !closed {
		w.waiting = append(w.waiting, c)
	}
	w.mu.Unlock()
	for _, o := range out {
		o.evicted.Store(true)
		o.Close()
	}
	return !closed
}

// share is what counts as one address. A stranger with IPv6 has a whole subnet
// of them.
func (w *Wire) share(a netip.Addr) netip.Addr {
	if a.Is6() && !w.known[a] {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func (w *Wire) leave(c *rawConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.waiting, c); i >= 0 {
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
}

// serve takes an accepted connection through the handshake and hands it on.
func (w *Wire) serve(ctx context.Context, c *rawConn) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	s, refused := w.welcome(ctx, c)
	w.leave(c)
	if refused != nil {
		c.Close()
		if ctx.Err() != context.Canceled && refused.Reason != Itself {
			w.refusals.add(c.addr, refused, false)
		}
		return
	}
	if s == nil {
		return // a probe, which has its answer
	}
	select {
	case w.accepted[s.hello.Purpose] <- Stream{Conn: s, Hello: s.hello}:
	case <-ctx.Done():
		_ = s.Close()
		if ctx.Err() != context.Canceled {
			w.refusals.add(c.addr, &RefusedError{Reason: Busy, Detail: s.hello.Purpose.String(), Hello: s.hello}, false)
		}
	}
}

// welcome does TLS and the hellos on an accepted connection.
func (w *Wire) welcome(ctx context.Context, c *rawConn) (*wireConn, *RefusedError) {
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	t := tls.Server(c, w.identity.server)
	theirs, err := readHello(t)
	if err != nil {
		if c.evicted.Load() {
			return nil, &RefusedError{Reason: TooMany}
		}
		if !t.ConnectionState().HandshakeComplete || gone(err) || isTimeout(err) || isAlert(err, certAlerts...) {
			return nil, whyAccept(c, err)
		}
		return nil, &RefusedError{Reason: BadHello, Detail: clean(err.Error())}
	}
	ours := w.Hello()
	ours.Purpose = theirs.Purpose
	refused := ours.fits(theirs)
	if id, err := certifiedNode(t); err != nil || id != theirs.Node {
		refused = &RefusedError{Reason: BadHello, Detail: "the certificate names another node", Hello: theirs}
	}
	s := &wireConn{Conn: t, hello: theirs, wire: w, raw: c}
	if refused == nil && theirs.Purpose != purposeProbe {
		refused = w.join(ctx, s)
	}
	a := answer{hello: ours}
	if refused != nil {
		a.reason, a.detail = refused.Reason, refused.Detail
	}
	err = writeFrame(t, a.appendTo(nil))
	switch {
	case refused != nil:
		_ = c.end(t)
		return nil, refused
	case theirs.Purpose == purposeProbe:
		_ = c.end(t)
		return nil, nil
	case err != nil:
		_ = s.Close()
		return nil, whyAccept(c, err)
	}
	c.settle()
	return s, nil
}

func readHello(t *tls.Conn) (Hello, error) {
	if err := t.Handshake(); err != nil {
		return Hello{}, err
	}
	body, err := readFrame(t)
	if err != nil {
		return Hello{}, err
	}
	return decodeHello(body)
}

// Dial opens a stream to a peer. It takes at most 3 s. A RefusedError says that
// somebody is there, but must not be talked to. Any other error means that nobody
// was reached; that the port is closed (the process is gone, the machine is not)
// is found with errors.Is(err, syscall.ECONNREFUSED). The caller closes the
// stream.
func (w *Wire) Dial(ctx context.Context, to netip.AddrPort, p Purpose) (Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	s, err := w.dial(ctx, to, p)
	if err == nil {
		s.dialed = to
		if refused := w.join(ctx, s); refused != nil {
			s.raw.Close()
			err = refused
		}
	}
	if refused, ok := errors.AsType[*RefusedError](err); ok && refused.Reason != Itself {
		w.refusals.add(to.Addr().Unmap(), refused, true)
	}
	if err != nil {
		return Stream{}, fmt.Errorf("connect to %s for %s: %w", to, p, err)
	}
	s.raw.settle()
	return Stream{Conn: s, Hello: s.hello}, nil
}

// dial does not look at who else is connected.
func (w *Wire) dial(ctx context.Context, to netip.AddrPort, p Purpose) (*wireConn, error) {
	conn, err := w.network.Dial(ctx, w.from, to)
	if err != nil {
		return nil, err
	}
	c := newRawConn(conn)
	s, err := w.introduce(ctx, c, p)
	if err != nil {
		c.Close()
	}
	return s, err
}

// introduce does TLS and the hellos on a connection of ours.
func (w *Wire) introduce(ctx context.Context, c *rawConn, p Purpose) (*wireConn, error) {
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	t := tls.Client(c, w.identity.client)
	ours := w.Hello()
	ours.Purpose = p
	a, err := exchange(t, ours)
	if err != nil {
		if refused := whyDial(err); refused != nil {
			return nil, refused
		}
		return nil, err
	}
	if id, err := certifiedNode(t); err != nil || id != a.hello.Node {
		return nil, &RefusedError{Reason: BadHello, Detail: "the certificate names another node", Hello: a.hello}
	}
	if refused := ours.fits(a.hello); refused != nil {
		return nil, refused
	}
	if a.hello.Purpose != p {
		return nil, &RefusedError{Reason: BadHello, Detail: "an answer for " + a.hello.Purpose.String(), Hello: a.hello}
	}
	if a.reason != 0 {
		return nil, &RefusedError{Reason: a.reason, Detail: a.detail, ByPeer: true, Hello: a.hello}
	}
	return &wireConn{Conn: t, hello: a.hello, wire: w, raw: c}, nil
}

func exchange(t *tls.Conn, ours Hello) (answer, error) {
	if err := t.Handshake(); err != nil {
		return answer{}, err
	}
	if err := writeFrame(t, ours.appendTo(nil)); err != nil {
		return answer{}, err
	}
	body, err := readFrame(t)
	if errors.Is(err, errNoHello) {
		return answer{}, &RefusedError{Reason: BadHello, Detail: clean(err.Error())}
	}
	if err != nil {
		return answer{}, err
	}
	a, err := decodeAnswer(body)
	if err != nil {
		return answer{}, &RefusedError{Reason: BadHello, Detail: clean(err.Error())}
	}
	return a, nil
}

// sighting is which process had a node id, and where.
type sighting struct {
	boot ID
	addr netip.AddrPort
	last time.Time
}

// join takes a stream among those that stand, unless another process has its
// node id. A process that does not answer for its id any more has lost it, and
// with it what is left of its streams. Two live ones happen when a data directory
// is copied; the first stays.
func (w *Wire) join(ctx context.Context, s *wireConn) *RefusedError {
	for {
		rival, refused := w.tryJoin(s)
		if rival == nil {
			return refused
		}
		// Whoever answers at its address now is what became of it.
		if s.dialed != rival.addr && w.lives(ctx, *rival) {
			return &RefusedError{
				Reason: DuplicateNode, Hello: s.hello,
				Detail: fmt.Sprintf("%s lives at %s and claims to at %s, too", s.hello.Node, rival.addr, s.hello.Addr),
			}
		}
		w.drop(s.hello.Node, *rival)
	}
}

func (w *Wire) tryJoin(s *wireConn) (rival *sighting, refused *RefusedError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, &RefusedError{Reason: Closed, Detail: "shutting down", Hello: s.hello}
	}
	if seen, ok := w.nodes[s.hello.Node]; ok && (seen.boot != s.hello.Boot || seen.addr != s.hello.Addr) {
		return &seen, nil
	}
	n := 0
	for o := range w.streams {
		if o.accepted() && o.hello.Node == s.hello.Node {
			n++
		}
	}
	if s.accepted() && n >= streamsEach {
		return nil, &RefusedError{Reason: TooMany, Detail: fmt.Sprintf("%d streams of %s", n, s.hello.Node), Hello: s.hello}
	}
	w.streams[s] = struct{}{}
	w.sight(s.hello)
	return nil, nil
}

// sight remembers a process. Whoever has the key could make up nodes without
// end: the one seen longest ago is forgotten then.
func (w *Wire) sight(h Hello) {
	if _, ok := w.nodes[h.Node]; !ok && len(w.nodes) >= nodesMax {
		var oldest ID
		for id, s := range w.nodes {
			if oldest.IsZero() || s.last.Before(w.nodes[oldest].last) {
				oldest = id
			}
		}
		delete(w.nodes, oldest)
	}
	w.nodes[h.Node] = sighting{boot: h.Boot, addr: h.Addr, last: time.Now()}
}

// lives asks the process at an address who it is. A restarted node has the
// address of its predecessor as a rule, so that this takes as long as a
// handshake.
func (w *Wire) lives(ctx context.Context, seen sighting) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	s, err := w.dial(ctx, seen.addr, purposeProbe)
	if err == nil {
		_ = s.raw.end(s.Conn)
		return s.hello.Boot == seen.boot
	}
	refused, ok := errors.AsType[*RefusedError](err)
	return ok && refused.Hello.Boot == seen.boot
}

// drop forgets a process and closes its streams.
func (w *Wire) drop(node ID, seen sighting) {
	w.mu.Lock()
	if now := w.nodes[node]; now.boot == seen.boot && now.addr == seen.addr {
		delete(w.nodes, node)
	}
	var gone []*wireConn
	for s := range w.streams {
		if s.hello.Node == node && s.hello.Boot == seen.boot && s.hello.Addr == seen.addr {
			gone = append(gone, s)
		}
	}
	w.mu.Unlock()
	for _, s := range gone {
		s.raw.Close() // there is nobody to say good-bye to
		_ = s.Close()
	}
}

func (w *Wire) forget(s *wireConn) {
	w.mu.Lock()
	delete(w.streams, s)
	w.mu.Unlock()
}

// Stream is a connection to a peer that has the key, whose hello fits, and that
// is meant for one purpose. Whoever got it closes it. Close does not wait for the
// peer.
type Stream struct {
	net.Conn
	Hello Hello // the peer's
}

// StepOut ends TLS on a stream for PurposeRelease, at either end, before
// anything was sent on it. It gives the bare connection, which another process
// can inherit, and a secret that only the two ends of this one connection have:
// what goes over it from now on can be seen and cut off by others, but a message
// with a MAC under the secret was made for this connection. The stream is still
// what must be closed.
//
// Only the end that dialled may send. It can do so at once: the other has read
// its hello and nothing beyond.
func (s Stream) StepOut() (net.Conn, [32]byte, error) {
	c, ok := s.Conn.(*wireConn)
	if !ok || s.Hello.Purpose != PurposeRelease {
		return nil, [32]byte{}, fmt.Errorf("step out of tls on a stream for %s", s.Hello.Purpose)
	}
	state := c.Conn.ConnectionState()
	secret, err := state.ExportKeyingMaterial("EXPORTER-pen-release", nil, 32)
	if err != nil {
		return nil, [32]byte{}, fmt.Errorf("step out of tls: %w", err)
	}
	c.out.Store(true)
	return c.raw.Conn, [32]byte(secret), nil
}

// wireConn is a stream as the Wire knows it.
type wireConn struct {
	*tls.Conn
	hello  Hello // the peer's
	wire   *Wire
	raw    *rawConn
	dialed netip.AddrPort // not valid: it was accepted
	out    atomic.Bool    // TLS is over, see Stream.StepOut
	closed atomic.Bool
}

func (c *wireConn) accepted() bool { return !c.dialed.IsValid() }

func (c *wireConn) Close() error {
	if c.closed.Swap(true) {
		return nil // somebody else is at it; nobody waits for that
	}
	c.wire.forget(c)
	if c.out.Load() {
		return c.raw.Close()
	}
	return c.raw.end(c.Conn)
}

// rawConn is the connection below TLS.
type rawConn struct {
	net.Conn
	addr     netip.Addr   // of the other end
	left     atomic.Int64 // what may still be read; negative: anything
	otherKey atomic.Bool  // the peer has named another key
	evicted  atomic.Bool  // closed in favour of others
	closing  atomic.Bool
}

func newRawConn(c net.Conn) *rawConn {
	r := &rawConn{Conn: c, addr: addrPort(c.RemoteAddr()).Addr()}
	r.left.Store(handshakeBytes)
	return r
}

var errTooMuch = errors.New("more than a handshake has")

func (c *rawConn) Read(b []byte) (int, error) {
	left := c.left.Load()
	if left < 0 {
		return c.Conn.Read(b)
	}
	if left == 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), left)])
	c.left.Add(-int64(n))
	return n, err
}

// settle lifts the limits of the handshake.
func (c *rawConn) settle() {
	c.left.Store(-1)
	c.SetDeadline(time.Time{})
}

// SetWriteDeadline lets nobody wait long for the end of TLS: crypto/tls would
// wait 5 s for a peer that does not read.
func (c *rawConn) SetWriteDeadline(t time.Time) error {
	if limit := time.Now().Add(closeTime); c.closing.Load() && t.After(limit) {
		t = limit
	}
	return c.Conn.SetWriteDeadline(t)
}

// end closes a connection with the good-bye of TLS.
func (c *rawConn) end(t net.Conn) error {
	c.closing.Store(true)
	return t.Close()
}

// gone tells that the peer closed the connection, or we did.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || isReset(err)
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// addrPort is the address of one of our sockets.
func addrPort(a net.Addr) netip.AddrPort {
	var p netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		p = a.AddrPort()
	case *net.UDPAddr:
		p = a.AddrPort()
	case nil:
	default:
		p, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// kernel is the real network.
type kernel struct{}

// A peer that is gone without a word is found out by this, if by nothing else.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 5}

func (kernel) Listen(at netip.AddrPort) (net.Listener, error) {
	l := net.ListenConfig{KeepAliveConfig: keepAlive}
	l.SetMultipathTCP(false)
	return l.Listen(context.Background(), "tcp", at.String())
}

func (kernel) ListenPacket(at netip.AddrPort) (net.PacketConn, error) {
	return new(net.ListenConfig).ListenPacket(context.Background(), "udp", at.String())
}

func (kernel) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	d.SetMultipathTCP(false)
	if from.IsValid() && from.Is4() == to.Addr().Unmap().Is4() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, "tcp", to.String())
}
