// Package metrics answers Prometheus over HTTP: it is the text format, and a
// server that gives nothing but that.
//
// It promises that nobody who asks can hold up anything: connections, their
// time and what they may send are bounded, one look is taken at a time, and
// whoever is turned away is counted. What the figures are is the caller's
// business.
package metrics

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"pen/internal/control"
)

// The bounds of the server.
const (
	MaxPeers = 16 // connections at once, each for one answer

	readTime   = 5 * time.Second  // for the request, head and body
	answerTime = 10 * time.Second // from the request to the end of the answer
	graceTime  = 2 * time.Second  // for answers under way when the server stops
	headSize   = 8 << 10
)

// Options of a Server.
type Options struct {
	// Collect takes a look. It is called for each answer, never twice at once.
	Collect func(context.Context, *Set)
	// Allow is asked about the address of every peer. Nil allows all.
	Allow func(netip.Addr) bool
	// Restricted says that the access list has entries. Without, only loopback
	// addresses are listened on.
	Restricted bool
	Log        *slog.Logger // nil: none
}

// Counters tell what became of connections and requests since the start.
type Counters struct {
	Answers uint64 // of figures
	Denied  uint64 // connections, by the access list
	Full    uint64 // connections beyond MaxPeers
	Accept  uint64 // errors of accept
}

// Server gives figures.
type Server struct {
	opts      Options
	listeners []net.Listener
	http      *http.Server
	looking   sync.Mutex // held while a look is taken
	places    chan struct{}
	stop      sync.Once
	stopped   chan struct{}

	answers, denied, full, accept atomic.Uint64
}

// Listen opens the port, but answers nothing before Run. The text is
// [HOST:]PORT, as a control port has it. The caller closes the server, or runs
// it.
func Listen(ctx context.Context, text string, o Options) (*Server, error) {
	listeners, err := control.ListenTCP(ctx, "metrics", text, o.Restricted)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Allow == nil {
		o.Allow = func(netip.Addr) bool { return true }
	}
	s := &Server{opts: o, listeners: listeners, places: make(chan struct{}, MaxPeers), stopped: make(chan struct{})}
	s.http = &http.Server{
		Handler:           s.pages(),
		ReadHeaderTimeout: readTime,
		ReadTimeout:       readTime,
		WriteTimeout:      answerTime,
		MaxHeaderBytes:    headSize,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // what peers do wrong
		// An answer to `OPTIONS *` would be one more thing to explain.
		DisableGeneralOptionsHandler: true,
	}
	// A place that is kept between two looks is one that nobody else has.
	s.http.SetKeepAlivesEnabled(false)
	return s, nil
}

// Addr returns the address that is listened on, the first if there are several.
func (s *Server) Addr() string { return s.listeners[0].Addr().String() }

// Counters may be called at any time, from any goroutine.
func (s *Server) Counters() Counters {
	return Counters{Answers: s.answers.Load(), Denied: s.denied.Load(), Full: s.full.Load(), Accept: s.accept.Load()}
}

// Close stops listening. Connections are left to Run, which returns.
func (s *Server) Close() error {
	s.stop.Do(func() {
		for _, l := range s.listeners {
			l.Close()
		}
		close(s.stopped)
	})
	return nil
}

// Run answers until ctx ends or Close is called. Answers under way may take two
// more seconds.
func (s *Server) Run(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	var serving sync.WaitGroup
	for _, l := range s.listeners {
		// It ends when the listener does: door passes no other error on.
		serving.Go(func() { _ = s.http.Serve(&door{Listener: l, server: s}) })
	}
	select {
	case <-ctx.Done():
	case <-s.stopped:
	}
	_ = s.Close() // never fails
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceTime)
	defer cancel()
	if s.http.Shutdown(grace) != nil {
		_ = s.http.Close()
	}
	serving.Wait()
	return nil
}

// pages are all there are. The patterns see to the methods: GET and HEAD.
func (s *Server) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.figures)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "ok\n")
	})
	return mux
}

// figures takes a look and sends it whole: a peer that reads slowly gets one
// moment's figures, and holds no lock.
func (s *Server) figures(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	s.look(r.Context(), &b)
	s.answers.Add(1)
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = b.WriteTo(w) // the peer may have gone
}

func (s *Server) look(ctx context.Context, b *bytes.Buffer) {
	s.looking.Lock()
	defer s.looking.Unlock()
	var set Set
	s.opts.Collect(ctx, &set)
	_, _ = set.WriteTo(b) // into memory
}

// door lets in whom the access list permits, as many as there are places.
type door struct {
	net.Listener
	server *Server
}

// Accept returns an error only when the listener is closed. Out of descriptors,
// or a connection that died in the queue: the port must outlive both.
func (d *door) Accept() (net.Conn, error) {
	const shortest, longest = 10 * time.Millisecond, time.Second
	s, pause := d.server, shortest
	for {
		c, err := d.Listener.Accept()
		switch {
		case err == nil:
			pause = shortest
			if s.admits(c) {
				return &guest{TCPConn: c.(*net.TCPConn), leave: sync.OnceFunc(func() { <-s.places })}, nil
			}
			c.Close()
		case errors.Is(err, net.ErrClosed):
			return nil, err
		default:
			s.accept.Add(1)
			s.opts.Log.Warn("accept on the metrics port", "err", err)
			select {
			case <-time.After(pause):
			case <-s.stopped:
				return nil, net.ErrClosed
			}
			pause = min(2*pause, longest)
		}
	}
}

// admits gives a connection a place, if it may have one.
func (s *Server) admits(c net.Conn) bool {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if !s.opts.Allow(from) {
		s.denied.Add(1)
		s.opts.Log.Warn("metrics: not from there", "client", from)
		return false
	}
	select {
	case s.places <- struct{}{}:
		return true
	default:
		s.full.Add(1)
		return false
	}
}

// guest is a connection with a place.
type guest struct {
	*net.TCPConn // with CloseWrite, by which net/http lets a peer read what was wrong
	leave        func()
}

func (g *guest) Close() error {
	defer g.leave()
	return g.TCPConn.Close()
}
