package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/state"
)

// newWeb starts a proxy that looks at the heads of HTTP requests.
func newWeb(t testing.TB, opts Options, servers ...string) *stand {
	t.Helper()
	s := newStill(t, opts, 0, servers...)
	s.set(state.OptHTTP, state.Bool(true))
	s.start()
	return s
}

func (s *stand) faulty(f fault, want uint64) {
	s.t.Helper()
	eventually(s.t, fmt.Sprint(want, " refused as ", f), func() bool { return s.Stats("").Refused[f.String()] == want })
}

// mirror is a server that answers each request with what it has got of it, and takes
// up what is offered: another protocol, in which it says everything back.
func mirror(c duplex) {
	in := bufio.NewReader(c)
	for {
		var head bytes.Buffer
		r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(oneByOne{in}, &head)))
		if err != nil {
			return
		}
		switch {
		case r.Header.Get("Upgrade") != "" && r.URL.Path == "/up":
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst")
			io.Copy(struct{ io.Writer }{c}, in)
			c.CloseWrite()
			return
		case r.Method == http.MethodConnect:
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			io.Copy(struct{ io.Writer }{c}, in)
			c.CloseWrite()
			return
		}
		if r.Header.Get("Expect") != "" {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		_ = body
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", head.Len())
		if r.Method != http.MethodHead {
			c.Write(head.Bytes())
		}
	}
}

// oneByOne keeps who reads ahead from taking what is not his.
type oneByOne struct{ io.Reader }

func (o oneByOne) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(1, len(b))]) }

// ask sends a request and returns the body of the answer to it.
func ask(t testing.TB, c io.Writer, in *bufio.Reader, text string) string {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return hear(t, in, "")
}

// hear reads an answer to a request with the given method.
func hear(t testing.TB, in *bufio.Reader, method string) string {
	t.Helper()
	r, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("%q and %v", b, err)
	}
	return string(b)
}

// headStatus hears the head of an answer. What follows, if it is a tunnel's, is the caller's.
func headStatus(t testing.TB, in *bufio.Reader, method string) int {
	t.Helper()
	r, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	return r.StatusCode
}

const local = "X-Forwarded-Proto: http\r\nX-Forwarded-For: 127.0.0.1\r\n"

func TestHTTPEachRequestOfAConnection(t *testing.T) {
	s := newWeb(t, Options{}, backend(t, loopback, mirror))
	c := s.dial()
	in := bufio.NewReader(c)
	get := "GET /1 HTTP/1.1\r\nHost: a\r\n"
	if got, want := ask(t, c, in, get+"X-Forwarded-For: 9.9.9.9\r\n\r\n"), get+local+"\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	post := "DELETE /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
	if got, want := ask(t, c, in, post+"\r\n3\r\nabc\r\n0\r\n\r\n"), post+local+"\r\n3\r\nabc\r\n0\r\n\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	io.WriteString(c, get+"\r\n"+get+"\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n"+get+"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	for range 2 {
		if got, want := hear(t, in, ""), get+local+"\r\n"; got != want {
			t.Errorf("of several at once: got %q, want %q", got, want)
		}
	}
	hear(t, in, "HEAD")
	if got := hear(t, in, ""); got != "" {
		t.Errorf("got %q, want to be asked for the rest", got)
	}
	if got, want := ask(t, c, in, "ab"), get+"Expect: 100-continue\r\nContent-Length: 2\r\n"+local+"\r\nab"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.CloseWrite()
	if rest := all(t, in); rest != "" {
		t.Errorf("at the end: %q", rest)
	}
	eventually(t, "closed", func() bool { return s.Stats("").Used == 0 })
	s.spotless()
}

// A connection that has turned to something else is carried by the loops, with its
// slot, its places and its figures, and whatever either side has sent meanwhile.
func TestHTTPUpgradeGoesOnInTheLoop(t *testing.T) {
	for _, request := range []string{
		"GET /up HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
		"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
	} {
		s := newWeb(t, Options{Loops: 2}, backend(t, loopback, mirror))
		c := s.dial()
		in := bufio.NewReader(c)
		ask(t, c, in, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		io.WriteString(c, request+"early")
		if status := headStatus(t, in, "CONNECT"); status/100 > 2 {
			t.Fatal(status)
		}
		if strings.Contains(request, "Upgrade") {
			in.Discard(len("first"))
		}
		got := make([]byte, len("early"))
		if io.ReadFull(in, got); string(got) != "early" {
			t.Errorf("got %q", got)
		}
		loops := 0
		eventually(t, "in a loop", func() bool {
			loops = 0
			for _, n := range everywhere(s.engine, func(l *loop) int { return l.conns.used }) {
				loops += n
			}
			return loops == 1 && len(s.engine.secure.of(s.front(""))) == 0
		})
		if st := s.Stats(""); st.Used != 1 || s.engine.conns.Load() != 1 || s.front("").places.Load() != 1 || st.Files < 2 {
			t.Errorf("%d connections, %d places, %d files", s.engine.conns.Load(), s.front("").places.Load(), st.Files)
		}
		big := random(4 << 20)
		go func() { c.Write(big); c.CloseWrite() }()
		back, err := io.ReadAll(in)
		if err != nil || !bytes.Equal(back, big) {
			t.Errorf("%d bytes and %v, want all %d", len(back), err, len(big))
		}
		eventually(t, "closed", func() bool { return s.Stats("").Used == 0 })
		s.spotless()
		if sv := s.Servers("")[0]; sv.Conns != 0 || sv.Sent < 4<<20 || sv.Received < 4<<20 || sv.Attempts != 1 {
			t.Errorf("%+v", sv)
		}
		for cs := range s.Clients("") {
			if cs.Received < 4<<20 || cs.Sent < 4<<20 || cs.Connects != 1 {
				t.Errorf("%+v", cs)
			}
		}
	}
}

// Until the server agrees, what follows is not passed on; if it does not, that is the
// next request.
func TestHTTPUpgradeThatIsNotTaken(t *testing.T) {
	s := newWeb(t, Options{}, backend(t, loopback, mirror))
	c := s.dial()
	up, get := "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n", "GET /2 HTTP/1.1\r\nHost: a\r\n"
	io.WriteString(c, up+"\r\n"+get+"X-Forwarded-For: 9.9.9.9\r\n\r\n")
	in := bufio.NewReader(c)
	for _, want := range []string{up, get} {
		if got := hear(t, in, ""); got != want+local+"\r\n" {
			t.Errorf("got %q, want %q", got, want+local)
		}
	}
}

func TestHTTPOverTLS(t *testing.T) {
	s := newSafe(t, Options{}, backend(t, loopback, mirror))
	s.set(state.OptHTTP, state.Bool(true))
	c := s.connect(s.client())
	in := bufio.NewReader(c)
	if got := ask(t, c, in, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\n\r\n"); !strings.HasSuffix(got, "X-Forwarded-Proto: https\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n") ||
		strings.Contains(got, "http\r\n") {
		t.Errorf("got %q", got)
	}
	io.WriteString(c, "GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\n\r\nearly")
	if status := headStatus(t, in, "GET"); status != 101 {
		t.Fatal(status)
	}
	got := make([]byte, len("firstearly"))
	if io.ReadFull(in, got); string(got) != "firstearly" {
		t.Errorf("got %q", got)
	}
	exchange(t, struct {
		io.Reader
		io.Writer
	}{in, c}, "still in TLS")
	c.CloseWrite()
	if rest := all(t, in); rest != "" {
		t.Errorf("at the end: %q", rest)
	}
}

// Whoever sends something ambiguous is told, when all that he has asked before is
// answered, and no server hears of it.
func TestHTTPFaultIsAnswered(t *testing.T) {
	heard := make(chan struct{}, 10)
	s := newWeb(t, Options{}, backend(t, loopback, func(c duplex) { heard <- struct{}{}; mirror(c) }))
	bad := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
	for sent, status := range map[string]int{
		bad + strings.Repeat("GET / HTTP/1.1\r\n\r\n", 1000):      400,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                        505,
		"GET /" + strings.Repeat("x", headMost) + " HTTP/1.1\r\n": 431,
	} {
		c := s.dial()
		io.WriteString(c, sent)
		in := bufio.NewReader(c)
		r, err := http.ReadResponse(in, nil)
		if err != nil || r.StatusCode != status || !r.Close {
			t.Fatalf("%.40q: %v and %v", sent, r, err)
		}
		defer r.Body.Close()
		if text := all(t, r.Body); len(text) < 10 {
			t.Errorf("%d: %q", status, text)
		}
		if rest := all(t, in); rest != "" {
			t.Errorf("after it: %q", rest)
		}
	}
	select {
	case <-heard:
		t.Error("the server has heard of it")
	default:
	}
	c := s.dial()
	get := "GET /1 HTTP/1.1\r\nHost: a\r\n"
	io.WriteString(c, get+"\r\n"+bad)
	in := bufio.NewReader(c)
	if got := hear(t, in, ""); got != get+local+"\r\n" {
		t.Errorf("the one before: %q", got)
	}
	if status := headStatus(t, in, "GET"); status != 400 {
		t.Errorf("got %d", status)
	}
	s.faulty(faultLength, 2)
	s.faulty(faultVersion, 1)
	s.faulty(faultLarge, 1)
}

// TestHTTPVisitsAreTold: with the bytes that the client sent and got, also where he got them
// from nobody but us.
func TestHTTPVisitsAreTold(t *testing.T) {
	s := newWeb(t, Options{}, backend(t, loopback, mirror))
	w := &seen{t: t}
	s.Watch(Watch{Visit: w.visit, Request: w.request})
	c := s.dial()
	get := "GET /1 HTTP/1.1\r\nHost: a\r\n"
	io.WriteString(c, get+"\r\n")
	c.CloseWrite()
	answer := all(t, c)
	v := w.ends(ClientClosed)
	if v.Received != uint64(len(get)+2) || v.Sent != uint64(len(answer)) || v.Server != 0 || v.First <= 0 {
		t.Errorf("a request: got %+v, want %d received and %d sent", v, len(get)+2, len(answer))
	}
	w.mu.Lock()
	if all := strings.Join(w.requests, ""); !strings.HasSuffix(all, " "+get+local+"\r\n") {
		t.Errorf("the requests: %q", all)
	}
	w.mu.Unlock()

	c = s.dial()
	bad := "GET /2\r\n\r\n"
	io.WriteString(c, bad)
	answer = all(t, c)
	c.Close()
	if v := w.ends(BadRequest); v.Received != uint64(len(bad)) || v.Sent != uint64(len(answer)) || len(answer) == 0 {
		t.Errorf("a fault: got %+v, want %d received and %d sent", v, len(bad), len(answer))
	}
}

// A fault in the middle of a request resets both sides: nobody takes it for whole.
func TestHTTPFaultInABodyIsAReset(t *testing.T) {
	s := newWeb(t, Options{}, backend(t, loopback, func(c duplex) { io.Copy(io.Discard, c) }))
	c := s.dial()
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	eventually(t, "under way", func() bool { return s.Stats("").Used == 1 && s.Servers("")[0].Sent > 0 })
	io.WriteString(c, "x\r\n")
	cut(t, "the client", c)
	s.faulty(faultChunk, 1)
}

func TestHTTPSlowHeads(t *testing.T) {
	heard := make(chan struct{}, 10)
	s := newStill(t, Options{}, 4, backend(t, loopback, func(duplex) { heard <- struct{}{} }))
	s.set(state.OptHTTP, state.Bool(true))
	s.engine.secure.headTime = 3 * time.Second
	s.start()
	var slow []duplex
	for i := range 3 {
		c := s.dial()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n")
		slow = append(slow, c)
		eventually(t, "taken in, after the others", func() bool { return s.Stats("").Used == i+1 })
	}
	// Two may take their time at once; the oldest goes after a second.
	cut(t, "the first", slow[0])
	s.faulty(faultCrowd, 1)
	for _, c := range slow[1:] {
		if got := all(t, c); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
			t.Errorf("got %q", got)
		}
	}
	s.faulty(faultTime, 2)
	select {
	case <-heard:
		t.Error("the server has heard of it")
	default:
	}
}

// Clients who only connect, as checks do, are nobody's business.
func TestHTTPNobodyHearsOfWhoAsksNothing(t *testing.T) {
	heard := make(chan struct{}, 10)
	s := newWeb(t, Options{}, backend(t, loopback, func(duplex) { heard <- struct{}{} }))
	for _, sent := range []string{"", "GET / HT"} {
		c := s.dial()
		io.WriteString(c, sent)
		c.CloseWrite()
		if got := all(t, c); got != "" {
			t.Errorf("got %q", got)
		}
	}
	eventually(t, "closed", func() bool { return s.Stats("").Used == 0 })
	select {
	case <-heard:
		t.Error("the server has heard of it")
	default:
	}
}

func TestHTTPStandbyResets(t *testing.T) {
	hold := make(chan struct{})
	s := newWeb(t, Options{Loops: 2}, backend(t, loopback, func(c duplex) { mirror(c); <-hold }))
	defer close(hold)
	up := s.dial()
	in := bufio.NewReader(up)
	io.WriteString(up, "GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\n\r\n")
	in.ReadString('\n')
	plain := s.dial()
	ask(t, plain, bufio.NewReader(plain), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	silent := s.dial()
	eventually(t, "three connections", func() bool { return s.Stats("").Used == 3 })
	s.Standby()
	s.spotless()
	for who, c := range map[string]duplex{"a tunnel": up, "one between two requests": plain, "one that has asked nothing": silent} {
		cut(t, who, c)
	}
	if n := s.Stats("").Reset; n != 3 {
		t.Errorf("%d resets are counted, want 3", n)
	}
}

// Turns into tunnels and standbys at once: none is forgotten.
func TestHTTPStandbyWhileConnectionsTurn(t *testing.T) {
	s := newWeb(t, Options{Loops: 2}, backend(t, loopback, mirror))
	for range 10 {
		var all []duplex
		for range 8 {
			c := s.dial()
			io.WriteString(c, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
			all = append(all, c)
		}
		s.Standby()
		s.spotless()
		for _, c := range all {
			c.Close()
		}
		s.Serve()
	}
}

func TestHTTPIdleConnectionIsClosed(t *testing.T) {
	s := newWeb(t, Options{}, backend(t, loopback, mirror))
	s.set(state.OptIdle, state.Int(1))
	c := s.dial()
	ask(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it goes on")
	}
	up := s.dial()
	in := bufio.NewReader(up)
	io.WriteString(up, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
	if _, err := io.Copy(io.Discard, in); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a tunnel: %v", err)
	}
}

func TestHTTPServersOfAllKinds(t *testing.T) {
	dead := refusing(t)
	path := filepath.Join(t.TempDir(), "s")
	s := newWeb(t, Options{}, dead, backend(t, path, mirror))
	c := s.dial()
	if got := ask(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.Contains(got, local) {
		t.Errorf("after a failover: %q", got)
	}
	s.set(state.OptClientACL, state.Int(1))
	s.deny(1)
	c = s.dial()
	if got := all(t, c); got != "" {
		t.Errorf("who is denied gets %q", got)
	}
	at := backend(t, loopback, mirror)
	ap := netip.MustParseAddrPort(at)
	s.apply(state.SetServer{
		Index: state.Abuse, Fields: state.FieldAddress | state.FieldPort,
		Server: state.Server{Address: state.Address{Host: "127.0.0.1", IP: ap.Addr()}, Port: ap.Port()},
	})
	c = s.dial()
	if got := ask(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.Contains(got, local) {
		t.Errorf("at the abuse server: %q", got)
	}
}

func TestHTTPOnAUnixSocketHasNoAddress(t *testing.T) {
	s := newWeb(t, Options{}, backend(t, loopback, mirror))
	s.listen(filepath.Join(t.TempDir(), "sock"))
	c := s.dial()
	in := bufio.NewReader(c)
	if got := ask(t, c, in, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"); got != "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\n\r\n" {
		t.Errorf("got %q", got)
	}
	io.WriteString(c, "GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\n\r\n")
	headStatus(t, in, "GET")
	in.Discard(len("first"))
	exchange(t, struct {
		io.Reader
		io.Writer
	}{in, c}, "back in the loop")
}

// Where there are no loops, goroutines carry on.
func TestNetHTTP(t *testing.T) {
	s := newNetStand(t, backend(t, loopback, mirror))
	s.setup(state.Set{Option: state.OptHTTP, Value: state.Bool(true)}, state.Set{Option: state.OptForwarded, Value: state.Int(int(state.ForwardedAppend))})
	c := s.dial()
	in := bufio.NewReader(c)
	if got := ask(t, c, in, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"); !strings.Contains(got, "X-Forwarded-For: 9.9.9.9, 127.0.0.1\r\n") {
		t.Errorf("got %q", got)
	}
	io.WriteString(c, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
	if status := headStatus(t, in, "CONNECT"); status != 200 {
		t.Fatal(status)
	}
	exchange(t, struct {
		io.Reader
		io.Writer
	}{in, c}, "hello")
	c.CloseWrite()
	if rest := all(t, in); rest != "" {
		t.Errorf("at the end: %q", rest)
	}
	s.quiet()
}

// More requests than may wait for answers do not stop a connection for good.
func TestHTTPManyRequestsAtOnce(t *testing.T) {
	s := newWeb(t, Options{}, backend(t, loopback, mirror))
	c := s.dial()
	const n = 10 * pipelineMost
	go io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", n))
	in := bufio.NewReader(c)
	for range n {
		if got := hear(t, in, ""); !strings.Contains(got, local) {
			t.Fatalf("got %q", got)
		}
	}
}
