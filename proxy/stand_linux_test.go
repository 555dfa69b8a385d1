package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
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

// stand is a proxy that runs on loopback over a real state machine. When its
// test ends, nothing of it may be left: no goroutine and no descriptor.
type stand struct {
	t       testing.TB
	machine *state.Machine
	mu      sync.Mutex // one change at a time
	*Proxy
	stop  func() error // ends Run
	conns int          // connection slots, if not as in the state, where they are never few
}

// view returns the view that the proxy should have.
func (s *stand) view() *state.View {
	v := *s.machine.View()
	v.Services = slices.Clone(v.Services)
	for i, service := range v.Services {
		if s.conns > 0 {
			few := *service
			few.ConnMax = s.conns
			v.Services[i] = &few
		}
	}
	return &v
}

// newStand starts a proxy that listens on a free port of 127.0.0.1 and has the
// given servers.
func newStand(t testing.TB, opts Options, servers ...string) *stand {
	t.Helper()
	s := newStill(t, opts, 0, servers...)
	s.start()
	return s
}

// newSmall starts a proxy with so few connection slots.
func newSmall(t testing.TB, opts Options, conns int, servers ...string) *stand {
	t.Helper()
	s := newStill(t, opts, conns, servers...)
	s.start()
	return s
}

// newStill is newStand without Run.
func newStill(t testing.TB, opts Options, conns int, servers ...string) *stand {
	t.Helper()
	s := &stand{t: t, machine: state.New(), conns: conns}
	files, routines := openFiles(t), runtime.NumGoroutine()
	if opts.Loops == 0 {
		opts.Loops = 1
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	opts.Propose = func(_ context.Context, c state.Command) (state.Result, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		r := s.machine.Apply(c)
		return r, errors.Join(r.Err, s.Configure(s.view()))
	}
	s.Proxy = New(opts)
	t.Cleanup(func() {
		eventually(t, "goroutines and descriptors given back", func() bool {
			return runtime.NumGoroutine() <= routines && len(openFiles(t)) <= len(files)
		})
	})
	s.listen("127.0.0.1:0")
	for i, at := range servers {
		s.server(i, at, nil)
	}
	return s
}

// leave leaves so few places from the next change on.
func (s *stand) leave(conns int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = conns
}

// start runs the proxy until the test ends.
func (s *stand) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-done })
	s.t.Cleanup(func() {
		if err := s.stop(); err != nil {
			s.t.Errorf("Run = %v, want nil", err)
		}
	})
}

// apply changes the state and the proxy.
func (s *stand) apply(ops ...state.Op) {
	s.t.Helper()
	if _, err := s.opts.Propose(s.t.Context(), state.Command{Time: state.At(time.Now()), Ops: ops}); err != nil {
		s.t.Fatalf("%v: %v", ops, err)
	}
}

func (s *stand) set(o state.Option, v state.Value) {
	s.t.Helper()
	s.apply(state.Set{Option: o, Value: v})
}

func listenOn(text string) state.Listen {
	l := state.Listen{Text: text}
	if l.Path() == "" {
		l.Addr = netip.MustParseAddrPort(text)
	}
	return l
}

func (s *stand) listen(text string) {
	s.t.Helper()
	s.set(state.OptListen, state.Bind(listenOn(text)))
}

// server makes slot i the server at an address or path.
func (s *stand) server(i int, at string, more func(*state.SetServer)) {
	s.t.Helper()
	op := state.SetServer{Index: i, Fields: state.FieldAddress | state.FieldPort}
	if strings.HasPrefix(at, "/") {
		op.Server.Host = at
	} else {
		ap := netip.MustParseAddrPort(at)
		op.Server.Host, op.Server.IP, op.Server.Port = ap.Addr().String(), ap.Addr(), ap.Port()
	}
	if more != nil {
		more(&op)
	}
	s.apply(op)
}

// dial connects as a client.
func (s *stand) dial() duplex { return dial(s.t, s.Address("")) }

// duplex is a stream that can be closed by halves.
type duplex interface {
	net.Conn
	CloseWrite() error
	CloseRead() error
	SyscallConn() (syscall.RawConn, error)
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}

// dial connects to an address or path. Whatever takes longer than 10 s fails.
func dial(t testing.TB, at string) duplex {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(at, "/") {
		network = "unix"
	}
	c, err := net.DialTimeout(network, at, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(duplex)
}

// backend serves each connection with serve until the test ends, and returns
// its address.
func backend(t testing.TB, at string, serve func(duplex)) string {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(at, "/") {
		network = "unix"
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				serve(c.(duplex))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// echo sends back what it gets, and ends when the other side does.
func echo(c duplex) {
	io.Copy(struct{ io.Writer }{c}, c)
	c.CloseWrite()
}

// name answers with a word and closes.
func name(word string) func(duplex) {
	return func(c duplex) { io.WriteString(c, word) }
}

const loopback = "127.0.0.1:0"

// refusing returns an address where nobody listens, and which nobody else is given.
func refusing(t testing.TB) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	at := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, at)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(name.(*unix.SockaddrInet4).Port)).String()
}

// exchange writes a word and reads as much.
func exchange(t testing.TB, c io.ReadWriter, word string) {
	t.Helper()
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatalf("write: %v", err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		t.Fatalf("read = %q, %v; want %q", got, err, word)
	}
}

// all reads to the end of the stream.
func all(t testing.TB, c io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("read = %q, %v", b, err)
	}
	return string(b)
}

// eventually waits for what comes about by itself, on another thread or in the
// kernel.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			t.Fatalf("not within 5 s: %s; files %v\n%s", what, openFiles(t), buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// openFiles lists the descriptors of the process.
func openFiles(t testing.TB) (all []string) {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range dir {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil {
			all = append(all, f.Name()+"="+to)
		}
	}
	return all
}
