package metrics

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serving is a server under test.
type serving struct {
	*Server
	t *testing.T
}

func serve(t *testing.T, text string, o Options) *serving {
	t.Helper()
	if o.Collect == nil {
		o.Collect = func(_ context.Context, s *Set) { s.Add(Gauge, "x", "X.", 1) }
	}
	s, err := Listen(t.Context(), text, o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &serving{s, t}
}

func (s *serving) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// answer is what there is to look at of one.
type answer struct {
	status int
	closed bool // the connection ends with it
	kind   string
	length int64
	body   string
}

// ask sends the beginning of a request.
func (s *serving) ask(head string) answer {
	s.t.Helper()
	c := s.dial()
	fmt.Fprintf(c, "%s\r\nHost: pen\r\n\r\n", head)
	method, _, _ := strings.Cut(head, " ")
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%s: %v", head, err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatalf("%s: %v", head, err)
	}
	return answer{r.StatusCode, r.Close, r.Header.Get("Content-Type"), r.ContentLength, string(body)}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", Options{})
	for _, tt := range []struct {
		ask    string
		status int
		body   string
	}{
		{"GET /metrics HTTP/1.1", 200, "# HELP x X.\n# TYPE x gauge\nx 1\n"},
		{"GET /metrics?a=b HTTP/1.0", 200, "# HELP x X.\n# TYPE x gauge\nx 1\n"},
		{"HEAD /metrics HTTP/1.1", 200, ""},
		{"GET /healthz HTTP/1.1", 200, "ok\n"},
		{"POST /metrics HTTP/1.1", 405, "Method Not Allowed\n"},
		{"DELETE /healthz HTTP/1.1", 405, "Method Not Allowed\n"},
		{"GET / HTTP/1.1", 404, "404 page not found\n"},
		{"GET /metrics/ HTTP/1.1", 404, "404 page not found\n"},
		{"OPTIONS * HTTP/1.1", 400, ""},
		{"GET /metrics HTTP/1.1\r\nX: " + strings.Repeat("a", 4*headSize), 431, ""},
	} {
		a := s.ask(tt.ask)
		if a.status != tt.status || a.status != http.StatusRequestHeaderFieldsTooLarge && a.body != tt.body {
			t.Errorf("%.40s: got %d, %q, want %d, %q", tt.ask, a.status, a.body, tt.status, tt.body)
		}
		if !a.closed {
			t.Errorf("%.40s: the connection stays", tt.ask)
		}
		if strings.Contains(tt.ask, " /metrics ") && a.status == http.StatusOK && (a.kind != ContentType || a.length != 31) {
			t.Errorf("%s: got %q, %d bytes", tt.ask, a.kind, a.length)
		}
	}
	if n := s.Counters().Answers; n != 3 {
		t.Errorf("%d answers", n)
	}
}

func TestOnlyLoopbackWithoutAList(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0.0.0.0:0": `metrics 0.0.0.0:0: other machines reach it, and the list that control_acl names is empty: ` +
			`say who may use it with "acl N permit ADDRESS" and "control_acl N", or use a bare port (loopback only)`,
		"/run/pen/metrics": "metrics /run/pen/metrics: expected [HOST:]PORT",
		"127.0.0.1":        `metrics "127.0.0.1": lookup tcp/127.0.0.1: unknown port`,
	} {
		if s, err := Listen(t.Context(), text, Options{}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, %v", text, s, err)
		}
	}
	s := serve(t, "0.0.0.0:0", Options{Restricted: true})
	_, port, _ := net.SplitHostPort(s.Addr())
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestDenied: who is not permitted gets nothing, and is counted. The list is asked
// each time.
func TestDenied(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	s := serve(t, "127.0.0.1:0", Options{Allow: func(a netip.Addr) bool { return open.Load() && a == netip.MustParseAddr("127.0.0.1") }})
	if b, err := io.ReadAll(s.dial()); len(b) > 0 {
		t.Errorf("got %q, %v", b, err)
	}
	open.Store(true)
	if a := s.ask("GET /metrics HTTP/1.1"); a.status != http.StatusOK {
		t.Errorf("got %d", a.status)
	}
	if c := s.Counters(); c.Denied != 1 || c.Answers != 1 {
		t.Errorf("got %+v", c)
	}
}

// TestPlacesAreBounded: who comes when all places are taken is closed at once.
func TestPlacesAreBounded(t *testing.T) {
	t.Parallel()
	goOn := make(chan bool)
	s := serve(t, "127.0.0.1:0", Options{Collect: func(context.Context, *Set) { <-goOn }})
	conns := make([]net.Conn, MaxPeers)
	for i := range conns {
		conns[i] = s.dial()
		fmt.Fprint(conns[i], "GET /metrics HTTP/1.0\r\n\r\n")
	}
	if b, _ := io.ReadAll(s.dial()); len(b) > 0 {
		t.Errorf("one too many got %q", b)
	}
	if c := s.Counters(); c.Full != 1 {
		t.Errorf("got %+v", c)
	}
	close(goOn)
	for _, c := range conns {
		io.Copy(io.Discard, c) // until the place is free
	}
	for { // the place is free a moment after the end of the stream
		c := s.dial()
		fmt.Fprint(c, "GET /healthz HTTP/1.0\r\n\r\n")
		if b, _ := io.ReadAll(c); strings.HasPrefix(string(b), "HTTP/1.0 200 OK") {
			return
		}
	}
}

// TestSilentConnectionsEnd, so that they do not keep a place.
func TestSilentConnectionsEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", Options{})
	if b, err := io.ReadAll(s.dial()); len(b) > 0 || err != nil {
		t.Errorf("a silent one got %q, %v", b, err)
	}
	c := s.dial()
	fmt.Fprint(c, "GET /metrics HTTP/1.0\r\nX: ")
	if b, err := io.ReadAll(c); strings.Contains(string(b), "200 OK") || err != nil {
		t.Errorf("half a request got %q, %v", b, err)
	}
}

// TestOneLookAtATime: looking costs something, and whoever asks often must not
// multiply it.
func TestOneLookAtATime(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	begun, goOn := make(chan bool, MaxPeers), make(chan bool)
	s := serve(t, "127.0.0.1:0", Options{Collect: func(context.Context, *Set) {
		n := now.Add(1)
		most.Store(max(most.Load(), n))
		begun <- true
		<-goOn
		now.Add(-1)
	}})
	conns := make([]net.Conn, 4)
	for i := range conns {
		conns[i] = s.dial()
		fmt.Fprint(conns[i], "GET /metrics HTTP/1.0\r\n\r\n")
	}
	<-begun
	close(goOn)
	for _, c := range conns {
		if b, err := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.0 200 OK") {
			t.Errorf("got %q, %v", b, err)
		}
	}
	if n := most.Load(); n != 1 {
		t.Errorf("%d at once", n)
	}
}

// TestCloseEndsRun with somebody who says nothing.
func TestCloseEndsRun(t *testing.T) {
	t.Parallel()
	s := serve(t, "0", Options{}) // both loopback addresses
	s.dial()
	if a := s.ask("GET /healthz HTTP/1.1"); a.status != http.StatusOK {
		t.Errorf("got %d", a.status)
	}
	s.Close() // serve waits for Run
	if c, err := net.Dial("tcp", s.Addr()); err == nil {
		c.Close()
		t.Error("still listening")
	}
}
