package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// attack connects from an address on loopback and does something, in a loop,
// until the context ends. Every attacker holds up to so many connections.
func attack(ctx context.Context, wg *sync.WaitGroup, to netip.AddrPort, from string, hold int, do func(c net.Conn)) *atomic.Int64 {
	var made atomic.Int64
	wg.Go(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Second}
		var held []net.Conn
		for ctx.Err() == nil {
			c, err := d.DialContext(ctx, "tcp", to.String())
			if err != nil {
				time.Sleep(time.Millisecond)
				continue
			}
			made.Add(1)
			do(c)
			if held = append(held, c); len(held) > hold {
				held[0].Close()
				held = held[1:]
			}
		}
		for _, c := range held {
			c.Close()
		}
	})
	return &made
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// Under a flood of everything that strangers can send, memory stays bounded and
// a peer connects as if nothing was.
func TestAbuseHurtsNobody(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("one address on loopback only")
	}
	if testing.Short() {
		t.Skip("a flood")
	}
	ca, cb := nodeConfig(1, nil), nodeConfig(2, nil)
	ca.Peers = []netip.Addr{cb.Listen.Addr()}
	a, b := startWire(t, ca), startWire(t, cb)
	stands := b.dial(a, PurposeRaft)
	other := a.accept(PurposeRaft)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	before := heap()

	garbage := make([]byte, 64<<10)
	_, _ = rand.Read(garbage)
	hello := clientHello(t, a.identity.label)
	quick := func(c net.Conn) { c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)) }
	var made []*atomic.Int64
	for i, do := range []func(net.Conn){
		func(net.Conn) {}, // raw, silent
		func(c net.Conn) { quick(c); _, _ = c.Write(garbage) },
		func(c net.Conn) { quick(c); _, _ = c.Write(hello[:len(hello)/2]) },                                       // half a ClientHello
		func(c net.Conn) { quick(c); _, _ = c.Write(hello) },                                                      // a whole one, and silence
		func(c net.Conn) { quick(c); _, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")) },                // something else
		func(c net.Conn) { quick(c); _, _ = c.Write(append([]byte{0x16, 3, 1, 0x3f, 0xff}, garbage[:16383]...)) }, // a record of full length
		func(c net.Conn) { c.Close() },
	} {
		made = append(made, attack(ctx, &wg, a.Addr(), netip.AddrFrom4([4]byte{127, 0, 78, byte(i + 1)}).String(), 700, do))
	}
	var worst time.Duration
	var most uint64
	waiting := 0
	total := func() (n int64) {
		for _, m := range made {
			n += m.Load()
		}
		return n
	}
	for start := time.Now(); total() < 5000 && time.Since(start) < time.Minute || time.Since(start) < 2*time.Second; {
		begin := time.Now()
		s, err := b.Dial(t.Context(), a.Addr(), PurposeForm)
		worst = max(worst, time.Since(begin))
		if err != nil {
			t.Errorf("an honest peer: %v", err)
			break
		}
		a.accept(PurposeForm).Close()
		s.Close()
		a.mu.Lock()
		waiting = max(waiting, len(a.waiting))
		a.mu.Unlock()
		most = max(most, heap())
	}
	if _, err := stands.Write([]byte("x")); err != nil {
		t.Errorf("a stream that stood: %v", err)
	}
	if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
		t.Errorf("a stream that stood: %v", err)
	}
	n := total()
	cancel()
	wg.Wait()
	grown := int64(most) - int64(before)
	t.Logf("%d connects, %d at most in handshake, %d KiB more memory, honest connect at most %s, refused %v", n, waiting, grown>>10, worst, a.RefusedTotal())
	if n < 5000 || waiting > handshakesMax+handshakesEach || grown > 32<<20 || worst > 10*time.Second { // in one process with the flood, and a machine that is busy with more
		t.Error("beyond the limits")
	}
	if lines := strings.Count(a.log.String(), "refused"); lines > 60 {
		t.Errorf("%d lines in the log", lines)
	}
	eventually(t, "everything is let go", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.waiting) == 0
	})
	if got := a.RefusedTotal(); got[NotTLS] == 0 || got[TooMany]+got[TooSlow]+got[Closed] == 0 {
		t.Errorf("refused %v", got)
	}
}

// clientHello is the first message of a client that does not have the key.
func clientHello(t *testing.T, name string) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	go func() {
		_ = tls.Client(here, &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}).Handshake()
		here.Close()
	}()
	buf := make([]byte, 16<<10)
	n, err := there.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// dialTLS connects as somebody with TLS of their own.
func dialTLS(t *testing.T, to netip.AddrPort, cfg *tls.Config) *tls.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(5 * time.Second))
	return tls.Client(raw, cfg)
}

func TestEveryKindOfStrangerIsTold(t *testing.T) {
	strange := newTestIdentity(t, testKey(2), ID{5})
	ours := newTestIdentity(t, testKey(1), ID{5})
	local := netip.MustParseAddr("127.0.0.1")
	for _, c := range []struct {
		name string
		do   func(t *testing.T, w *testWire)
		want Reason
	}{
		{"no certificate", func(t *testing.T, w *testWire) {
			c := dialTLS(t, w.Addr(), &tls.Config{ServerName: w.identity.label, InsecureSkipVerify: true})
			_ = c.Handshake()
			_, _ = c.Read(make([]byte, 1))
		}, NoCertificate},
		{"a certificate of another key", func(t *testing.T, w *testWire) {
			cfg := strange.client.Clone()
			cfg.ServerName, cfg.InsecureSkipVerify = w.identity.label, true
			c := dialTLS(t, w.Addr(), cfg)
			_ = c.Handshake()
			_, _ = c.Read(make([]byte, 1))
		}, WrongKey},
		{"an old tls", func(t *testing.T, w *testWire) {
			cfg := ours.client.Clone()
			cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			_ = dialTLS(t, w.Addr(), cfg).Handshake()
		}, NotTLS},
		{"other application", func(t *testing.T, w *testWire) {
			cfg := ours.client.Clone()
			cfg.NextProtos = []string{"h2"}
			_ = dialTLS(t, w.Addr(), cfg).Handshake()
		}, NotTLS},
		{"http", func(t *testing.T, w *testWire) {
			c, err := net.Dial("tcp", w.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
			_, _ = io.ReadAll(c)
		}, NotTLS},
		{"nothing", func(t *testing.T, w *testWire) {
			c, err := net.Dial("tcp", w.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}, Closed},
		{"the key, and garbage", func(t *testing.T, w *testWire) {
			c := dialTLS(t, w.Addr(), ours.client)
			_, _ = c.Write(bytes.Repeat([]byte("garbage"), 100))
			_, _ = io.ReadAll(c)
		}, BadHello},
		{"the key, and a hello without end", func(t *testing.T, w *testWire) {
			c := dialTLS(t, w.Addr(), ours.client)
			_, _ = c.Write([]byte(helloMagic + "\xff\xff"))
			_, _ = io.ReadAll(c)
		}, BadHello},
		{"the key, and a hello that says nothing", func(t *testing.T, w *testWire) {
			c := dialTLS(t, w.Addr(), ours.client)
			_ = writeFrame(c, make([]byte, 100))
			_, _ = io.ReadAll(c)
		}, BadHello},
		{"the key, and tiny records for ever", func(t *testing.T, w *testWire) {
			c := dialTLS(t, w.Addr(), ours.client)
			for err := error(nil); err == nil; { // one byte takes 22 on the wire
				_, err = c.Write([]byte(helloMagic)[:1])
			}
		}, BadHello},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := startWire(t, nodeConfig(1, nil))
			c.do(t, w)
			w.listed(c.want, local, "")
			w.nothingCame()
		})
	}
}

func newTestIdentity(t *testing.T, k Key, node ID) *identity {
	t.Helper()
	id, err := newIdentity(k, node)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A ClientHello may be long, but not longer than what a handshake may take.
func TestHandshakeWithoutEndIsCut(t *testing.T) {
	w := startWire(t, nodeConfig(1, nil))
	c, err := net.Dial("tcp", w.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// One handshake message of 64 KiB in records of 4 KiB.
	record := append([]byte{0x16, 3, 1, 0x10, 0}, make([]byte, 4096)...)
	copy(record[5:], []byte{1, 0, 0xff, 0xff})
	for i := 0; err == nil && i < 100; i++ {
		_, err = c.Write(record)
		copy(record[5:], make([]byte, 4))
		time.Sleep(time.Millisecond)
	}
	if err == nil {
		t.Error("it took everything")
	}
	w.listed(TooMuch, netip.MustParseAddr("127.0.0.1"), "")
}

// Strangers who hold on to their handshakes do not keep out other strangers.
func TestOldestStrangerGoes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("one address on loopback only")
	}
	a := startWire(t, nodeConfig(1, nil))
	var held []net.Conn
	for host := range byte(10) {
		for range handshakesEach + 4 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 78, host+1)}}
			c, err := d.Dial("tcp", a.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			held = append(held, c)
		}
	}
	b := startWire(t, nodeConfig(2, nil))
	start := time.Now()
	b.dial(a, PurposeRaft)
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %s", d)
	}
	a.mu.Lock()
	n := len(a.waiting)
	a.mu.Unlock()
	if n > handshakesMax {
		t.Errorf("%d in handshake", n)
	}
	held[0].SetReadDeadline(time.Now().Add(time.Second))
	if _, err := held[0].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the oldest: %v", err)
	}
	a.listed(TooMany, netip.MustParseAddr("127.0.78.1"), "")
}

// Slots of listed peers are theirs, however many strangers there are.
func TestSharesOfHandshakes(t *testing.T) {
	cfg := nodeConfig(1, newLAN())
	listed, subnet := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::2")
	cfg.Peers = []netip.Addr{listed, subnet}
	w, err := NewWire(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var all []*rawConn
	come := func(a netip.Addr) *rawConn {
		here, there := net.Pipe()
		t.Cleanup(func() { here.Close(); there.Close() })
		c := &rawConn{Conn: here, addr: a}
		w.admit(c)
		all = append(all, c)
		return c
	}
	peer := come(listed)
	for i := range 500 {
		come(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	if peer.evicted.Load() || len(w.waiting) != handshakesMax+1 {
		t.Errorf("%d wait, the peer is out: %t", len(w.waiting), peer.evicted.Load())
	}
	for range 100 {
		come(netip.MustParseAddr("10.0.0.9"))
	}
	six := come(subnet)
	for i := range 100 { // a subnet counts as one
		come(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 3)}))
	}
	count := map[string]int{}
	for _, c := range w.waiting {
		count[w.share(c.addr).String()]++
	}
	if count["10.0.0.9"] > handshakesEach || count["2001:db8::"] != handshakesEach || six.evicted.Load() || peer.evicted.Load() {
		t.Errorf("shares: %v", count)
	}
}
