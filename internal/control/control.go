// Package control is the control port as a protocol: a peer connects over TCP
// or a Unix socket, sends one line, gets the reply and the end of the stream.
//
// It promises that no peer can hold up another one, or the operator, for ever:
// every wait has an end, every table a bound, and whoever is turned away is
// counted. What the lines mean, and who may say which, is the handler's
// business; so are the words of the access lists.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// The bounds of the protocol.
const (
	MaxLine  = 4096 // bytes of a command, without what ends it
	MaxPeers = 64   // connections at once

	lineTime   = 5 * time.Second  // from accept to the end of the line
	answerTime = 25 * time.Second // for a handler; less than a client's patience
	pieceTime  = 10 * time.Second // for the peer to take a piece of the reply
	pieceSize  = 32 << 10
	drainTime  = time.Second // for the peer to close after the reply
	drainSize  = 2 << 20     // what it may still send meanwhile
	graceTime  = 2 * time.Second
)

// Peer is who asks.
type Peer struct {
	Addr netip.AddrPort // unmapped; invalid for a Unix socket
	// UID and PID of a peer on a Unix socket when it connected, or -1 where the
	// system does not tell.
	UID, PID int
}

// String names the peer for logs and records.
func (p Peer) String() string {
	switch {
	case p.Addr.IsValid():
		return p.Addr.String()
	case p.UID < 0:
		return "unix"
	}
	return fmt.Sprintf("unix uid %d pid %d", p.UID, p.PID)
}

// Handler answers one line, which comes without its terminator and is never
// empty. What it writes to w goes to the peer as it comes: a long reply needs
// no memory of its own. A write fails when the peer is gone or takes nothing;
// the handler may give up then. ctx ends after 25 s, when a write has failed,
// and when the server stops; a handler must not outlive it for anything but
// writing. Handlers run beside each other.
type Handler func(ctx context.Context, from Peer, line string, w io.Writer)

// Options of a Server.
type Options struct {
	Handler Handler
	// Allow is asked about the address of every peer that does not come over a
	// Unix socket. Nil allows all.
	Allow func(netip.Addr) bool
	// Restricted says that the control access list has entries. Without, only
	// loopback addresses and Unix sockets are listened on.
	Restricted bool
	Log        *slog.Logger // nil: none
}

// Server answers on a control port.
type Server struct {
	handler   Handler
	allow     func(netip.Addr) bool
	log       *slog.Logger
	address   Address
	listeners []net.Listener
	socket    os.FileInfo // of the Unix socket, as made
	places    places
	counters  counters
	serving   sync.WaitGroup
	stop      sync.Once
	stopped   chan struct{}
}

// Listen opens a control port, but answers nothing before Run. The text is one
// of the forms that Resolve takes. The caller closes the server, or runs it.
func Listen(ctx context.Context, text string, o Options) (*Server, error) {
	a, err := Resolve(ctx, text)
	if err != nil {
		return nil, err
	}
	if err := a.Guard(o.Restricted); err != nil {
		return nil, err
	}
	s := &Server{handler: o.Handler, allow: o.Allow, log: o.Log, address: a, stopped: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.allow == nil {
		s.allow = func(netip.Addr) bool { return true }
	}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("control port %s: %w", text, err)
	}
	return s, nil
}

// Addr returns the address that is listened on, the first if there are several:
// a path, or an address with the port that port 0 became.
func (s *Server) Addr() string {
	if s.address.Path != "" {
		return s.address.Path
	}
	return s.listeners[0].Addr().String()
}

// Chown hands the Unix socket over, so that it belongs to whom the process is
// going to become. It comes before chroot. For TCP there is nothing to do.
func (s *Server) Chown(uid, gid int) error {
	if s.address.Path == "" {
		return nil
	}
	return os.Lchown(s.address.Path, uid, gid)
}

// Close stops listening and removes the Unix socket, if the path still leads to
// the one that this server made. Connections are left to Run, which returns.
func (s *Server) Close() error {
	s.stop.Do(func() {
		for _, l := range s.listeners {
			l.Close()
		}
		s.unlink()
		close(s.stopped)
	})
	return nil
}

func (s *Server) unlink() {
	if s.socket == nil {
		return
	}
	if now, err := os.Lstat(s.address.Path); err == nil && os.SameFile(now, s.socket) {
		os.Remove(s.address.Path)
	}
}

// Run answers until ctx ends or Close is called. Replies under way may take two
// more seconds.
func (s *Server) Run(ctx context.Context) error {
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	var accepting sync.WaitGroup
	for _, l := range s.listeners {
		accepting.Go(func() { s.accept(serving, l) })
	}
	select {
	case <-ctx.Done():
	case <-s.stopped:
	}
	_ = s.Close() // never fails
	accepting.Wait()
	cancel()
	s.finish()
	return nil
}

// finish waits for the replies under way; peers that have not asked yet are
// left at once.
func (s *Server) finish() {
	s.places.closeIdle()
	force := time.AfterFunc(graceTime, s.places.closeAll)
	defer force.Stop()
	s.serving.Wait()
}

// accept takes connections from one listener until that is closed.
func (s *Server) accept(ctx context.Context, l net.Listener) {
	const longest = time.Second
	pause := 10 * time.Millisecond
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 10 * time.Millisecond
			s.admit(ctx, c.(stream))
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// Out of descriptors, or a connection that died in the queue. The
			// port must outlive both.
			s.counters.accept.Add(1)
			s.log.Warn("accept on the control port", "err", err)
			select {
			case <-time.After(pause):
			case <-s.stopped:
				return
			}
			pause = min(2*pause, longest)
		}
	}
}

// stream is what TCP and Unix connections have in common.
type stream interface {
	net.Conn
	CloseWrite() error
}

// admit starts to serve a connection, or closes it.
func (s *Server) admit(ctx context.Context, c stream) {
	from := peerOf(c)
	if from.Addr.IsValid() && !s.allow(from.Addr.Addr()) {
		s.counters.denied.Add(1)
		s.log.Warn("do_ctrl: not from there", "client", from.Addr.Addr())
		c.Close()
		return
	}
	p := &place{conn: c, idle: true}
	displaced, ok := s.places.enter(p)
	if displaced != nil {
		s.counters.displaced.Add(1)
		displaced.Close()
	}
	if !ok {
		s.counters.full.Add(1)
		s.refuse(c, errFull)
		c.Close()
		return
	}
	s.serving.Go(func() { s.serve(ctx, p, from) })
}
