package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/state"
)

// netStand is a service on loopback that the goroutines of netEngine serve. When
// its test ends, nothing of it may be left.
type netStand struct {
	*world
	front  *front
	engine *netEngine
	at     *netListener
	stop   func()
}

func newNetStand(t *testing.T, servers ...string) *netStand {
	t.Helper()
	files, routines := openFiles(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		eventually(t, "goroutines and descriptors given back", func() bool {
			return runtime.NumGoroutine() <= routines && len(openFiles(t)) <= len(files)
		})
	})
	s := &netStand{world: newWorld(t, 0)}
	s.front = &front{service: s.service}
	s.engine = newNetEngine(slog.New(slog.DiscardHandler), &Options{watch: newWatching()})
	for i, at := range servers {
		s.serve(i, at)
	}
	s.setup()
	s.at = s.open(place{addr: netip.MustParseAddrPort(loopback)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.engine.run(ctx)
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		for ln := range s.engine.listeners {
			s.engine.retire(ln)
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *netStand) open(at place) *netListener {
	s.t.Helper()
	ln, err := s.engine.open(at, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.engine.serve(ln, s.front)
	return ln
}

// serve makes slot i the server at an address or path.
func (s *netStand) serve(i int, at string) {
	s.t.Helper()
	op := state.SetServer{Index: i, Fields: state.FieldAddress | state.FieldPort}
	if strings.HasPrefix(at, "/") {
		op.Server.Host = at
	} else {
		ap := netip.MustParseAddrPort(at)
		op.Server.IP, op.Server.Port = ap.Addr(), ap.Port()
	}
	s.apply(op)
}

// setup makes settings count.
func (s *netStand) setup(ops ...state.Op) {
	s.t.Helper()
	if len(ops) > 0 {
		s.apply(ops...)
	}
	s.front.settings.Store(&s.machine.View().Service("").Settings)
	s.engine.retime(s.front)
	s.engine.freed(s.front)
}

func (s *netStand) dial() duplex { return dial(s.t, s.at.String()) }

func (s *netStand) quiet() {
	s.t.Helper()
	eventually(s.t, "no connection left", func() bool { return len(s.engine.of(s.front)) == 0 })
}

func TestNetBytesArriveBothWaysAndAreCounted(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, echo))
	c := s.dial()
	exchange(t, c, "hello")
	eventually(t, "a connection and 5 bytes each way", func() bool { // bytes are counted after they have arrived
		s.engine.credit(s.front)
		srv, clients := s.serverStats()[0], slices.Collect(s.clientStats(present()))
		return srv.Conns == 1 && srv.Sent == 5 && srv.Received == 5 && srv.Attempts == 1 &&
			len(clients) == 1 && clients[0].Sent == 5 && clients[0].Received == 5 && clients[0].Connects == 1
	})
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		c.Write(big)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("read %d bytes and %v, want %d as sent", len(got), err, len(big))
	}
	s.quiet()
	if got := s.serverStats()[0]; got.Conns != 0 || got.Sent != uint64(5+len(big)) {
		t.Errorf("server: got %+v after the end", got)
	}
}

func TestNetHalfCloseIsPassedOnAndTheLateAnswerArrives(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, func(c duplex) {
		b, _ := io.ReadAll(c)
		time.Sleep(20 * time.Millisecond)
		c.Write(append(b, " and back"...))
	}))
	c := s.dial()
	io.WriteString(c, "there")
	c.CloseWrite()
	if got := all(t, c); got != "there and back" {
		t.Errorf("got %q", got)
	}
	s.quiet()
}

func TestNetARefusedConnectFailsOver(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, name("first")), refusing(t), backend(t, loopback, name("third")))
	c := s.dial()
	if got := all(t, c); got != "third" {
		t.Errorf("got %q, want the third: the second refuses", got)
	}
	c.Close()
	if got := s.serverStats()[1]; got.Failures != 1 || got.Mark == 0 || got.Conns != 0 {
		t.Errorf("got %+v, want one failure and a mark", got)
	}
	s.quiet()
	if n := s.pending.Load(); n != 0 {
		t.Errorf("%d attempts are still counted", n)
	}
}

func TestNetWithoutAServerTheClientIsClosed(t *testing.T) {
	s := newNetStand(t, refusing(t))
	if got, err := io.ReadAll(s.dial()); len(got) > 0 {
		t.Errorf("got %q, %v, want the end", got, err)
	}
	s.quiet()
}

func TestNetASilentServerTimesOut(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, name("one")), full(t))
	s.setup(state.Set{Option: state.OptTimeout, Value: state.Int(1)})
	begun := time.Now()
	if got := all(t, s.dial()); got != "one" {
		t.Errorf("got %q", got)
	}
	if d := time.Since(begun); d < 900*time.Millisecond || d > 10*time.Second {
		t.Errorf("took %v, want about a second", d)
	}
}

// full returns an address that does not answer connects: its backlog is full.
func full(t *testing.T) string {
	t.Helper()
	f, err := net.Listen("tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	raw, _ := f.(*net.TCPListener).SyscallConn()
	raw.Control(func(fd uintptr) { syscall.Listen(int(fd), 0) })
	for range 3 {
		go func() {
			if c, err := net.DialTimeout("tcp", f.Addr().String(), 200*time.Millisecond); err == nil {
				t.Cleanup(func() { c.Close() })
			}
		}()
	}
	time.Sleep(300 * time.Millisecond)
	return f.Addr().String()
}

func TestNetAResetIsPassedOn(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, func(c duplex) {
		io.ReadFull(c, make([]byte, 1))
		c.(*net.TCPConn).SetLinger(0)
	}))
	c := s.dial()
	io.WriteString(c, "x")
	if _, err := io.ReadAll(c); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("got %v, want a reset", err)
	}
	s.quiet()
}

func TestNetClientsBeyondTheLimitWaitAndAreServed(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, echo))
	s.setup(state.Set{Option: state.OptPendingMax, Value: state.Int(1)})
	s.front.settings.Store(func() *state.Settings { set := *s.front.settings.Load(); set.ConnMax = 2; return &set }())
	first, second := s.dial(), s.dial()
	exchange(t, first, "a")
	exchange(t, second, "b")
	third := s.dial()
	io.WriteString(third, "c")
	third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, _ := third.Read(make([]byte, 1)); n != 0 {
		t.Error("the third client was served beside two")
	}
	first.Close()
	third.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(third, make([]byte, 1)); err != nil {
		t.Errorf("the third client was not served: %v", err)
	}
}

func TestNetIdleConnectionsAreClosed(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, echo))
	c := s.dial()
	exchange(t, c, "a")
	s.setup(state.Set{Option: state.OptIdle, Value: state.Int(1)})
	begun := time.Now()
	all(t, c)
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("closed after %v", d)
	}
	s.quiet()
}

func TestNetFastcloseEndsBothSides(t *testing.T) {
	quit := make(chan struct{})
	s := newNetStand(t, backend(t, loopback, func(c duplex) {
		io.Copy(io.Discard, c)
		<-quit // never answers
	}))
	defer close(quit)
	s.setup(state.Set{Option: state.OptFastclose, Value: state.Int(int(state.FastcloseDown))})
	c := s.dial()
	io.WriteString(c, "bye")
	c.CloseWrite()
	io.ReadAll(c)
	s.quiet()
}

func TestNetConnectionsAreListedAndClosed(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, echo))
	c := s.dial()
	exchange(t, c, "a")
	conns := s.engine.connections(s.front)
	if len(conns) != 1 || conns[0].State != StateConnected || conns[0].DownFD < 0 || conns[0].UpFD < 0 || conns[0].Server != 0 {
		t.Errorf("got %+v", conns)
	}
	if one, ok := s.engine.connection(s.front, 0); !ok || one.DownFD != conns[0].DownFD {
		t.Errorf("got %+v %v", one, ok)
	}
	if s.engine.closeConnection(s.front, 1) || !s.engine.closeConnection(s.front, 0) {
		t.Error("closed the wrong connection, or not the right one")
	}
	all(t, c)
	s.quiet()
}

func TestNetUnixServerWithFullBacklogIsWaitedFor(t *testing.T) {
	path, fd := crowded(t)
	s := newNetStand(t, path)
	at := filepath.Join(t.TempDir(), "front")
	s.open(place{path: at})
	c := dial(t, at)
	time.Sleep(3 * busyPause)
	for range 2 { // who filled the backlog, then our client
		n, _, err := unix.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(n)
	}
	all(t, c)
	if sv := s.serverStats()[0]; sv.Failures != 0 || sv.Mark != 0 {
		t.Errorf("the server is blamed: %+v", sv)
	}
}

func TestNetUnixSocketsOnBothSides(t *testing.T) {
	dir := t.TempDir()
	s := newNetStand(t, backend(t, filepath.Join(dir, "www"), echo))
	at := filepath.Join(dir, "front")
	ln := s.open(place{path: at})
	exchange(t, dial(t, at), "hello")
	if got := slices.Collect(s.clientStats(present())); len(got) != 1 || got[0].Client.IsValid() {
		t.Errorf("got %+v, want the one client without an address", got)
	}
	if _, err := s.engine.open(place{path: at}, nil, nil); err == nil {
		t.Error("took a socket away on which somebody listens")
	}
	s.engine.retire(ln)
	eventually(t, "socket removed", func() bool { _, err := os.Lstat(at); return err != nil })
	if l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at}); err != nil {
		t.Fatal(err)
	} else {
		l.SetUnlinkOnClose(false)
		l.Close() // as a process that was killed leaves it
	}
	s.engine.retire(s.open(place{path: at}))
}

func TestNetDualStackKnowsIPv4ClientsByTheirAddress(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, echo))
	ln := s.open(place{addr: netip.MustParseAddrPort("[::]:0")})
	port := netip.MustParseAddrPort(ln.String()).Port()
	exchange(t, dial(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()), "four")
	if got := slices.Collect(s.clientStats(present())); len(got) != 1 || got[0].Client != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("got %+v, want 127.0.0.1", got)
	}
}

func TestNetASourceThatCannotBeHadIsLeftOut(t *testing.T) {
	where := make(chan string, 3)
	s := newNetStand(t, backend(t, loopback, func(c duplex) {
		where <- c.RemoteAddr().(*net.TCPAddr).IP.String()
	}))
	for source, want := range map[string]string{"127.0.0.9": "127.0.0.9", "192.0.2.1": "127.0.0.1", "::1": "127.0.0.1"} {
		s.setup(state.Set{Option: state.OptSource, Value: state.Text(source)})
		all(t, s.dial())
		if got := <-where; got != want {
			t.Errorf("source %s: came from %s, want %s", source, got, want)
		}
	}
}

func TestNetARetiredListenerServesWhoCameBefore(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, echo))
	c := s.dial()
	s.engine.retire(s.at)
	exchange(t, c, "still here")
	eventually(t, "closed listener", func() bool {
		again, err := net.Dial("tcp", s.at.String())
		if err == nil {
			again.Close()
		}
		return err != nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.engine.idle(ctx)
	if ctx.Err() == nil {
		t.Error("idle returned while there was a connection")
	}
	c.Close()
	s.engine.idle(t.Context())
}

func TestNetTheEndClosesEverything(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, echo))
	c := s.dial()
	exchange(t, c, "a")
	s.stop()
	io.ReadAll(c)
	if n := s.serverStats()[0].Conns; n != 0 {
		t.Errorf("%d connections are still counted", n)
	}
	if _, used, _ := s.slots.figures(); used != 0 {
		t.Errorf("%d slots are still in use", used)
	}
	if n := s.engine.files(); n != 0 {
		t.Errorf("%d descriptors are still counted", n)
	}
	if pipes, buffers := s.engine.held(); pipes != 0 || buffers != 0 {
		t.Errorf("%d pipes and %d buffers are still counted", pipes, buffers)
	}
}

func TestNetStandbyResetsEverybody(t *testing.T) {
	served := make(chan duplex, 2)
	release := make(chan struct{})
	s := newNetStand(t, backend(t, loopback, func(c duplex) { served <- c; <-release }))
	defer close(release)
	c := s.dial()
	server := <-served
	eventually(t, "connected", func() bool {
		conns := s.engine.connections(s.front)
		return len(conns) == 1 && conns[0].State == StateConnected
	})
	s.engine.standBy()
	cut(t, "the client", c)
	cut(t, "the server", server)
	// Who comes later may be reset before his own connect has returned.
	if later, err := (&netDialer{}).try(s.at.String()); err == nil {
		cut(t, "who comes later", later)
		later.Close()
	} else if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("who comes later: %v, want a reset", err)
	}
	eventually(t, "everything given back", func() bool {
		_, used, _ := s.slots.figures()
		return used == 0 && s.engine.files() <= netFiles // the place for the next client
	})
	if n := s.front.cut.Load(); n != 2 {
		t.Errorf("%d resets are counted, want 2", n)
	}
	s.engine.takeOver()
	c = s.dial()
	io.WriteString(<-served, "again")
	gets(t, c, "again")
}

func TestNetStandbyEndsConnectsUnderWay(t *testing.T) {
	s := newNetStand(t, full(t))
	c := s.dial()
	eventually(t, "connecting", func() bool { return len(s.engine.of(s.front)) == 1 })
	s.engine.standBy()
	cut(t, "the client", c)
	if sv := s.serverStats()[0]; sv.Failures != 0 || sv.Mark != 0 || sv.Conns != 0 {
		t.Errorf("the server is blamed: %+v", sv)
	}
}

func TestNetHasNoVirtualAddresses(t *testing.T) {
	e := newNetEngine(slog.New(slog.DiscardHandler), &Options{Virtual: []netip.Addr{local4}})
	if _, err := e.open(place{addr: netip.AddrPortFrom(local4, 0)}, nil, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("open = %v, want %v", err, errors.ErrUnsupported)
	}
}
