package proxy

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"pen/state"
)

// waiting is a server that counts who is connected, and does nothing.
type waiting struct {
	at    string
	mu    sync.Mutex
	conns []net.Conn
	made  int
}

func newWaiting(t *testing.T) *waiting {
	w := &waiting{}
	w.at = backend(t, loopback, func(c duplex) {
		w.mu.Lock()
		w.conns, w.made = append(w.conns, c), w.made+1
		w.mu.Unlock()
		io.Copy(io.Discard, c)
		w.mu.Lock()
		w.conns = slices.DeleteFunc(w.conns, func(other net.Conn) bool { return other == c })
		w.mu.Unlock()
	})
	return w
}

func (w *waiting) open() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns)
}

// hangUp ends all that are there.
func (w *waiting) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
}

func (s *stand) idlers(n int) { s.t.Helper(); s.set(state.OptIdlers, state.Int(n)) }

// spread waits until each server has so many.
func spread(t *testing.T, want int, servers ...*waiting) {
	t.Helper()
	eventually(t, "connections spread", func() bool {
		return !slices.ContainsFunc(servers, func(w *waiting) bool { return w.open() != want })
	})
}

func TestIdlersAreOpenedReplacedAndLowered(t *testing.T) {
	a, b := newWaiting(t), newWaiting(t)
	s := newStand(t, Options{}, a.at, b.at)
	s.idlers(4)
	spread(t, 2, a, b)
	eventually(t, "all are told", func() bool { return s.Stats("").Idlers == 4 })
	for _, c := range s.Connections("") {
		if c.State != StateConnected|StateClientClosed || c.DownFD != -1 || c.UpFD < 0 || c.Client != -1 || !c.Idler {
			t.Errorf("got %+v", c)
		}
	}
	if got := s.Stats("").Used; got != 4 {
		t.Errorf("%d slots in use, want 4", got)
	}
	for i, f := range s.Servers("") {
		if f.Conns != 2 {
			t.Errorf("server %d has %d connections, want 2", i, f.Conns)
		}
	}
	b.hangUp()
	eventually(t, "the ended ones are replaced, by turns", func() bool { return a.open() == 3 && b.open() == 1 })
	if !s.CloseConnection("", s.Connections("")[0].Slot) {
		t.Error("one can not be closed")
	}
	eventually(t, "the closed one is replaced", func() bool { return a.open()+b.open() == 4 && s.Stats("").Idlers == 4 })
	s.idlers(1)
	eventually(t, "one is left", func() bool { return a.open()+b.open() == 1 && s.Stats("").Idlers == 1 })
	s.idlers(-3)
	eventually(t, "none is left", func() bool { return a.open()+b.open() == 0 && s.Stats("").Used == 0 })
	if got := slices.Collect(s.Clients("")); len(got) != 0 {
		t.Errorf("they are taken for clients: %+v", got)
	}
}

// A client gets a connection of his own: what a server that speaks first has said to
// an idler is gone.
func TestIdlersAreForNoClient(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, func(c duplex) {
		io.WriteString(c, "welcome")
		io.Copy(io.Discard, c)
	}))
	s.idlers(2)
	eventually(t, "what they were told is counted", func() bool {
		return s.Stats("").Idlers == 2 && s.Servers("")[0].Received == 2*7
	})
	c := s.dial()
	got := make([]byte, 7)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "welcome" {
		t.Errorf("a client gets %q, %v", got, err)
	}
	if f := s.Servers("")[0]; f.Attempts != 3 {
		t.Errorf("%d connects, want 3", f.Attempts)
	}
}

func TestIdlersKeepToTheLimits(t *testing.T) {
	a, b := newWaiting(t), newWaiting(t)
	s := newStand(t, Options{}, a.at)
	s.server(0, a.at, func(op *state.SetServer) { op.Fields |= state.FieldSoft; op.Server.Soft = 3 })
	s.set(state.OptPendingMax, state.Int(1000)) // all at once
	s.idlers(400)
	eventually(t, "as many as the server may have", func() bool { return a.open() == 3 })
	s.server(1, b.at, nil)
	eventually(t, "half the places in all", func() bool { return b.open() == 247 && s.Stats("").Idlers == 250 })
	c := s.dial()
	defer c.Close()
	eventually(t, "a client has his place", func() bool { return b.open() == 248 })
	s.idlers(0)
	eventually(t, "all but the client are gone", func() bool { return a.open()+b.open() == 1 })
}

func TestIdlersLeaveAServerThatIsRetired(t *testing.T) {
	a, b := newWaiting(t), newWaiting(t)
	s := newStand(t, Options{}, a.at, b.at)
	s.idlers(2)
	spread(t, 1, a, b)
	s.server(0, "0.0.0.0:1", nil)
	eventually(t, "both at the other server", func() bool { return a.open() == 0 && b.open() == 2 })
	s.apply(state.RemoveServer{Index: 1})
	eventually(t, "none", func() bool { return b.open() == 0 && s.Stats("").Used == 0 })
}

func TestIdlersOfADeadServer(t *testing.T) {
	a := newWaiting(t)
	s := newStand(t, Options{}, refusing(t), a.at)
	s.idlers(3)
	eventually(t, "all at the one that lives", func() bool { return a.open() == 3 })
	stats := s.Stats("")
	if stats.Failovers != 0 || stats.Refused["no_server"] != 0 {
		t.Errorf("idlers are counted as clients: %+v", stats)
	}
	if s.Servers("")[0].Mark == 0 {
		t.Error("the dead server is not shunned")
	}
}

func TestNoIdlersAtAStandby(t *testing.T) {
	a := newWaiting(t)
	s := newStand(t, Options{Standby: true}, a.at)
	s.idlers(3)
	s.Serve()
	eventually(t, "the one that serves has them", func() bool { return a.open() == 3 && s.Stats("").Idlers == 3 })
	made := a.made
	s.Standby()
	eventually(t, "none at a standby", func() bool { return a.open() == 0 && s.Stats("").Used == 0 })
	if got := s.Stats("").Reset; got != 0 {
		t.Errorf("%d clients are said to be reset", got)
	}
	if a.made != made {
		t.Errorf("%d were made, want %d", a.made, made)
	}
	s.Serve()
	eventually(t, "and again", func() bool { return a.open() == 3 })
}

func TestDrainEndsIdlers(t *testing.T) {
	a := newWaiting(t)
	s := newStand(t, Options{}, a.at)
	s.idlers(3)
	spread(t, 3, a)
	s.Drain(t.Context())
	if got := s.Stats("").Used; got != 0 {
		t.Errorf("%d connections are left", got)
	}
}

func TestNoIdlersForDatagrams(t *testing.T) {
	a := newWaiting(t)
	s := newStand(t, Options{}, a.at)
	s.idlers(3)
	spread(t, 3, a)
	s.set(state.OptProtocol, state.Int(int(state.UDP)))
	spread(t, 0, a)
}
