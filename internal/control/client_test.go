package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// original answers each connection after a single read, as the original does.
func original(t *testing.T, reply func(c net.Conn, read string)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4095)
			n, _ := c.Read(buf)
			reply(c, string(buf[:n]))
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestAskJoinsWords(t *testing.T) {
	addr := original(t, func(c net.Conn, read string) { io.WriteString(c, read+"|") })
	got, err := Ask(t.Context(), addr, "server", "0", "", "max 3")
	if want := "server 0  max 3\n|"; string(got) != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestAskRefusesWhatIsNoLine(t *testing.T) {
	for _, words := range [][]string{{"mode\nexit"}, {"a", "b\r"}, {"\x00"}, {strings.Repeat("x", MaxLine+1)}} {
		if _, err := Ask(t.Context(), "127.0.0.1:1", words...); err == nil || strings.Contains(err.Error(), "connecting") {
			t.Errorf("%.20q: %v", words, err)
		}
	}
}

func TestAskAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1:88":    "tcp 10.0.0.1:88",
		"::1:8888":       "tcp [::1]:8888",
		"[fe80::1]:8888": "tcp [fe80::1]:8888",
		"8888":           "tcp localhost:8888",
		"www:pen":        "tcp www:pen",
		"/run/ctl":       "unix /run/ctl",
		"ctl":            "no port given",
		"":               "no port given",
		"host:":          "no port given",
	} {
		network, addr, err := dialable(text)
		got := network + " " + addr
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestAskHasTheOriginalsErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for addr, want := range map[string]string{
		l.Addr().String():    "error connecting to server",
		"/nonexistent/ctl":   "error connecting to server",
		"host.invalid.:8888": "getaddrinfo: ",
	} {
		if _, err := Ask(t.Context(), addr, "mode"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", addr, err, want)
		}
	}
}

func TestAskGivesUpOnSilence(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	addr := original(t, func(c net.Conn, _ string) { io.WriteString(c, "begin"); <-hang })
	var got bytes.Buffer
	err := Client{Addr: addr, Patience: 50 * time.Millisecond}.Copy(t.Context(), &got, "mode")
	if err == nil || !strings.Contains(err.Error(), "no reply") || got.String() != "begin" {
		t.Errorf("got %q, %v", got.String(), err)
	}
}

func TestAskTakesItsTimeWhileSomethingComes(t *testing.T) {
	addr := original(t, func(c net.Conn, _ string) {
		for range 20 {
			io.WriteString(c, "x")
			time.Sleep(20 * time.Millisecond)
		}
	})
	var got bytes.Buffer
	err := Client{Addr: addr, Patience: 200 * time.Millisecond}.Copy(t.Context(), &got, "mode")
	if got.Len() != 20 || err != nil {
		t.Errorf("got %q, %v", got.String(), err)
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	addr := original(t, func(net.Conn, string) { <-hang })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Ask(ctx, addr, "mode"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestReplyIsBounded(t *testing.T) {
	l := limited{max: 5}
	if _, err := io.WriteString(&l, "12345"); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(&l, "6"); err == nil || l.buf.String() != "12345" {
		t.Errorf("got %q, %v", l.buf.String(), err)
	}
}
