package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pen/state"
)

// safe is a proxy that talks TLS, with an authority that its clients trust.
type safe struct {
	*stand
	root *issuer
	dir  string
}

// newSafe starts one with a certificate for localhost.
func newSafe(t testing.TB, opts Options, servers ...string) *safe {
	t.Helper()
	s := &safe{stand: newStill(t, opts, 0, servers...), root: authority(t, "root", nil), dir: t.TempDir()}
	s.apply(state.SetLevel{Level: 2})
	s.text(state.OptTLSCertificate, file(t, s.dir, "cert.pem", s.root.leaf("localhost").both()))
	s.start()
	return s
}

func (s *safe) text(o state.Option, v string) { s.t.Helper(); s.set(o, state.Text(v)) }

// client is what a client brings along who trusts the authority.
func (s *safe) client() *tls.Config {
	return &tls.Config{RootCAs: s.root.pool(), ServerName: "localhost"}
}

// try connects and shakes hands; the handshake of TLS 1.3 is over for the server
// with the first byte that comes back.
func (s *safe) try(cfg *tls.Config) (*tls.Conn, error) {
	s.t.Helper()
	c := tls.Client(s.dial(), cfg)
	return c, c.Handshake()
}

func (s *safe) connect(cfg *tls.Config) *tls.Conn {
	s.t.Helper()
	c, err := s.try(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *safe) refused(r spurned, want uint64) {
	s.t.Helper()
	eventually(s.t, fmt.Sprint(want, " refused as ", r), func() bool { return s.Stats("").Refused[r.String()] == want })
}

func TestTLSCarriesBytesBothWays(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, loops := range []int{1, 2} {
			s := newSafe(t, Options{Loops: loops}, backend(t, loopback, echo))
			want := random(8 << 20)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					cfg := s.client()
					cfg.MinVersion, cfg.MaxVersion = version, version
					cfg.NextProtos = []string{"h2", "http/1.1"} // passed over
					c := s.connect(cfg)
					go func() {
						c.Write(want)
						c.CloseWrite()
					}()
					got, err := io.ReadAll(c) // to the notice of the end: a bare end is an error
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d bytes and %v, want all %d", len(got), err, len(want))
					}
					if cs := c.ConnectionState(); cs.Version != version || cs.NegotiatedProtocol != "" {
						t.Errorf("version %x protocol %q", cs.Version, cs.NegotiatedProtocol)
					}
				})
			}
			wg.Wait()
			eventually(t, "connections closed", func() bool { return s.Stats("").Used == 0 })
			s.spotless()
			if sv := s.Servers("")[0]; sv.Sent != 4*8<<20 || sv.Received != 4*8<<20 {
				t.Errorf("sent %d and received %d, want what was in the TLS", sv.Sent, sv.Received)
			}
		}
	}
}

// TestTLSSlowReaderHoldsUpTheServer is about memory: what nobody reads is not taken.
func TestTLSSlowReaderHoldsUpTheServer(t *testing.T) {
	want := random(32 << 20)
	s := newSafe(t, Options{}, backend(t, loopback, func(c duplex) { c.Write(want); c.CloseWrite(); io.Copy(io.Discard, c) }))
	c := s.connect(s.client())
	eventually(t, "the server is held up", func() bool {
		before := s.Servers("")[0].Received
		time.Sleep(50 * time.Millisecond)
		return before > 0 && before == s.Servers("")[0].Received
	})
	if got := s.Servers("")[0].Received; got >= uint64(len(want)) {
		t.Errorf("all %d bytes were taken, and nobody has read one", got)
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want all %d", len(got), err, len(want))
	}
}

func TestTLSOnAUnixSocket(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	s.listen(filepath.Join(s.dir, "sock"))
	exchange(t, s.connect(s.client()), "hello")
}

func TestTLSServerMaySpeakFirstAndEnds(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, name("welcome")))
	c := s.connect(s.client())
	if got := all(t, c); got != "welcome" {
		t.Errorf("got %q", got)
	}
	if n, err := c.NetConn().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the notice: %d bytes and %v, want the end", n, err)
	}
}

// A client that ends without saying so may have been cut off: its server learns
// that this is no clean end.
func TestTLSEndWithoutNoticeIsAReset(t *testing.T) {
	got := make(chan error, 1)
	s := newSafe(t, Options{}, backend(t, loopback, func(c duplex) {
		_, err := io.ReadAll(c)
		got <- err
	}))
	c := s.connect(s.client())
	io.WriteString(c, "half of it")
	c.NetConn().(duplex).CloseWrite()
	if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server got %v, want a reset", err)
	}
}

func TestTLSResetIsPassedOn(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, func(c duplex) {
		io.ReadFull(c, make([]byte, 3))
		c.(*net.TCPConn).SetLinger(0)
	}))
	c := s.connect(s.client())
	io.WriteString(c, "now")
	cut(t, "the client", c)
}

func TestTLSFastcloseGivesNotice(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, func(c duplex) { io.WriteString(c, "bye"); c.CloseWrite(); io.Copy(io.Discard, c) }))
	s.set(state.OptFastclose, state.Int(int(state.FastcloseUp)))
	if got := all(t, s.connect(s.client())); got != "bye" {
		t.Errorf("got %q", got)
	}
	eventually(t, "closed", func() bool { return s.Stats("").Used == 0 })
}

func TestTLSStandbyResetsBothSides(t *testing.T) {
	served := make(chan duplex, 1)
	hold := make(chan struct{})
	s := newSafe(t, Options{Loops: 2}, backend(t, loopback, func(c duplex) { served <- c; <-hold }))
	defer close(hold)
	c := s.connect(s.client())
	server := <-served
	silent := s.dial() // in its handshake
	eventually(t, "in its handshake", func() bool { return s.Stats("").Handshakes == 1 })
	s.Standby()
	s.spotless()
	cut(t, "the client", c)
	cut(t, "the one in its handshake", silent)
	cut(t, "the server", server)
	if n := s.Stats("").Reset; n != 2 {
		t.Errorf("%d resets are counted, want 2", n)
	}
	unanswered(t, s.Address(""))
	s.Serve()
	s.connect(s.client())
}

func TestTLSIdleConnectionIsClosed(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	s.set(state.OptIdle, state.Int(1))
	c := s.connect(s.client())
	exchange(t, c, "hello")
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it goes on")
	}
}

func TestTLSConnectionsAreListedAndClosed(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	c := s.connect(s.client())
	exchange(t, c, "hello")
	conns := s.Connections("")
	if len(conns) != 1 || conns[0].State != StateConnected || conns[0].Server != 0 || conns[0].DownFD < 0 || conns[0].UpFD < 0 {
		t.Fatalf("listed %+v", conns)
	}
	if got, ok := s.Connection("", conns[0].Slot); !ok || got.State != StateConnected {
		t.Errorf("connection %d: %+v", conns[0].Slot, got)
	}
	for cs := range s.Clients("") {
		if cs.Received != 5 || cs.Sent != 5 {
			t.Errorf("client: %+v, want 5 bytes each way", cs)
		}
	}
	if !s.CloseConnection("", conns[0].Slot) {
		t.Error("nothing to close")
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it goes on")
	}
}

// At conn_max clients wait in the backlog until a goroutine gives a place back.
func TestTLSPlacesAreFilledAgain(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	s.leave(1)
	s.set(state.OptIdle, state.Int(60)) // has the proxy look at its settings
	for range 3 {
		first := s.connect(s.client())
		exchange(t, first, "first")
		done := make(chan struct{})
		go func() {
			defer close(done)
			c := s.connect(s.client())
			exchange(t, c, "second")
			c.Close()
		}()
		eventually(t, "waits", func() bool { return s.front("").listeners[0].suspended.Load() })
		first.Close()
		<-done
	}
}

func TestTLSDrainWaitsForConnections(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	c := s.connect(s.client())
	done := make(chan struct{})
	go func() { s.Drain(context.Background()); close(done) }()
	exchange(t, c, "still")
	select {
	case <-done:
		t.Error("did not wait")
	default:
	}
	c.Close()
	<-done
}

func TestTLSNobodyHearsOfWhoDoesNotShakeHands(t *testing.T) {
	heard := make(chan struct{}, 10)
	s := newSafe(t, Options{}, backend(t, loopback, func(duplex) { heard <- struct{}{} }))
	for _, garbage := range []string{"GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70000), "\x80\x2e\x01\x00\x02", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"} {
		c := s.dial()
		io.WriteString(c, garbage)
		io.Copy(io.Discard, c)
	}
	gone := s.dial()
	gone.Close()
	s.refused(spurnedFault, 5)
	s.set(state.OptClientACL, state.Int(1))
	s.deny(1)
	if _, err := s.try(s.client()); err == nil {
		t.Error("a client that is denied shook hands")
	}
	if n := s.Stats("").Refused["denied"]; n != 1 {
		t.Errorf("%d were denied, want 1", n)
	}
	select {
	case <-heard:
		t.Error("the server has heard of a client")
	default:
	}
}

func TestTLSVersionsAndCiphers(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	at := func(version uint16, suites ...uint16) error {
		cfg := s.client()
		cfg.MinVersion, cfg.MaxVersion, cfg.CipherSuites = version, version, suites
		_, err := s.try(cfg)
		return err
	}
	if at(tls.VersionTLS11) == nil || at(tls.VersionTLS12) != nil || at(tls.VersionTLS13) != nil {
		t.Error("want TLS 1.2 and 1.3, and no other")
	}
	s.set(state.OptTLSVersions, state.Int(int(state.TLSNot12)))
	if at(tls.VersionTLS12) == nil || at(tls.VersionTLS13) != nil {
		t.Error("no_tlsv1.2: want TLS 1.3 alone")
	}
	s.set(state.OptTLSVersions, state.Int(int(state.TLSNot13)))
	if at(tls.VersionTLS12) != nil || at(tls.VersionTLS13) == nil {
		t.Error("no_tlsv1.3: want TLS 1.2 alone")
	}
	s.text(state.OptTLSCiphers, "ECDHE-ECDSA-AES256-GCM-SHA384:HIGH:!AES128:!CHACHA20")
	if at(tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) == nil || at(tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384) != nil {
		t.Error("ciphers: want those of the list alone")
	}
}

func TestTLSClientCertificates(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	ours, theirs := authority(t, "our clients", nil), authority(t, "others", nil)
	s.text(state.OptTLSCAFile, file(t, s.dir, "ca.pem", ours.pem()))
	s.text(state.OptTLSCAPath, filepath.Dir(file(t, t.TempDir(), "hash.0", authority(t, "in a directory", nil).pem())))
	good := func(by *issuer, version uint16) error {
		cfg := s.client()
		cfg.MaxVersion = version
		if by != nil {
			pair := by.leaf("client").pair()
			cfg.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				var names []string
				for _, raw := range r.AcceptableCAs {
					names = append(names, strings.TrimSpace(string(raw[len(raw)-12:])))
				}
				if len(r.AcceptableCAs) != 2 || !strings.Contains(names[0]+names[1], "our clients") {
					t.Errorf("names of authorities: %q", r.AcceptableCAs)
				}
				return &pair, nil
			}
		}
		c, err := s.try(cfg)
		if err == nil {
			_, err = io.WriteString(c, "x")
		}
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		return err
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s.set(state.OptTLSClient, state.Int(int(state.ClientCertificateRequired)))
		if good(ours, version) != nil || good(theirs, version) == nil || good(nil, version) == nil {
			t.Errorf("%x: required: ours %v, others' %v, none %v", version, good(ours, version), good(theirs, version), good(nil, version))
		}
		s.set(state.OptTLSClient, state.Int(int(state.ClientCertificateRequest)))
		if good(ours, version) != nil || good(theirs, version) == nil || good(nil, version) != nil {
			t.Errorf("%x: requested: ours %v, others' %v, none %v", version, good(ours, version), good(theirs, version), good(nil, version))
		}
	}
	if n := s.Servers("")[0].Attempts; n != 5 && n != 0 {
		t.Logf("%d connects", n)
	}
}

func TestTLSChain(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	middle := authority(t, "middle", s.root)
	leaf := middle.leaf("localhost")
	depth := func() int {
		c, err := s.try(s.client())
		if err != nil {
			return 0
		}
		return len(c.ConnectionState().PeerCertificates)
	}
	s.apply(
		state.Set{Option: state.OptTLSKey, Value: state.Text(file(t, s.dir, "key.pem", leaf.keyPEM()))},
		state.Set{Option: state.OptTLSCertificate, Value: state.Text(file(t, s.dir, "chain.pem", slices.Concat(leaf.pem(), middle.pem())))},
	)
	if depth() != 2 {
		t.Error("the chain of the file is not sent")
	}
	s.text(state.OptTLSCertificate, file(t, s.dir, "leaf.pem", leaf.pem()))
	if depth() != 0 {
		t.Error("a chain came from nowhere")
	}
	s.text(state.OptTLSCAFile, file(t, s.dir, "ca.pem", slices.Concat(s.root.pem(), middle.pem())))
	if depth() != 2 {
		t.Error("the chain is not completed, up to the root")
	}
}

func TestTLSNames(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	dir := filepath.Join(s.dir, "names")
	os.Mkdir(dir, 0o700)
	put := func(base, name string) {
		leaf := s.root.leaf(name)
		file(t, dir, base+".crt", leaf.pem())
		file(t, dir, base+".key", leaf.keyPEM())
	}
	put("www.example.com", "www.example.com")
	put("_.example.com", "*.example.com")
	file(t, s.dir, "evil.crt", s.root.leaf("evil").pem())
	s.text(state.OptTLSSNIPath, dir)
	who := func(name string) string {
		t.Helper()
		cfg := &tls.Config{InsecureSkipVerify: true, ServerName: name}
		c, err := s.try(cfg)
		if err != nil {
			return "none"
		}
		return c.ConnectionState().PeerCertificates[0].DNSNames[0]
	}
	for _, c := range [][2]string{
		{"", "localhost"},
		{"www.example.com", "www.example.com"},
		{"WWW.Example.COM", "www.example.com"},
		{"other.example.com", "*.example.com"},
		{"a.b.example.com", "localhost"},
		{"example.com", "localhost"},
		{"../evil", "localhost"},
		{"_.example.com", "localhost"},
		{"unknown.org", "localhost"},
		{"unknown.org", "localhost"}, // and again
	} {
		if got := who(c[0]); got != c[1] {
			t.Errorf("%q: got the certificate of %s, want %s", c[0], got, c[1])
		}
	}
	if n := len(s.front("").secure.Load().names.all()); n != 2 {
		t.Errorf("%d certificates are kept, want 2", n)
	}
	file(t, dir, "broken.example.com.crt", []byte("no certificate"))
	if got := who("broken.example.com"); got != "none" {
		t.Errorf("a broken certificate: got that of %s, want none", got)
	}
	s.refused(spurnedFiles, 1)
	put("broken.example.com", "broken.example.com")
	if got := who("broken.example.com"); got != "broken.example.com" {
		t.Errorf("a mended certificate: got that of %s", got)
	}
	s.passes()
	os.Remove(filepath.Join(dir, "www.example.com.crt"))
	if got := who("www.example.com"); got != "*.example.com" {
		t.Errorf("one that was taken away: got that of %s", got)
	}
}

// passes makes a second pass for whoever looks at files.
func (s *safe) passes() {
	tr := s.front("").secure.Load()
	back := func(k *kept) {
		k.mu.Lock()
		k.looked = k.looked.Add(-lookEvery)
		k.mu.Unlock()
	}
	back(tr.main)
	for _, k := range tr.names.all() {
		back(k)
	}
}

// TestTLSFilesOfAName is about what else may lie beside a name's certificate.
func TestTLSFilesOfAName(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	dir := filepath.Join(s.dir, "names")
	os.Mkdir(dir, 0o700)
	for _, name := range []string{"own.example.com", "else.example.com"} {
		leaf := s.root.leaf(name)
		file(t, dir, name+".crt", leaf.pem())
		file(t, dir, name+".key", leaf.keyPEM())
	}
	general, special := authority(t, "general", nil), authority(t, "special", nil)
	s.text(state.OptTLSCAFile, file(t, s.dir, "ca.pem", general.pem()))
	file(t, dir, "own.example.com.ca", special.pem())
	file(t, dir, "own.example.com.ocsp", staple(t, "of the name"))
	s.text(state.OptTLSSNIPath, dir)
	s.set(state.OptTLSClient, state.Int(int(state.ClientCertificateRequired)))
	for _, c := range []struct {
		name  string
		by    *issuer
		taken bool
	}{
		{"own.example.com", special, true},
		{"own.example.com", general, false},
		{"else.example.com", general, true},
		{"else.example.com", special, false},
	} {
		pair := c.by.leaf("client").pair()
		cfg := s.client()
		cfg.ServerName = c.name
		cfg.MaxVersion = tls.VersionTLS12 // where the handshake ends with the server's word
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		conn, err := s.try(cfg)
		if (err == nil) != c.taken {
			t.Errorf("%s, a client of another authority %v: %v", c.name, !c.taken, err)
		}
		if err != nil {
			continue
		}
		want := ""
		if c.by == special {
			want = string(staple(t, "of the name"))
		}
		if got := string(conn.ConnectionState().OCSPResponse); got != want {
			t.Errorf("%s: got the staple %q, want %q", c.name, got, want)
		}
	}
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	s.text(state.OptTLSOCSP, file(t, s.dir, "ocsp", staple(t, "first")))
	now := func() (*x509.Certificate, string) {
		t.Helper()
		cs := s.connect(s.client()).ConnectionState()
		return cs.PeerCertificates[0], string(cs.OCSPResponse)
	}
	first, got := now()
	if got != string(staple(t, "first")) {
		t.Errorf("staple %q", got)
	}
	file(t, s.dir, "ocsp", staple(t, "second"))
	s.passes()
	if _, got := now(); got != string(staple(t, "second")) {
		t.Errorf("a new staple: got %q", got)
	}
	file(t, s.dir, "ocsp", []byte("no response"))
	s.passes()
	if _, got := now(); got != string(staple(t, "second")) {
		t.Errorf("a bad staple: got %q, want the one before", got)
	}
	if err := s.ReloadTLS(); err != nil {
		t.Errorf("ReloadTLS = %v", err)
	}
	file(t, s.dir, "cert.pem", []byte("half a file"))
	s.passes()
	if cert, _ := now(); !cert.Equal(first) {
		t.Error("a bad file has an effect")
	}
	err := s.ReloadTLS()
	if want := "service default: certificate " + s.dir + "/cert.pem: has no PEM block CERTIFICATE"; err == nil || err.Error() != want {
		t.Errorf("ReloadTLS = %v, want %s", err, want)
	}
	file(t, s.dir, "cert.pem", s.root.leaf("localhost").both())
	s.passes()
	if cert, _ := now(); cert.Equal(first) {
		t.Error("the new file has no effect")
	}
	first, _ = now()
	file(t, s.dir, "cert.pem", s.root.leaf("localhost").both())
	if err := s.ReloadTLS(); err != nil {
		t.Errorf("ReloadTLS = %v", err)
	}
	if cert, _ := now(); cert.Equal(first) {
		t.Error("the file that was reloaded has no effect")
	}
}

func TestTLSBadFilesChangeNothing(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	other := s.root.leaf("other")
	empty := t.TempDir()
	in := func(name string) string { return filepath.Join(s.dir, name) }
	file(t, s.dir, "other.key", other.keyPEM())
	file(t, s.dir, "leaf.pem", other.pem())
	file(t, s.dir, "locked.key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	file(t, s.dir, "text", []byte("text"))
	file(t, s.dir, "long", make([]byte, maxPEM+1))
	file(t, s.dir, "bad.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	for _, c := range []struct {
		option state.Option
		value  string
		want   string
	}{
		{state.OptTLSCertificate, in("none"), "read " + in("none") + ": no such file or directory"},
		{state.OptTLSCertificate, s.dir, "read " + s.dir + ": is no plain file"},
		{state.OptTLSCertificate, in("long"), "read " + in("long") + ": is longer than 4194304 bytes"},
		{state.OptTLSCertificate, in("text"), "certificate " + in("text") + ": has no PEM block CERTIFICATE"},
		{state.OptTLSCertificate, in("leaf.pem"), "key " + in("leaf.pem") + ": has no PEM block PRIVATE KEY"},
		{state.OptTLSKey, in("other.key"), "certificate " + in("cert.pem") + " with key " + in("other.key") + ": tls: private key does not match public key"},
		{state.OptTLSKey, in("locked.key"), "key " + in("locked.key") + ": is encrypted, and nobody is there to ask for the password; store it without one"},
		{state.OptTLSKey, in("none"), "read " + in("none") + ": no such file or directory"},
		{state.OptTLSCAFile, in("text"), "authority " + in("text") + ": has no PEM block CERTIFICATE"},
		{state.OptTLSCAFile, in("bad.pem"), "authority " + in("bad.pem") + ": certificate 1: x509: malformed certificate"},
		{state.OptTLSCAPath, in("none"), "read " + in("none") + ": no such file or directory"},
		{state.OptTLSCAPath, empty, "read " + empty + ": no file in it has a certificate"},
		{state.OptTLSSNIPath, in("text"), "ssl_sni_path: read " + in("text") + ": is no directory"},
		{state.OptTLSCiphers, "RC4:!aNULL", `ssl_ciphers: ciphers "RC4:!aNULL" leave none for TLS 1.2; there are ECDHE-ECDSA-AES128-GCM-SHA256 `},
	} {
		v, err := s.machine.View().With(state.Command{Ops: []state.Op{state.Set{Option: c.option, Value: state.Text(c.value)}}})
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"Prepare": s.Prepare(v), "CheckTLS": CheckTLS(v.Service(""))} {
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%s: %v %s: got %v, want %s", what, c.option, c.value, err, c.want)
			}
		}
		exchange(t, s.connect(s.client()), "as ever")
	}
}

// A node that gets settings from others, and has not the files, neither talks plain
// text nor goes back to it.
func TestTLSWithoutFilesServesNobody(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	exchange(t, s.dial(), "plain")
	c := state.Command{Ops: []state.Op{state.Set{Option: state.OptTLSCertificate, Value: state.Text("/none.pem")}}}
	if _, err := s.opts.Propose(t.Context(), c); err == nil || err.Error() != "read /none.pem: no such file or directory" {
		t.Errorf("Configure = %v", err)
	}
	if _, err := tls.Client(s.dial(), &tls.Config{InsecureSkipVerify: true}).ConnectionState(), tls.Client(s.dial(), &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("shook hands without a certificate")
	}
	plain := s.dial()
	io.WriteString(plain, "plain")
	if b, _ := io.ReadAll(plain); strings.Contains(string(b), "plain") {
		t.Error("talks plain text")
	}
	s.text("")
	exchange(t, s.dial(), "plain")
}

// deny lets a list deny everybody.
func (s *stand) deny(list int) {
	nobody := netip.IPv4Unspecified()
	s.apply(state.AppendACL{List: list, Entry: state.ACLEntry{Addr: nobody, Mask: nobody}})
}

func (s *stand) text(v string) { s.t.Helper(); s.set(state.OptTLSCertificate, state.Text(v)) }

// Sessions are resumed by another node that has the same state.
func TestTLSSessionsAreResumedElsewhere(t *testing.T) {
	t.Run("1.2", func(t *testing.T) { resumeElsewhere(t, tls.VersionTLS12) })
	t.Run("1.3", func(t *testing.T) { resumeElsewhere(t, tls.VersionTLS13) })
}

func resumeElsewhere(t *testing.T, version uint16) {
	made := func() *safe {
		s := newSafe(t, Options{}, backend(t, loopback, echo))
		eventually(t, "a key", func() bool { return s.ring.now.Load() != nil })
		return s
	}
	one := made()
	{
		two := made()
		two.ring.now.Store(one.ring.now.Load()) // as replication does
		cfg := one.client()
		cfg.RootCAs.AddCert(two.root.cert)
		cfg.ClientSessionCache, cfg.MaxVersion = tls.NewLRUClientSessionCache(9), version
		resumed := func(s *safe) bool {
			c := s.connect(cfg)
			exchange(t, c, "and the tickets")
			return c.ConnectionState().DidResume
		}
		if resumed(one) {
			t.Error("resumed what never was")
		}
		if !resumed(one) || !resumed(two) {
			t.Errorf("%x: not resumed", version)
		}
		two.text(state.OptTLSCAFile, file(t, two.dir, "ca.pem", two.root.pem()))
		if resumed(two) {
			t.Errorf("%x: resumed though other clients are trusted", version)
		}
	}
}

func TestTLSTicketKeyIsProposedOnce(t *testing.T) {
	s := newSafe(t, Options{Standby: true}, backend(t, loopback, echo))
	if all := s.machine.View().Tickets(); len(all) != 0 {
		t.Error("a node that stands by makes keys")
	}
	s.Serve()
	eventually(t, "a key", func() bool { return len(s.machine.View().Tickets()) == 1 })
	s.set(state.OptIdle, state.Int(7))
	if all := s.machine.View().Tickets(); len(all) != 1 {
		t.Errorf("%d keys, want 1", len(all))
	}
}

// A handshake has five seconds, and nobody is sent away before.
func TestTLSHandshakesHaveFiveSeconds(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, echo))
	began := time.Now()
	silent, slow := s.dial(), s.dial()
	io.WriteString(slow, "\x16\x03\x01")
	for _, c := range []duplex{silent, slow} {
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, want an end", err)
		}
	}
	if took := time.Since(began); took < handshakeTime {
		t.Errorf("sent away after %v", took)
	}
	s.refused(spurnedTime, 2)
}

// Who does not go on with his handshake does not keep others out.
func TestTLSSlowHandshakes(t *testing.T) {
	s := newSafe(t, Options{Loops: 2}, backend(t, loopback, echo))
	s.leave(20)
	s.set(state.OptIdle, state.Int(60))
	for range 40 {
		io.WriteString(s.dial(), "\x16\x03\x01")
	}
	began := time.Now()
	exchange(t, s.connect(s.client()), "honest")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("an honest client waited for %v", took)
	}
	eventually(t, "slow ones cut", func() bool { return s.Stats("").Refused["tls_crowded"] >= 20 })
}
