package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"pen/state"
)

// world is a service with a real state machine behind it and no network: the
// test says what becomes of each connect.
type world struct {
	t       testing.TB
	mu      sync.Mutex // one proposal at a time; guards lag
	lag     bool       // views are not passed on
	machine *state.Machine
	*service
	now  state.Time
	down map[int]bool // servers that refuse
}

// newWorld makes a service with n servers.
func newWorld(t testing.TB, n int) *world {
	w := &world{t: t, machine: state.New(), now: state.At(time.Now()), down: map[int]bool{}}
	w.service = newService(slog.New(slog.DiscardHandler), w.proposed, w.machine.View().Service(""))
	for i := range n {
		w.server(i, func(*state.Server) {}, 0)
	}
	w.refresh()
	return w
}

// refresh passes the view on to the service.
func (w *world) refresh() {
	v := w.machine.View()
	var l *lists
	if p := w.plan.Load(); p != nil {
		l = p.lists
	}
	w.configure(v, v.Service(""), l.compile(v, nil))
}

func (w *world) proposed(_ context.Context, c state.Command) (state.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.machine.Apply(c)
	if !w.lag {
		w.refresh()
	}
	return r, nil
}

// late keeps views from the service, or no longer.
func (w *world) late(lag bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lag = lag; !lag {
		w.refresh()
	}
}

func (w *world) apply(ops ...state.Op) {
	w.t.Helper()
	if r, _ := w.proposed(context.Background(), state.Command{Time: w.now, Ops: ops}); r.Err != nil {
		w.t.Fatal(r.Err)
	}
}

func (w *world) set(o state.Option, v state.Value) {
	w.t.Helper()
	w.apply(state.Set{Option: o, Value: v})
}

// server makes or changes server i, whose address follows from its number.
func (w *world) server(i int, change func(*state.Server), fields state.ServerFields) {
	w.t.Helper()
	ip := netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 10)})
	s := state.Server{Address: state.Address{Host: ip.String(), IP: ip}, Port: 80}
	change(&s)
	w.apply(state.SetServer{Index: i, Fields: state.FieldAddress | state.FieldPort | fields, Server: s})
}

func (w *world) limits(i, soft, hard int) {
	w.t.Helper()
	w.server(i, func(s *state.Server) { s.Soft, s.Hard = soft, hard }, state.FieldSoft|state.FieldHard)
}

func (w *world) deny(list int, addr string) {
	w.t.Helper()
	w.apply(state.AppendACL{List: list, Entry: state.ACLEntry{Addr: netip.MustParseAddr(addr)}})
}

var errRefused = errors.New("connection refused")

// connect is one client's connection. It returns the names of the servers that
// were tried, the last of which it has, or "-" at the end if it has none.
func (w *world) connect(client string) (string, *server) {
	addr, _ := netip.ParseAddr(client)
	var tried []string
	t := w.begin(addr, 4711, w.now)
	for range 100 {
		tg, ok := w.next(&t, addr, w.now)
		if !ok {
			return strings.Join(append(tried, "-"), " "), nil
		}
		v := tg.server
		tried = append(tried, serverName(v.index))
		w.attempting(&t, v, addr, w.now)
		if !w.down[v.index] {
			w.connected(v, w.now)
			return strings.Join(tried, " "), v
		}
		w.failed(v, errRefused, w.now)
	}
	w.t.Fatalf("no end: %v", tried)
	return "", nil
}

func serverName(i int) string {
	switch i {
	case state.Emergency:
		return "emergency"
	case state.Abuse:
		return "abuse"
	case state.None:
		return "none"
	}
	return string(rune('A' + i))
}

// visits connects and closes at once, and fails the test if another server than
// the wanted is met.
func (w *world) visits(client, want string) {
	w.t.Helper()
	got, v := w.connect(client)
	if v != nil {
		w.release(v)
	}
	if got != want {
		w.t.Errorf("%s: got %q, want %q", client, got, want)
	}
}

// holds connects and stays.
func (w *world) holds(client, want string) *server {
	w.t.Helper()
	got, v := w.connect(client)
	if got != want {
		w.t.Errorf("%s: got %q, want %q", client, got, want)
	}
	return v
}

func (w *world) special(i int) {
	w.server(i, func(*state.Server) {}, 0)
}
