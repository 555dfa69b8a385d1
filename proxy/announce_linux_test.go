package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/state"
)

// relay is a proxy of either kind: event loops, or goroutines.
type relay struct {
	t       *testing.T
	dial    func() duplex
	apply   func(...state.Op)
	front   *front
	clients func() []netip.Addr
}

// eachWay runs a test on both. The servers are made anew for each.
func eachWay(t *testing.T, servers func(t *testing.T) []string, do func(*testing.T, *relay)) {
	t.Run("loops", func(t *testing.T) {
		s := newStand(t, Options{}, servers(t)...)
		s.apply(state.SetLevel{Level: 2})
		do(t, &relay{t, s.dial, s.apply, s.Proxy.front(""), func() (all []netip.Addr) {
			for c := range s.Clients("") {
				all = append(all, c.Client)
			}
			return all
		}})
	})
	t.Run("goroutines", func(t *testing.T) {
		s := newNetStand(t, servers(t)...)
		s.setup(state.SetLevel{Level: 2})
		do(t, &relay{t, s.dial, func(ops ...state.Op) { s.setup(ops...) }, s.front, func() (all []netip.Addr) {
			for c := range s.clientStats(present()) {
				all = append(all, c.Client)
			}
			return all
		}})
	})
}

func (r *relay) set(o state.Option, n int) {
	r.t.Helper()
	r.apply(state.Set{Option: o, Value: state.Int(n)})
}

// trust makes list 1 that of who has to begin with a header: 127.0.0.1, or nobody
// who is there.
func (r *relay) trust(client string) {
	r.t.Helper()
	r.apply(state.ClearACL{List: 1}, state.AppendACL{List: 1, Entry: state.ACLEntry{
		Permit: true, Addr: netip.MustParseAddr(client), Mask: netip.MustParseAddr("255.255.255.255"),
	}}, state.Set{Option: state.OptProxyIn, Value: state.Int(1)})
}

// tell sends pieces and the end, and returns what came back.
func (r *relay) tell(pieces ...string) string {
	r.t.Helper()
	c := r.dial()
	defer c.Close()
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			r.t.Fatal(err)
		}
	}
	c.CloseWrite()
	return all(r.t, c)
}

func (r *relay) spurned(why spurned, want uint64) {
	r.t.Helper()
	eventually(r.t, fmt.Sprint(want, " sent away for ", why), func() bool { return r.front.spurned[why].Load() == want })
	eventually(r.t, "nobody waits", func() bool { return r.front.unheard.Load() == 0 })
}

// say echoes after a word and everything that came, so that the header is seen.
func say(word string) func(duplex) {
	return func(c duplex) {
		b, _ := io.ReadAll(c)
		io.WriteString(c, word+string(b))
	}
}

func echoing(t *testing.T) []string { return []string{backend(t, loopback, say(""))} }

// announced is the header of a version for c.
func announced(version state.ProxyHeader, c net.Conn) string {
	e := ends{endOf(c.LocalAddr()), endOf(c.RemoteAddr())}
	if version == state.ProxyV1 {
		return string(appendLine(nil, e))
	}
	return string(appendBinary(nil, e, nil))
}

func TestServersAreToldForWhomConnectionsCome(t *testing.T) {
	failing := func(t *testing.T) []string {
		return []string{refusing(t), refusing(t), backend(t, loopback, say(""))}
	}
	eachWay(t, failing, func(t *testing.T, r *relay) {
		for _, version := range []state.ProxyHeader{state.ProxyV1, state.ProxyV2, state.ProxyOff} {
			r.set(state.OptProxyOut, int(version))
			for _, sent := range []string{"", "hello", strings.Repeat("x", 3000)} {
				c := r.dial()
				want := sent
				if version != state.ProxyOff {
					want = announced(version, c) + sent
				}
				io.WriteString(c, sent)
				c.CloseWrite()
				if got := all(t, c); got != want {
					t.Errorf("%d: got %.80q, want %.80q", version, got, want)
				}
			}
		}
		for _, c := range r.clients() {
			if c.String() != "127.0.0.1" {
				t.Errorf("the client is %v", c)
			}
		}
	})
}

// TestAServerThatSpeaksFirstHasTheHeader: it comes also if the client says nothing.
func TestAServerThatSpeaksFirstHasTheHeader(t *testing.T) {
	first := func(t *testing.T) []string {
		return []string{backend(t, loopback, func(c duplex) {
			b := make([]byte, len("PROXY "))
			io.ReadFull(c, b)
			c.Write(b)
			io.Copy(io.Discard, c)
		})}
	}
	eachWay(t, first, func(t *testing.T, r *relay) {
		r.set(state.OptProxyOut, int(state.ProxyV1))
		c := r.dial()
		b := make([]byte, len("PROXY "))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "PROXY " {
			t.Errorf("got %q, %v", b, err)
		}
	})
}

func TestEmergencyAndAbuseServersAreTold(t *testing.T) {
	eachWay(t, func(t *testing.T) []string { return []string{refusing(t)} }, func(t *testing.T, r *relay) {
		special := func(i int, word string) state.Op {
			at := netip.MustParseAddrPort(backend(t, loopback, say(word)))
			return state.SetServer{Index: i, Fields: state.FieldAddress | state.FieldPort, Server: state.Server{
				Address: state.Address{Host: at.Addr().String(), IP: at.Addr()}, Port: at.Port(),
			}}
		}
		r.apply(special(state.Emergency, "emergency "), special(state.Abuse, "abuse "))
		r.set(state.OptProxyOut, int(state.ProxyV1))
		if got := r.tell("data"); !strings.HasPrefix(got, "emergency PROXY TCP4 127.0.0.1 127.0.0.1 ") || !strings.HasSuffix(got, "\r\ndata") {
			t.Errorf("got %q", got)
		}
		r.apply(state.AppendACL{List: 2, Entry: state.ACLEntry{Addr: netip.MustParseAddr("127.0.0.1"), Mask: netip.MustParseAddr("255.255.255.255")}})
		r.set(state.OptClientACL, 2)
		if got := r.tell("data"); !strings.HasPrefix(got, "abuse PROXY TCP4 127.0.0.1 127.0.0.1 ") || !strings.HasSuffix(got, "\r\ndata") {
			t.Errorf("got %q", got)
		}
	})
}

// TestWhoIsTrustedSaysForWhomHeComes: with all that hangs on who a client is.
func TestWhoIsTrustedSaysForWhomHeComes(t *testing.T) {
	v1 := "PROXY TCP4 192.0.2.7 192.0.2.99 4444 80\r\n"
	v2 := string(appendBinary(nil, endsOf("192.0.2.7:4444", "192.0.2.99:80"), nil))
	fields := string(appendBinary(nil, endsOf("192.0.2.7:4444", "192.0.2.99:80"), []byte(field(0xe0, strings.Repeat("y", 2000)))))
	eachWay(t, echoing, func(t *testing.T, r *relay) {
		r.trust("127.0.0.1")
		for _, header := range []string{v1, v2, fields} {
			for _, data := range []string{"", "data", v1, strings.Repeat("x", 200_000)} {
				if got := r.tell(header + data); got != data {
					t.Errorf("%.30q and %.30q: got %.80q, %d bytes", header, data, got, len(got))
				}
			}
			one := strings.Split(header+"data", "")
			if got := r.tell(one...); got != "data" {
				t.Errorf("%.30q, letter by letter: got %.80q", header, got)
			}
		}
		if got := r.clients(); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("192.0.2.7")}) {
			t.Errorf("clients are %v", got)
		}
		// Passed on, with the address that the client had connected to.
		r.set(state.OptProxyOut, int(state.ProxyV1))
		for _, header := range []string{v1, v2, fields} {
			if got := r.tell(header, "data"); got != v1+"data" {
				t.Errorf("passed on: got %.80q", got)
			}
		}
		// The access list is about the client.
		r.apply(state.AppendACL{List: 2, Entry: state.ACLEntry{Addr: netip.MustParseAddr("192.0.2.7"), Mask: netip.MustParseAddr("255.255.255.255")}})
		r.set(state.OptClientACL, 2)
		refused := r.front.refused[refusedACL].Load()
		c := r.dial()
		io.WriteString(c, v1)
		if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
			t.Errorf("denied: got %q, %v", b, err)
		}
		if got := r.front.refused[refusedACL].Load(); got != refused+1 {
			t.Errorf("%d were denied, want %d", got, refused+1)
		}
		if got := r.tell("PROXY TCP4 192.0.2.8 192.0.2.99 4444 80\r\n", "data"); !strings.HasSuffix(got, "\r\ndata") {
			t.Errorf("somebody else: got %q", got)
		}
	})
}

func TestOwnConnectionsOfTrustedPeersKeepTheirAddress(t *testing.T) {
	eachWay(t, echoing, func(t *testing.T, r *relay) {
		r.trust("127.0.0.1")
		r.set(state.OptProxyOut, int(state.ProxyV1))
		for _, header := range []string{"PROXY UNKNOWN\r\n", binHeader(binLocal, binUnspec, ""), binHeader(binProxy, binStream, strings.Repeat("\x00", binUnix))} {
			c := r.dial()
			io.WriteString(c, header+"data")
			c.CloseWrite()
			if got, want := all(t, c), announced(state.ProxyV1, c)+"data"; got != want {
				t.Errorf("%.30q: got %q, want %q", header, got, want)
			}
		}
		if got := r.clients(); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("127.0.0.1")}) {
			t.Errorf("clients are %v", got)
		}
	})
}

// TestOfOthersAHeaderIsData: nobody but who is trusted can say that he is another.
func TestOfOthersAHeaderIsData(t *testing.T) {
	eachWay(t, echoing, func(t *testing.T, r *relay) {
		r.trust("192.0.2.1")
		const header = "PROXY TCP4 192.0.2.7 192.0.2.99 4444 80\r\n"
		if got := r.tell(header + "data"); got != header+"data" {
			t.Errorf("got %q", got)
		}
		if got := r.clients(); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("127.0.0.1")}) {
			t.Errorf("clients are %v", got)
		}
	})
}

func TestWithoutAHeaderTrustedPeersAreSentAway(t *testing.T) {
	eachWay(t, echoing, func(t *testing.T, r *relay) {
		r.trust("127.0.0.1")
		bad := []string{"GET / HTTP/1.0\r\n\r\n", "PROXY nonsense\r\n", "", "PROXY TCP4 192.0.2.7", binMark + "\x21\x11\xff\xff", "PROXY UNKNOWN" + strings.Repeat(" ", 200)}
		for i, text := range bad {
			c := r.dial()
			io.WriteString(c, text)
			c.CloseWrite()
			if b, err := io.ReadAll(c); len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%.20q: got %q, %v", text, b, err)
			}
			r.spurned(spurnedHeader, uint64(i+1))
		}
		eventually(t, "no clients, and their places are free", func() bool {
			return len(r.clients()) == 0 && r.front.pending.Load()+r.front.places.Load() <= 1
		})
		// Who says nothing has 3 s, however he says it.
		c, began := r.dial(), time.Now()
		io.WriteString(c, "PROXY ")
		if b, err := io.ReadAll(c); len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) || time.Since(began) < headerTime {
			t.Errorf("got %q, %v after %v", b, err, time.Since(began))
		}
		r.spurned(spurnedHeaderTime, 1)
	})
}

// TestHeadersThatAreWaitedForHaveABound: those who say nothing leave places to the
// others.
func TestHeadersThatAreWaitedForHaveABound(t *testing.T) {
	eachWay(t, echoing, func(t *testing.T, r *relay) {
		r.trust("127.0.0.1")
		most := r.front.settings.Load().ConnMax / 2
		var waiting []duplex
		for range most {
			waiting = append(waiting, r.dial())
		}
		eventually(t, "all wait", func() bool { return r.front.unheard.Load() == int64(most) })
		c := r.dial()
		if b, err := io.ReadAll(c); len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("one too many: got %q, %v", b, err)
		}
		if n := r.front.spurned[spurnedHeaderCrowd].Load(); n != 1 {
			t.Errorf("%d were sent away, want 1", n)
		}
		io.WriteString(waiting[0], "PROXY UNKNOWN\r\ndata")
		waiting[0].CloseWrite()
		if got := all(t, waiting[0]); got != "data" {
			t.Errorf("got %q", got)
		}
	})
}

func TestHeadersOnUnixSocketsAndOfIPv6(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pen")
	at := backend(t, loopback, say(""))
	s := newStand(t, Options{}, at)
	s.apply(state.SetLevel{Level: 2}, state.Set{Option: state.OptProxyOut, Value: state.Int(int(state.ProxyV1))})
	for _, listen := range []string{path, "[::1]:0", "[::]:0"} {
		s.listen(listen)
		c := s.dial()
		want := announced(state.ProxyV1, c)
		io.WriteString(c, "data")
		c.CloseWrite()
		if got := all(t, c); got != want+"data" || listen == path && want != "PROXY UNKNOWN\r\n" {
			t.Errorf("%s: got %q, want %q", listen, got, want)
		}
	}
	// An IPv4 client of a listener for both.
	_, port, _ := net.SplitHostPort(s.Address(""))
	c := dial(t, "127.0.0.1:"+port)
	want := announced(state.ProxyV1, c)
	c.CloseWrite()
	if got := all(t, c); got != want || !strings.HasPrefix(got, "PROXY TCP4 127.0.0.1 127.0.0.1 ") {
		t.Errorf("got %q, want %q", got, want)
	}
	// Everybody on a Unix socket has to begin with a header, if anybody.
	s.listen(path)
	s.set(state.OptProxyIn, state.Int(3))
	c = s.dial()
	io.WriteString(c, "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\ndata")
	c.CloseWrite()
	if got := all(t, c); got != "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\ndata" {
		t.Errorf("got %q", got)
	}
}

// TestHeadersAndTLS: the header comes before the hello, and the server hears what
// the client asked for and showed.
func TestHeadersAndTLS(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, say("")))
	s.apply(state.AppendACL{List: 1, Entry: state.ACLEntry{Permit: true, Addr: netip.MustParseAddr("127.0.0.1"), Mask: netip.MustParseAddr("255.255.255.255")}})
	s.text(state.OptTLSCAFile, file(t, s.dir, "ca.pem", s.root.pem()))
	s.set(state.OptTLSClient, state.Int(int(state.ClientCertificateRequest)))
	s.set(state.OptProxyIn, state.Int(1))
	s.set(state.OptProxyOut, state.Int(int(state.ProxyV2)))
	come := endsOf("192.0.2.7:4444", "192.0.2.99:443")
	for _, pieces := range []int{1, 5} {
		raw := s.dial()
		header := appendBinary(nil, come, nil)
		for piece := range slices.Chunk(header, (len(header)+pieces-1)/pieces) {
			raw.Write(piece)
		}
		cfg := s.client()
		cfg.Certificates = []tls.Certificate{s.root.leaf("somebody").pair()}
		c := tls.Client(raw, cfg)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "data")
		c.CloseWrite()
		got := all(t, c)
		state := c.ConnectionState()
		want := string(appendBinary(nil, come, []byte(field(fieldAuthority, "localhost")+field(fieldTLS, "\x07\x00\x00\x00\x00"+
			field(fieldVersion, "TLSv1.3")+field(fieldCipher, tls.CipherSuiteName(state.CipherSuite))+field(fieldName, "somebody")))))
		if got != want+"data" {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// A hello without a header.
	if _, err := s.try(s.client()); err == nil {
		t.Error("a handshake without a header succeeds")
	}
	s.refused(spurnedHeader, 1)
}
