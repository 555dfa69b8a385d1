package proxy

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"pen/state"
)

// original is what the original program answered, recorded.
const original = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Type: text/html\r\n\r\nUlric was here."

// presents holds the page that clients get against the original's, whatever they
// say, and looks that nothing of it stays behind.
func presents(t *testing.T, dial func() duplex) {
	t.Helper()
	for _, said := range []string{"GET / HTTP/1.1\r\n\r\n", "x", strings.Repeat("much ", 30<<10)} {
		c := dial()
		go io.WriteString(c, said) // the end may come before all is sent
		if said == "x" || said[0] == 'G' {
			if got := all(t, c); got != original {
				t.Errorf("%.20q got %q, want %q", said, got, original)
			}
			continue
		}
		got, _ := io.ReadAll(c)
		if !strings.HasPrefix(original, string(got)) {
			t.Errorf("%.20q got %q", said, got)
		}
	}
	c := dial()
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, c); got != "" {
		t.Errorf("who says nothing gets %q", got)
	}
}

func TestDummy(t *testing.T) {
	s := newStand(t, Options{})
	s.set(state.OptDummy, state.Bool(true))
	presents(t, s.dial)
	silent := s.dial()
	var c ConnStats
	eventually(t, "the silent client is there alone", func() bool {
		all := s.Connections("")
		if len(all) == 1 {
			c = all[0]
		}
		return len(all) == 1 && s.Stats("").Accepted == 5
	})
	if c.UpFD != -1 || c.DownFD < 0 || c.Server != state.None || c.State != StateConnected|StateServerClosed {
		t.Errorf("connection without a server: %+v", c)
	}
	if !s.CloseConnection("", c.Slot) || all(t, silent) != "" {
		t.Error("it can not be closed")
	}
	got, again := uint64(0), s.Stats("").Accepted
	for c := range s.Clients("") {
		got += c.Connects
	}
	if got != again {
		t.Errorf("%d visits of %d clients are known", got, again)
	}
}

func TestDummyAsksNoServer(t *testing.T) {
	s := newStand(t, Options{}, backend(t, loopback, echo))
	s.set(state.OptDummy, state.Bool(true))
	presents(t, s.dial)
	if f := s.Servers("")[0]; f.Attempts != 0 {
		t.Errorf("the server was asked: %+v", f)
	}
	s.set(state.OptDummy, state.Bool(false))
	exchange(t, s.dial(), "back")
}

func TestDummyKnowsWhoIsDenied(t *testing.T) {
	s := newStand(t, Options{})
	s.set(state.OptDummy, state.Bool(true))
	s.apply(state.AppendACL{List: 1, Entry: state.ACLEntry{Addr: netip.MustParseAddr("127.0.0.1")}})
	s.set(state.OptClientACL, state.Int(1))
	c := s.dial()
	if got := all(t, c); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	eventually(t, "the refusal is counted", func() bool { return s.Stats("").Refused["denied"] == 1 })
}

func TestDummyAndIdleTimeout(t *testing.T) {
	s := newStand(t, Options{})
	s.set(state.OptDummy, state.Bool(true))
	s.set(state.OptIdle, state.Int(1))
	if got := all(t, s.dial()); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

func TestDummyOverTLS(t *testing.T) {
	s := newSafe(t, Options{})
	s.set(state.OptDummy, state.Bool(true))
	c := s.connect(s.client())
	if _, err := io.WriteString(c, "GET"); err != nil {
		t.Fatal(err)
	}
	if got := all(t, c); got != original {
		t.Errorf("got %q, want %q", got, original)
	}
}

func TestDummyOnGoroutines(t *testing.T) {
	s := newNetStand(t)
	s.setup(state.Set{Option: state.OptDummy, Value: state.Bool(true)})
	presents(t, s.dial)
}
