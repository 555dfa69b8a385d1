package cluster

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
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
	"testing/synctest"
	"time"
)

// testWire is a Wire that runs.
type testWire struct {
	*Wire
	t    *testing.T
	log  *testLog
	stop func() // ends it and waits
}

// testLog keeps what was logged.
type testLog struct {
	mu sync.Mutex // guards what follows
	b  bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// node is a configuration to start from. The host is the last byte of an address
// on loopback, or of 10.0.0.0/24 on a lan.
func nodeConfig(host byte, network Network) WireConfig {
	cfg := WireConfig{
		Key: testKey(1), Network: network, Listen: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 77, host}), 0),
		Hello: Hello{Cluster: "shop", Node: ID{host}, Boot: NewID(), Name: "n" + string('0'+rune(host)), Heartbeat: 200 * time.Millisecond},
	}
	if network != nil {
		cfg.Listen = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, host}), DefaultPort)
	}
	return cfg
}

func startWire(t *testing.T, cfg WireConfig) *testWire {
	t.Helper()
	if runtime.GOOS != "linux" && cfg.Network == nil {
		cfg.Listen = netip.MustParseAddrPort("127.0.0.1:0") // others have one address on loopback
	}
	l := &testLog{}
	cfg.Log = slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w, err := NewWire(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return &testWire{Wire: w, t: t, log: l, stop: stop}
}

func (w *testWire) dial(to *testWire, p Purpose) Stream {
	w.t.Helper()
	s, err := w.Dial(w.t.Context(), to.Addr(), p)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return s
}

func (w *testWire) accept(p Purpose) Stream {
	w.t.Helper()
	select {
	case s, ok := <-w.Accept(p):
		if !ok {
			w.t.Fatal("the channel is closed")
		}
		w.t.Cleanup(func() { s.Close() })
		return s
	case <-time.After(5 * time.Second):
		w.t.Fatalf("nobody came for %s", p)
	}
	panic("unreachable")
}

// refusedFor dials and wants to be refused.
func (w *testWire) refusedFor(to *testWire, want Reason) *RefusedError {
	w.t.Helper()
	s, err := w.Dial(w.t.Context(), to.Addr(), PurposeRaft)
	if err == nil {
		s.Close()
		w.t.Fatalf("got a stream, want %s", want)
	}
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok || refused.Reason != want {
		w.t.Fatalf("got %v, want %s", err, want)
	}
	return refused
}

// eventually waits for what another goroutine is about to do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// listed wants a refusal in the list.
func (w *testWire) listed(reason Reason, peer netip.Addr, text string) Refusal {
	w.t.Helper()
	var found Refusal
	eventually(w.t, reason.String()+" is listed", func() bool {
		for _, r := range w.Refused() {
			if r.Reason == reason && r.Peer == peer {
				found = r
				return true
			}
		}
		return false
	})
	if !strings.Contains(found.Detail, text) || w.RefusedTotal()[reason] == 0 || found.Count == 0 || found.Last.Before(found.First) {
		w.t.Errorf("got %+v, want %q in it and %d of them", found, text, w.RefusedTotal()[reason])
	}
	eventually(w.t, reason.String()+" is logged", func() bool {
		return strings.Contains(w.log.String(), "peer="+peer.String()) && strings.Contains(w.log.String(), reason.String())
	})
	return found
}

func (w *testWire) nothingCame() {
	w.t.Helper()
	for p := PurposeRaft; p < purposeProbe; p++ {
		if n := len(w.accepted[p]); n > 0 {
			w.t.Errorf("%d streams for %s", n, p)
		}
	}
}

func TestStreamsReachTheirPurpose(t *testing.T) {
	ca, cb := nodeConfig(1, nil), nodeConfig(2, nil)
	cb.Hello.Priority, cb.Hello.Witness, cb.Hello.StateVersion = 50, true, 3
	a, b := startWire(t, ca), startWire(t, cb)
	for p := PurposeRaft; p < purposeProbe; p++ {
		out := a.dial(b, p)
		in := b.accept(p)
		if h := a.Hello(); in.Hello.Node != h.Node || in.Hello.Boot != h.Boot || in.Hello.Addr != a.Addr() || in.Hello.Purpose != p || in.Hello.Name != "n1" {
			t.Errorf("%s: they see %+v", p, in.Hello)
		}
		if h := out.Hello; h.Node != cb.Hello.Node || h.Purpose != p || h.Heartbeat != 200*time.Millisecond || h.Priority != 50 || !h.Witness || h.StateVersion != 3 {
			t.Errorf("%s: we see %+v", p, h)
		}
		if got := addrPort(in.RemoteAddr()).Addr(); got != a.Addr().Addr() {
			t.Errorf("%s: came from %s, want %s", p, got, a.Addr().Addr())
		}
		big := bytes.Repeat([]byte("0123456789abcdef"), handshakeBytes/4) // beyond the limits of the handshake
		go func() {
			_, _ = out.Write(big)
			out.Close()
		}()
		got, err := io.ReadAll(in)
		if err != nil || !bytes.Equal(got, big) {
			t.Errorf("%s: got %d bytes, %v, want %d", p, len(got), err, len(big))
		}
	}
	a.nothingCame()
	b.nothingCame()
	if len(b.Refused()) != 0 {
		t.Errorf("refused: %+v", b.Refused())
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	stranger := nodeConfig(2, nil)
	stranger.Key = testKey(2)
	a, b := startWire(t, nodeConfig(1, nil)), startWire(t, stranger)
	b.refusedFor(a, WrongKey)
	a.listed(WrongKey, b.Addr().Addr(), "another cluster key")
	b.listed(WrongKey, a.Addr().Addr(), "another cluster key")
	a.nothingCame()
}

func TestOtherClusterIsRefused(t *testing.T) {
	other := nodeConfig(2, nil)
	other.Hello.Cluster = "dev"
	a, b := startWire(t, nodeConfig(1, nil)), startWire(t, other)
	if r := b.refusedFor(a, OtherCluster); r.Detail != "ours dev, theirs shop" || r.Hello.Name != "n1" {
		t.Errorf("got %+v", r)
	}
	if r := a.listed(OtherCluster, b.Addr().Addr(), "ours shop, theirs dev"); r.Node != b.Hello().Node {
		t.Errorf("got %+v", r)
	}
	a.nothingCame()
}

func TestOtherVersionIsRefused(t *testing.T) {
	a, b := startWire(t, nodeConfig(1, nil)), startWire(t, nodeConfig(2, nil))
	b.mu.Lock()
	b.hello.Min, b.hello.Max = ProtocolMax+1, ProtocolMax+2
	b.mu.Unlock()
	b.refusedFor(a, OtherVersion)
	a.refusedFor(b, OtherVersion)
	a.listed(OtherVersion, b.Addr().Addr(), "ours 1 to 2, theirs 3 to 4")
	a.nothingCame()
	b.nothingCame()
}

func TestOtherFormationIsRefused(t *testing.T) {
	a, b := startWire(t, nodeConfig(1, nil)), startWire(t, nodeConfig(2, nil))
	a.SetFormation(ID{1}, 1)
	s := b.dial(a, PurposeRaft) // it has none yet
	a.accept(PurposeRaft)
	b.SetFormation(ID{1}, 1)
	b.dial(a, PurposeRaft).Close()
	a.accept(PurposeRaft)
	b.SetFormation(ID{1}, 2) // recovered without a
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("the old stream still stands")
	}
	b.refusedFor(a, OtherFormation)
	a.listed(OtherFormation, b.Addr().Addr(), "generation 1 here, 2 there: the cluster was recovered without this node; stop pen here, remove the directory cluster in its data_dir, start it again")
}

func TestNodeDoesNotTalkToItself(t *testing.T) {
	a := startWire(t, nodeConfig(1, nil))
	a.refusedFor(a, Itself)
	if len(a.Refused()) != 0 {
		t.Errorf("listed: %+v", a.Refused())
	}
}

func TestCertificateMustNameTheNode(t *testing.T) {
	a, b := startWire(t, nodeConfig(1, nil)), startWire(t, nodeConfig(2, nil))
	b.mu.Lock()
	b.hello.Node = ID{3}
	b.mu.Unlock()
	b.refusedFor(a, BadHello)
	a.listed(BadHello, b.Addr().Addr(), "the certificate names another node")
	a.refusedFor(b, BadHello)
	a.nothingCame()
}

func TestCopiedNodeIsRefused(t *testing.T) {
	copied := nodeConfig(3, nil)
	copied.Hello.Node = ID{2}
	a, b, c := startWire(t, nodeConfig(1, nil)), startWire(t, nodeConfig(2, nil)), startWire(t, copied)
	first := b.dial(a, PurposeRaft)
	in := a.accept(PurposeRaft)

	r := c.refusedFor(a, DuplicateNode)
	if !r.ByPeer || !strings.Contains(r.Detail, b.Addr().String()) || !strings.Contains(r.Detail, c.Addr().String()) {
		t.Errorf("got %+v", r)
	}
	a.listed(DuplicateNode, c.Addr().Addr(), "lives at")
	c.listed(DuplicateNode, a.Addr().Addr(), "lives at")
	a.refusedFor(c, DuplicateNode) // whoever calls
	c.refusedFor(b, DuplicateNode) // the one that was copied knows by itself
	if !strings.Contains(a.log.String(), "level=ERROR") || !strings.Contains(c.log.String(), "level=ERROR") {
		t.Errorf("nobody is called:\n%s", a.log)
	}

	if _, err := first.Write([]byte("x")); err != nil {
		t.Errorf("the first was hurt: %v", err)
	}
	if _, err := io.ReadFull(in, make([]byte, 1)); err != nil {
		t.Errorf("the first was hurt: %v", err)
	}

	b.stop() // now the copy is the only one
	c.dial(a, PurposeRaft)
	if got := a.accept(PurposeRaft).Hello.Boot; got != c.Hello().Boot {
		t.Errorf("got boot %s", got)
	}
}

func TestRestartedNodeIsTakenAtOnce(t *testing.T) {
	a := startWire(t, nodeConfig(1, nil))
	cfg := nodeConfig(2, nil)
	b := startWire(t, cfg)
	cfg.Listen = b.Addr()
	b.dial(a, PurposeRaft)
	old := a.accept(PurposeRaft)
	back := a.dial(b, PurposeForward)
	b.stop()
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("the stream of a stopped node stands")
	}
	if _, err := back.Read(make([]byte, 1)); err == nil {
		t.Error("the stream to a stopped node stands")
	}
	if _, err := a.Dial(t.Context(), b.Addr(), PurposeRaft); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want connection refused", err)
	}
	cfg.Hello.Boot = NewID()
	b = startWire(t, cfg)
	start := time.Now()
	b.dial(a, PurposeRaft)
	if got := a.accept(PurposeRaft).Hello.Boot; got != cfg.Hello.Boot {
		t.Errorf("got boot %s", got)
	}
	if d := time.Since(start); d > probeTime/2 {
		t.Errorf("took %s", d)
	}
	b.stop()
	cfg.Hello.Boot = NewID()
	b = startWire(t, cfg)
	if got := a.dial(b, PurposeRaft).Hello.Boot; got != cfg.Hello.Boot { // and if we call
		t.Errorf("got boot %s", got)
	}
}

// A machine lost its power and comes back elsewhere: what is left of its streams
// does not keep it out, and goes.
func TestNodeThatMovedIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newLAN()
		a := startWire(t, nodeConfig(1, net))
		b := startWire(t, nodeConfig(2, net))
		b.dial(a, PurposeRaft)
		old := a.accept(PurposeRaft)
		moved := nodeConfig(3, net)
		moved.Hello.Node = ID{2}
		c := startWire(t, moved)
		net.mu.Lock() // what stands is not told
		net.cut = func(x, y netip.Addr) bool { return x == b.Addr().Addr() || y == b.Addr().Addr() }
		net.mu.Unlock()
		start := time.Now()
		c.dial(a, PurposeRaft)
		a.accept(PurposeRaft)
		if d := time.Since(start); d > probeTime+time.Millisecond {
			t.Errorf("took %s", d)
		}
		if _, err := old.Read(make([]byte, 1)); err == nil {
			t.Error("the old stream stands")
		}
		net.partition(nil)
		b.refusedFor(a, DuplicateNode) // it was not dead, but now it is too late
		c.dial(a, PurposeRaft)
	})
}

func TestDialEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newLAN()
		a := startWire(t, nodeConfig(1, net))
		silent := netip.MustParseAddrPort("10.0.0.9:7950")
		p, err := net.Listen(silent)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = a.Dial(t.Context(), silent, PurposeRaft)
		if d := time.Since(start); err == nil || d != handshakeTime {
			t.Errorf("a silent peer: %v after %s, want %s", err, d, handshakeTime)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start = time.Now()
		if _, err := a.Dial(ctx, silent, PurposeRaft); err == nil || time.Since(start) != 100*time.Millisecond {
			t.Errorf("own deadline: %v after %s", err, time.Since(start))
		}
		net.partition(func(_, _ netip.Addr) bool { return true })
		start = time.Now()
		if _, err := a.Dial(t.Context(), silent, PurposeRaft); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != handshakeTime {
			t.Errorf("no way: %v after %s", err, time.Since(start))
		}
		p.Close()
		for len(p.(*lanPort).queue) > 0 {
			(<-p.(*lanPort).queue).Close()
		}
		if len(a.Refused()) != 0 {
			t.Errorf("refused: %+v", a.Refused())
		}
	})
}

func TestSlowHandshakeIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newLAN()
		a := startWire(t, nodeConfig(1, net))
		c, err := net.Dial(t.Context(), netip.MustParseAddr("10.0.0.66"), a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		hello := []byte("\x16\x03\x01\x02\x00\x01") // the beginning of a ClientHello
		for i := 0; err == nil; i++ {
			time.Sleep(time.Second)
			_, err = c.Write(hello[i : i+1])
		}
		if d := time.Since(start); d > handshakeTime+time.Second {
			t.Errorf("cut after %s", d)
		}
		a.listed(TooSlow, netip.MustParseAddr("10.0.0.66"), "")
		c.Close()
	})
}

func TestStreamsThatNobodyTakesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newLAN()
		a, b := startWire(t, nodeConfig(1, net)), startWire(t, nodeConfig(2, net))
		var out []Stream
		for range acceptBacklog + 3 {
			out = append(out, b.dial(a, PurposeForm))
		}
		time.Sleep(handshakeTime + time.Second)
		if got := a.RefusedTotal()[Busy]; got != 3 {
			t.Errorf("got %d refused, want 3", got)
		}
		n := 0
		for range acceptBacklog {
			a.accept(PurposeForm)
			n++
		}
		a.nothingCame()
		dead := 0
		for _, s := range out {
			s.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				dead++
			}
		}
		if n != acceptBacklog || dead != 3 {
			t.Errorf("%d taken, %d cut", n, dead)
		}
	})
}

func TestStreamsOfOneNodeAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newLAN()
		a, b, c := startWire(t, nodeConfig(1, net)), startWire(t, nodeConfig(2, net)), startWire(t, nodeConfig(3, net))
		var last Stream
		for range streamsEach {
			last = b.dial(a, PurposeRaft)
			a.accept(PurposeRaft)
		}
		if r := b.refusedFor(a, TooMany); !r.ByPeer {
			t.Errorf("got %+v", r)
		}
		c.dial(a, PurposeRaft) // others are unhurt
		a.accept(PurposeRaft)
		last.Close()
		time.Sleep(time.Second)
		// The other end has to close, too: it does when it reads the end.
		a.mu.Lock()
		n := len(a.streams)
		a.mu.Unlock()
		if n != streamsEach+1 {
			t.Errorf("%d streams", n)
		}
	})
}

func TestStepOut(t *testing.T) {
	a, b := startWire(t, nodeConfig(1, nil)), startWire(t, nodeConfig(2, nil))
	for range 20 { // a byte that is lost is lost now and then
		out := a.dial(b, PurposeRelease)
		plain, secret, err := out.StepOut()
		if err != nil {
			t.Fatal(err)
		}
		file, err := plain.(*net.TCPConn).File() // as another process would inherit it
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, secret[:])
		mac.Write([]byte("released, term 7"))
		if _, err := file.Write(mac.Sum(nil)); err != nil {
			t.Fatal(err)
		}
		file.Close()

		in := b.accept(PurposeRelease)
		bare, theirs, err := in.StepOut()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, sha256.Size)
		if _, err := io.ReadFull(bare, got); err != nil {
			t.Fatal(err)
		}
		mac = hmac.New(sha256.New, theirs[:])
		mac.Write([]byte("released, term 7"))
		if !hmac.Equal(got, mac.Sum(nil)) {
			t.Fatal("the two ends have different secrets")
		}
		out.Close()
		if n, err := bare.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) { // not even the good-bye of TLS
			t.Fatalf("after the message: %d, %v", n, err)
		}
		in.Close()
	}
	s := a.dial(b, PurposeRaft)
	if _, _, err := s.StepOut(); err == nil {
		t.Error("a stream for raft stepped out")
	}
}

func TestStepOutSecretsDiffer(t *testing.T) {
	a, b := startWire(t, nodeConfig(1, nil)), startWire(t, nodeConfig(2, nil))
	_, one, _ := a.dial(b, PurposeRelease).StepOut()
	_, two, _ := a.dial(b, PurposeRelease).StepOut()
	if one == two || one == [32]byte{} {
		t.Error("two connections have one secret")
	}
}

func TestCloseDoesNotWaitForThePeer(t *testing.T) {
	a, b := startWire(t, nodeConfig(1, nil)), startWire(t, nodeConfig(2, nil))
	s := a.dial(b, PurposeRaft)
	b.accept(PurposeRaft) // and never reads
	s.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for err := error(nil); err == nil; {
		_, err = s.Write(make([]byte, 1<<20))
	}
	start := time.Now()
	s.Close()
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %s", d)
	}
}

func TestEverythingEndsWithRun(t *testing.T) {
	a, b := startWire(t, nodeConfig(1, nil)), startWire(t, nodeConfig(2, nil))
	out, in := a.dial(b, PurposeRaft), b.accept(PurposeRaft)
	a.dial(b, PurposeForm) // nobody takes it
	raw, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	eventually(t, "the raw connection is seen", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.waiting) == 1
	})
	start := time.Now()
	b.stop()
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %s", d)
	}
	for name, c := range map[string]net.Conn{"dialled": out, "accepted": in, "raw": raw} {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, ok := <-b.Accept(PurposeRaft); ok {
		t.Error("a stream after the end")
	}
	if _, err := b.Dial(t.Context(), a.Addr(), PurposeRaft); err == nil {
		t.Error("dialled after the end")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.streams) != 0 {
		t.Errorf("%d streams are left", len(b.streams))
	}
}

func TestPortThatCanNotBeHad(t *testing.T) {
	a := startWire(t, nodeConfig(1, nil))
	cfg := nodeConfig(1, nil)
	cfg.Listen = a.Addr()
	if _, err := NewWire(cfg); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "cluster port") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"0.0.0.0:0", "[::]:0", "[fe80::1%lo]:0"} {
		cfg.Listen = netip.MustParseAddrPort(bad)
		if w, err := NewWire(cfg); err == nil {
			w.Close()
			t.Errorf("%s was taken", bad)
		}
	}
	cfg = nodeConfig(1, nil)
	cfg.Hello.Cluster = "two\nlines"
	if _, err := NewWire(cfg); err == nil || !strings.Contains(err.Error(), "cluster name") {
		t.Errorf("got %v", err)
	}
	udp, err := net.ListenPacket("udp", "127.0.77.1:0")
	if err != nil {
		t.Skip(err)
	}
	defer udp.Close()
	cfg = nodeConfig(1, nil)
	cfg.Listen = addrPort(udp.LocalAddr())
	if _, err := NewWire(cfg); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("udp is taken: got %v", err)
	}
	if l, err := net.Listen("tcp", cfg.Listen.String()); err != nil {
		t.Errorf("the other half was kept: %v", err)
	} else {
		l.Close()
	}
}

func TestWireOnIPv6(t *testing.T) {
	ca, cb := nodeConfig(1, nil), nodeConfig(2, nil)
	ca.Listen, cb.Listen = netip.MustParseAddrPort("[::1]:0"), netip.MustParseAddrPort("[::1]:0")
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip(err)
	} else {
		l.Close()
	}
	a, b := startWire(t, ca), startWire(t, cb)
	a.dial(b, PurposeRaft)
	if got := b.accept(PurposeRaft).Hello.Addr; got != a.Addr() || !got.Addr().Is6() {
		t.Errorf("got %s, want %s", got, a.Addr())
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &testLog{}
		r := refusals{log: slog.New(slog.NewTextHandler(l, nil))}
		addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
		r.add(addr(1), &RefusedError{Reason: WrongKey}, false)
		for i := range 10000 {
			r.add(addr(i), &RefusedError{Reason: NotTLS, Detail: "x\ny"}, false)
		}
		if n := strings.Count(l.String(), "\n"); n > linesMax {
			t.Errorf("%d lines", n)
		}
		list := r.list()
		wrong := slices.ContainsFunc(list, func(r Refusal) bool { return r.Reason == WrongKey && r.Peer == addr(1) })
		if len(list) > 2*refusalsMax || !wrong {
			t.Errorf("%d entries, the wrong key among them: %t", len(list), wrong)
		}
		if r.totals()[NotTLS] != 10000 {
			t.Errorf("got %v", r.totals())
		}
		time.Sleep(2 * time.Minute)
		r.add(addr(1), &RefusedError{Reason: WrongKey, Detail: "again"}, false)
		if !strings.Contains(l.String(), "again") || !strings.Contains(l.String(), "count=2") {
			t.Error("it is not said again")
		}
	})
}
