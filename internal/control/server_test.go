package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echo answers with the line and who asked.
func echo(_ context.Context, _ Peer, line string, w io.Writer) { fmt.Fprintf(w, "<%s>\n", line) }

// start runs a server until the test ends.
func start(t *testing.T, addr string, o Options) *Server {
	t.Helper()
	if o.Handler == nil {
		o.Handler = echo
	}
	s, err := Listen(t.Context(), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	network := "tcp"
	if s.address.Path != "" {
		network = "unix"
	}
	c, err := net.Dial(network, s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// tell sends raw bytes and returns all that comes back.
func tell(t *testing.T, s *Server, sent string) string {
	t.Helper()
	c := dial(t, s)
	if _, err := io.WriteString(c, sent); err != nil {
		t.Fatal(err)
	}
	reply, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("after %d bytes of reply: %v", len(reply), err)
	}
	return string(reply)
}

// eventually waits for a counter, which is counted just after what the peer
// sees.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func TestOneLineOneReply(t *testing.T) {
	for _, addr := range []string{"0", "127.0.0.1:0", t.TempDir() + "/ctl"} {
		t.Run(addr, func(t *testing.T) {
			s := start(t, addr, Options{})
			for sent, want := range map[string]string{
				"mode\n":         "<mode>\n",
				"mode\r\nmore\n": "<mode>\n",
				" a  b \x00":     "< a  b >\n",
				"\n":             "",
			} {
				if got := tell(t, s, sent); got != want {
					t.Errorf("%q: got %q, want %q", sent, got, want)
				}
			}
		})
	}
}

func TestHalfCloseEndsTheLine(t *testing.T) {
	s := start(t, "0", Options{})
	c := dial(t, s)
	io.WriteString(c, "mode")
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "<mode>\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// A reply must survive whatever else the peer has sent: unread bytes at close
// would make a reset of it.
func TestReplySurvivesUnreadInput(t *testing.T) {
	s := start(t, "0", Options{})
	for range 20 {
		if got := tell(t, s, "mode\n"+strings.Repeat("more\n", 20_000)); got != "<mode>\n" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestTooLongLineIsRefused(t *testing.T) {
	s := start(t, "0", Options{})
	got := tell(t, s, strings.Repeat("x", 1<<20))
	if !Refused([]byte(got)) || !strings.Contains(got, "4096") {
		t.Errorf("got %q", got)
	}
	if c := s.Counters(); c.Long != 1 || c.Commands != 0 {
		t.Errorf("got %+v", c)
	}
}

func TestDeniedPeerGetsNothing(t *testing.T) {
	var log lockedBuffer
	asked := make(chan netip.Addr, 1)
	s := start(t, "0", Options{
		Allow: func(a netip.Addr) bool { asked <- a; return false },
		Log:   slog.New(slog.NewTextHandler(&log, nil)),
	})
	c := dial(t, s)
	if got, err := io.ReadAll(c); len(got) != 0 || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if a := <-asked; a != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("asked about %v", a)
	}
	if !strings.Contains(log.String(), "do_ctrl: not from there") {
		t.Errorf("log: %q", log.String())
	}
	if n := s.Counters().Denied; n != 1 {
		t.Errorf("denied: %d", n)
	}
}

func TestUnixPeersAlwaysPass(t *testing.T) {
	s := start(t, t.TempDir()+"/ctl", Options{Allow: func(netip.Addr) bool { return false }})
	if got := tell(t, s, "mode\n"); got != "<mode>\n" {
		t.Errorf("got %q", got)
	}
}

func TestPeerIsNamed(t *testing.T) {
	from := make(chan Peer, 1)
	handler := func(_ context.Context, p Peer, _ string, _ io.Writer) { from <- p }
	s := start(t, ":::0", Options{Handler: handler, Restricted: true})
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", netip.MustParseAddrPort(s.Addr()).Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "x\n")
	if p := <-from; p.Addr.String() != c.LocalAddr().String() || p.String() != c.LocalAddr().String() {
		t.Errorf("got %v, want %v, unmapped", p, c.LocalAddr())
	}
}

func TestSilentPeersDoNotLockOutTheOperator(t *testing.T) {
	s := start(t, "0", Options{})
	silent := make([]net.Conn, MaxPeers)
	for i := range silent {
		silent[i] = dial(t, s)
	}
	begin := time.Now()
	for range 10 {
		if got := tell(t, s, "mode\n"); got != "<mode>\n" {
			t.Fatalf("got %q", got)
		}
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
	// The longest silent one made room.
	if got, err := io.ReadAll(silent[0]); len(got) != 0 || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %q, %v", got, err)
	}
	if n := s.Counters().Displaced; n == 0 || n > 10 {
		t.Errorf("displaced: %d", n)
	}
}

func TestBusyPlacesAreKept(t *testing.T) {
	release := make(chan struct{})
	var busy atomic.Int64
	s := start(t, "0", Options{Handler: func(_ context.Context, _ Peer, line string, w io.Writer) {
		if line == "wait" {
			busy.Add(1)
			<-release
		}
		io.WriteString(w, "done\n")
	}})
	var replies sync.WaitGroup
	for range MaxPeers {
		c := dial(t, s)
		io.WriteString(c, "wait\n")
		replies.Go(func() {
			if got, err := io.ReadAll(c); string(got) != "done\n" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	eventually(t, "all places busy", func() bool { return busy.Load() == MaxPeers })
	c := dial(t, s)
	if got, err := io.ReadAll(c); !Refused(got) || err != nil {
		t.Errorf("one too many: got %q, %v", got, err)
	}
	if n := s.Counters().Full; n != 1 {
		t.Errorf("full: %d", n)
	}
	close(release)
	replies.Wait()
	if got := tell(t, s, "mode\n"); got != "done\n" {
		t.Errorf("afterwards: got %q", got)
	}
}

func TestPanicIsAnErrorReply(t *testing.T) {
	var log lockedBuffer
	s := start(t, "0", Options{
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Handler: func(_ context.Context, _ Peer, line string, w io.Writer) {
			io.WriteString(w, "half a reply\n")
			panic("boom")
		},
	})
	if got := tell(t, s, "mode\n"); !Refused([]byte(got)) {
		t.Errorf("got %q", got)
	}
	if text := log.String(); !strings.Contains(text, "boom") || !strings.Contains(text, "server_test.go") {
		t.Errorf("log lacks value or stack: %q", text)
	}
	if n := s.Counters().Panics; n != 1 {
		t.Errorf("panics: %d", n)
	}
}

func TestLongReplyIsStreamed(t *testing.T) {
	const pieces, size = 512, 100_000
	s := start(t, "0", Options{Handler: func(_ context.Context, _ Peer, _ string, w io.Writer) {
		piece := bytes.Repeat([]byte("r"), size)
		for range pieces {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}})
	var got counting
	if err := (Client{Addr: s.Addr()}).Copy(t.Context(), &got, "status"); err != nil || got != pieces*size {
		t.Errorf("got %d bytes, %v", got, err)
	}
}

type counting int

func (c *counting) Write(b []byte) (int, error) { *c += counting(len(b)); return len(b), nil }

func TestHandlerLearnsThatThePeerIsGone(t *testing.T) {
	ended := make(chan error, 1)
	s := start(t, "0", Options{Handler: func(ctx context.Context, _ Peer, _ string, w io.Writer) {
		for {
			if _, err := w.Write(make([]byte, pieceSize)); err != nil {
				ended <- ctx.Err()
				return
			}
		}
	}})
	c := dial(t, s)
	io.WriteString(c, "status\n")
	io.ReadFull(c, make([]byte, 1))
	c.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("context: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("handler writes on")
	}
}

func TestRunLetsTheReplyUnderWayOut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Listen(ctx, "0", Options{Handler: func(_ context.Context, _ Peer, _ string, w io.Writer) {
		cancel() // as the command exit does
		time.Sleep(50 * time.Millisecond)
		io.WriteString(w, "bye\n")
	}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	silent := dial(t, s)
	if got := tell(t, s, "exit\n"); got != "bye\n" {
		t.Errorf("got %q", got)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Run does not return")
	}
	if _, err := io.ReadAll(silent); errors.Is(err, context.DeadlineExceeded) {
		t.Error("silent connection left open")
	}
}

func TestCloseEndsRun(t *testing.T) {
	s, err := Listen(t.Context(), "0", Options{Handler: echo})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Run(t.Context()) }()
	s.Close()
	s.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// 200 half lines must not get in the way of whole ones.
func TestHalfLinesBesideWholeOnes(t *testing.T) {
	s := start(t, "0", Options{})
	for range 200 {
		io.WriteString(dial(t, s), "half a li")
		if got := tell(t, s, "mode\n"); got != "<mode>\n" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestDebiansPenctlIsServed(t *testing.T) {
	penctl, err := exec.LookPath("penctl")
	if err != nil {
		t.Skip("no penctl of the original here")
	}
	path := t.TempDir() + "/ctl"
	for _, addr := range []string{start(t, "0", Options{}).Addr(), start(t, path, Options{}).Addr()} {
		out, err := exec.Command(penctl, addr, "server", "0", "max", "3").CombinedOutput()
		if string(out) != "<server 0 max 3>\n" || err != nil {
			t.Errorf("%s: got %q, %v", addr, out, err)
		}
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
