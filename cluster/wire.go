package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
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
	known    atomic.Pointer[map[netip.Addr]bool] // who is expected
	tcp      net.Listener
	udp      net.PacketConn
	accepted map[Purpose]chan Stream
	refusals refusals
	later    func(peer Hello) // one of a later generation was met; nil: nobody wants to know; set before Run

	mu      sync.Mutex // guards what follows
	hello   Hello
	waiting []*rawConn // accepted and not yet through their hellos, oldest first
	streams map[*wireConn]struct{}
	nodes   map[ID]sighting              // the process that each node was last
	packets map[netip.AddrPort]time.Time // when a sealed packet last came from an expected address
	closed  bool
}

// NewWire opens the port. Run serves it; a Wire that is never run must be closed.
func NewWire(cfg WireConfig) (*Wire, error) {
	w := &Wire{
		log: cfg.Log, network: cfg.Network, hello: cfg.Hello, from: cfg.Listen.Addr(),
		accepted: map[Purpose]chan Stream{}, streams: map[*wireConn]struct{}{}, nodes: map[ID]sighting{}, packets: map[netip.AddrPort]time.Time{},
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.refusals.log = w.log
	known := knownOf(cfg.Peers)
	w.known.Store(&known)
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
	w.change(func(h *Hello) { h.Formation, h.Generation = id, generation })
}

// change makes this node say something else of itself. Streams of peers that do
// not fit any more are closed.
func (w *Wire) change(what func(*Hello)) {
	w.mu.Lock()
	what(&w.hello)
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

// over tells that the port is closed.
func (w *Wire) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
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
