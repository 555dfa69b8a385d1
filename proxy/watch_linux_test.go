package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"pen/state"
)

// seen is what a Watch was told.
type seen struct {
	t testing.TB

	mu       sync.Mutex // guards the rest
	visits   []Visit
	requests []string
}

func (s *seen) visit(v *Visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits = append(s.visits, *v)
}

func (s *seen) request(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, fmt.Sprintf("%v>%v%s %s", r.Client, r.Server, r.Path, r.Data))
}

// next waits for a visit and takes it.
func (s *seen) next(why string) (v Visit) {
	s.t.Helper()
	eventually(s.t, "a visit is told: "+why, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.visits) == 0 {
			return false
		}
		v, s.visits = s.visits[0], s.visits[1:]
		return true
	})
	return v
}

// ends waits for a visit that ended so.
func (s *seen) ends(why Cause) Visit {
	s.t.Helper()
	v := s.next(why.String())
	if v.Cause != why {
		s.t.Errorf("a visit ended %v, want %v: %+v", v.Cause, why, v)
	}
	return v
}

// plane is one of the two data planes.
type plane struct {
	seen  *seen
	dial  func() duplex
	apply func(...state.Op)
	close func(slot int)
	last  func() int // slot that was used last
	stop  func()
}

// planes runs a test on both.
func planes(t *testing.T, servers func(t *testing.T) []string, test func(t *testing.T, p plane)) {
	t.Run("loops", func(t *testing.T) {
		s := newStand(t, Options{Loops: 2}, servers(t)...)
		w := &seen{t: t}
		s.Watch(Watch{Visit: w.visit})
		test(t, plane{
			seen: w, dial: s.dial, apply: s.apply, close: func(i int) { s.CloseConnection("", i) },
			last: func() int { return s.Stats("").Last }, stop: func() { s.stop() },
		})
	})
	t.Run("goroutines", func(t *testing.T) {
		s := newNetStand(t, servers(t)...)
		w := &seen{t: t}
		s.engine.opts.watch.Store(&Watch{Visit: w.visit})
		test(t, plane{
			seen: w, dial: s.dial, apply: func(ops ...state.Op) { s.setup(ops...) },
			close: func(i int) { s.engine.closeConnection(s.front, i) },
			last:  func() int { _, _, last := s.front.slots.figures(); return last }, stop: s.stop,
		})
	})
}

func TestVisitsTellHowTheyEnded(t *testing.T) {
	part := make(chan func(duplex), 1) // what the server does
	servers := func(t *testing.T) []string {
		return []string{backend(t, loopback, func(c duplex) { (<-part)(c) })}
	}
	planes(t, servers, func(t *testing.T, p plane) {
		start := time.Now()
		part <- echo
		c := p.dial()
		exchange(t, c, "hello")
		c.CloseWrite()
		all(t, c)
		c.Close()
		v := p.seen.ends(ClientClosed)
		if v.Received != 5 || v.Sent != 5 || v.Server != 0 || v.Remembered || v.Failovers != 0 || v.Service == "" ||
			v.Client.Port() == 0 || !v.Client.Addr().IsLoopback() || v.Backend.Port() == 0 || v.TLS != nil {
			t.Errorf("got %+v", v)
		}
		if v.Began.Before(start.Add(-time.Second)) || v.Connect <= 0 || v.First < v.Connect || v.Total < v.First || v.Total > time.Since(start)+time.Second {
			t.Errorf("times: %+v", v)
		}

		part <- func(c duplex) { io.WriteString(c, "bye"); c.CloseWrite() }
		c = p.dial()
		all(t, c)
		c.Close()
		if v := p.seen.ends(ServerClosed); !v.Remembered || v.Sent != 3 {
			t.Errorf("got %+v", v)
		}

		part <- echo
		c = p.dial()
		exchange(t, c, "x")
		resetter(t, c)
		c.Close()
		p.seen.ends(ClientReset)

		part <- func(c duplex) { c.Read(make([]byte, 1)); resetter(t, c) }
		c = p.dial()
		io.WriteString(c, "x")
		c.Read(make([]byte, 1))
		p.seen.ends(ServerReset)

		part <- echo
		c = p.dial()
		exchange(t, c, "x")
		p.close(p.last())
		p.seen.ends(ClosedByOperator)

		p.apply(state.Set{Option: state.OptIdle, Value: state.Int(1)})
		part <- echo
		p.dial()
		if v := p.seen.ends(Idle); v.First != 0 || v.Total < time.Second {
			t.Errorf("got %+v", v)
		}
		p.apply(state.Set{Option: state.OptIdle, Value: state.Int(0)})

		part <- echo
		c = p.dial()
		exchange(t, c, "x")
		p.stop()
		p.seen.ends(ShutDown)
	})
}

func TestVisitsTellWhyThereWasNoServer(t *testing.T) {
	servers := func(t *testing.T) []string { return []string{refusing(t), refusing(t)} }
	planes(t, servers, func(t *testing.T, p plane) {
		p.dial()
		if v := p.seen.ends(ConnectFailed); v.Server != state.None || v.Failovers != 1 || v.Connect != 0 {
			t.Errorf("got %+v", v)
		}
		p.dial()
		p.seen.ends(NoServer) // both are shunned
		if t.Failed() {
			return
		}
		p.apply(state.AppendACL{List: 1, Entry: state.ACLEntry{Addr: netip.MustParseAddr("127.0.0.1")}}, state.Set{Option: state.OptClientACL, Value: state.Int(1)})
		p.dial()
		p.seen.ends(ClientDenied)
	})
}

func TestVisitsTellOfFailoverAndLimits(t *testing.T) {
	servers := func(t *testing.T) []string { return []string{backend(t, loopback, echo), refusing(t)} }
	planes(t, servers, func(t *testing.T, p plane) {
		c := p.dial()
		exchange(t, c, "x")
		p.apply(state.SetServer{Index: 0, Fields: state.FieldSoft, Server: state.Server{Soft: 1}})
		p.dial()
		p.seen.ends(ServersFull)
		c.Close()
		if v := p.seen.ends(ClientClosed); v.Failovers != 1 || v.Server != 0 || v.Remembered {
			t.Errorf("got %+v", v)
		}
	})
}

func TestFlowsAreVisits(t *testing.T) {
	s := newUDP(t, Options{Loops: 2}, 0, datagrams(t, loopback, called("a")))
	w := &seen{t: t}
	s.Watch(Watch{Visit: w.visit, Request: w.request})
	s.set(state.OptIdle, state.Int(1))
	s.call().ask("hello", "a hello")
	v := w.ends(Idle)
	if v.Protocol != state.UDP || v.Received != 5 || v.Sent != 7 || v.First == 0 || v.Client.Port() == 0 {
		t.Errorf("got %+v", v)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.requests) != 1 || w.requests[0] != "127.0.0.1>127.0.0.1 hello" {
		t.Errorf("told %q", w.requests)
	}
}

func TestVisitsTellOfTLS(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	w := &seen{t: t}
	s.Watch(Watch{Visit: w.visit, Request: w.request})
	c := s.connect(s.client())
	io.WriteString(c, "secret")
	c.Read(make([]byte, 10))
	c.Close()
	v := w.ends(ClientClosed)
	if v.TLS == nil || v.TLS.Version != tls.VersionTLS13 || v.TLS.Name != "localhost" || v.Received != 6 {
		t.Errorf("got %+v, TLS %+v", v, v.TLS)
	}
	plain := s.dial()
	io.WriteString(plain, "GET / HTTP/1.0\r\n\r\n")
	if v := w.ends(HandshakeFailed); v.TLS != nil || v.Server != state.None {
		t.Errorf("got %+v", v)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.requests) != 1 || !strings.HasSuffix(w.requests[0], " secret") {
		t.Errorf("told %q", w.requests)
	}
}

// What a client sends is told in the pieces in which it is read, also when it comes
// with the handshake, and when there is so much that it would not be looked at.
func TestRequestsAreToldAsTheyAreRead(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	w := &seen{t: t}
	s.Watch(Watch{Request: w.request})
	c := s.dial()
	exchange(t, c, "one\nand more")
	exchange(t, c, "two")
	big := strings.Repeat("x", 3000)
	go io.WriteString(c, big)
	if _, err := io.ReadFull(c, make([]byte, len(big))); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	if got := strings.Join(w.requests[:2], "|"); got != "127.0.0.1>127.0.0.1 one\nand more|127.0.0.1>127.0.0.1 two" {
		t.Errorf("told %q", got)
	}
	if last := w.requests[2]; len(last) > RequestMost+len("127.0.0.1>127.0.0.1 ") {
		t.Errorf("told %d bytes at once", len(last))
	}
	w.mu.Unlock()

	s.Watch(Watch{})
	exchange(t, c, "nobody is told")
	s.Watch(Watch{Request: w.request})
	n := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.requests) }
	before, sent := n(), 8<<20
	go func() {
		c.Write(make([]byte, sent))
		c.CloseWrite()
	}()
	all(t, c)
	if got := n() - before; got < sent/bufferSize {
		t.Errorf("of %d bytes %d pieces were told: some was spliced", sent, got)
	}
}

// Somebody who is told costs the loops no memory for each connection.
func TestTellingAllocatesNothing(t *testing.T) {
	s := newStand(t, Options{Loops: 1}, backend(t, loopback, echo))
	s.Watch(Watch{Visit: func(*Visit) {}, Request: func(*Request) {}})
	exchange(t, s.dial(), "x")
	everywhere(s.engine, func(l *loop) struct{} {
		c := l.conns.take()
		c.front = s.front("")
		n := testing.AllocsPerRun(100, func() {
			l.account(c, 1)
			l.tell(c, l.accounts.at(c.place))
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
		l.conns.give(c)
		return struct{}{}
	})
}
