package cluster

import (
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestStatusDocument: what programs read has one style, whatever is added to it.
func TestStatusDocument(t *testing.T) {
	snake := regexp.MustCompile("^[a-z][a-z0-9_]*$")
	text := reflect.TypeFor[encoding.TextMarshaler]()
	var look func(reflect.Type, string)
	look = func(ty reflect.Type, path string) {
		switch {
		case ty == reflect.TypeFor[time.Duration]() && !strings.HasSuffix(path, "_ns"):
			t.Errorf("%s: a duration that does not tell its unit", path)
		case ty.Implements(text):
		case ty.Kind() == reflect.Slice:
			look(ty.Elem(), path)
		case ty.Kind() == reflect.Struct:
			for i := range ty.NumField() {
				name, _, _ := strings.Cut(ty.Field(i).Tag.Get("json"), ",")
				if ty.Field(i).IsExported() && !snake.MatchString(name) {
					t.Errorf("%s: field %s of %v is called %q", path, ty.Field(i).Name, ty, name)
				}
				look(ty.Field(i).Type, path+"."+name)
			}
		}
	}
	look(reflect.TypeFor[NodeStatus](), "status")
	b, err := json.Marshal(NodeStatus{Refused: []Refusal{{Peer: netip.MustParseAddr("10.0.0.9"), Reason: WrongKey}}})
	if err != nil || !strings.Contains(string(b), `"reason":"wrong key"`) || !strings.Contains(string(b), `"peer":"10.0.0.9"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestRefusalsForPeople: one line for one address and reason, whoever had called.
func TestRefusalsForPeople(t *testing.T) {
	r := refusals{log: slog.New(slog.DiscardHandler)}
	at := netip.MustParseAddr("10.0.0.9")
	r.add(at, &RefusedError{Reason: WrongKey, Detail: "theirs is another", Hello: Hello{Node: ID{3}}}, true)
	r.add(at, &RefusedError{Reason: WrongKey}, false)
	r.add(at, &RefusedError{Reason: WrongKey}, false)
	r.add(at, &RefusedError{Reason: TooSlow}, false)
	var said []string
	for _, one := range r.list() {
		said = append(said, one.String())
		if one.Reason == WrongKey && (one.Node != ID{3} || one.First.After(one.Last)) {
			t.Errorf("%+v", one)
		}
	}
	slices.Sort(said)
	if want := []string{"10.0.0.9, 3 times: wrong key: theirs is another", "10.0.0.9: too slow"}; !slices.Equal(said, want) {
		t.Errorf("got %q, want %q", said, want)
	}
}

// TestHealthyIsQuiet: nodes that start, work, hand over and stop have nothing to
// warn of, but for what raft says of elections and of peers that are not there.
func TestHealthyIsQuiet(t *testing.T) {
	l := &testLog{}
	c := newTestCluster(t, 3)
	c.log = slog.New(slog.NewTextHandler(l, nil))
	read := 0
	judge := func() {
		said := l.String()
		for s := range strings.Lines(said[read:]) {
			judgeLine(t, s)
		}
		read = len(said)
	}
	for round := range 2 {
		for i := range 3 {
			c.start(i)
		}
		h := c.holder()
		await(t, "three voters", 10*time.Second, c.members(3))
		for i := range 3 {
			c.propose(i, i)
		}
		to := (h + 1) % 3
		await(t, "an heir", 5*time.Second, func() bool { ok, _ := c.nodes[h].serves(c.nodes[to].ID()); return ok })
		if err := c.nodes[h].Transfer(t.Context(), fmt.Sprint("lb", to)); err != nil {
			t.Fatal(err)
		}
		judge()
		c.kill(0)
		if round == 1 {
			await(t, "the others to hear a good-bye", 10*time.Second, func() bool { return strings.Contains(l.String(), `msg="member left"`) })
		}
		c.kill(1)
		c.kill(2)
		judge()
	}
}

// judgeLine finds fault with a line that a healthy cluster does not write. While the
// nodes start or stop one after another some miss the others, and it depends on how
// busy the machine is whether they have time to say so.
func judgeLine(t *testing.T, s string) {
	t.Helper()
	loud := strings.Contains(s, "level=WARN") || strings.Contains(s, "level=ERROR")
	missing := []string{
		"failed to appendEntries to", "failed to heartbeat to", "failed to contact", "failed to flush response", "connection refused",
		// A busy machine may take longer than raft's timers between the first node and the last.
		"starting election", "restarting election", "rejecting pre-vote request",
	}
	for _, m := range missing {
		if strings.Contains(s, m) && !strings.Contains(s, "closed network") {
			loud = false
		}
	}
	if loud || strings.Contains(s, "closed network") {
		t.Errorf("%s", strings.TrimSpace(s))
	}
}

// TestQueuedAttempts: what a known peer has tried while this process was stopped
// comes all at once. That is no trouble of anybody's; of a stranger it is.
func TestQueuedAttempts(t *testing.T) {
	for _, known := range []bool{true, false} {
		cfg := nodeConfig(1, nil)
		w := startWire(t, cfg)
		if known {
			w.stop()
			cfg.Peers = []netip.Addr{cfg.Listen.Addr()} // where the attempts come from
			w = startWire(t, cfg)
		}
		for range handshakesEach + 4 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: cfg.Listen.Addr().AsSlice()}}
			c, err := d.DialContext(t.Context(), "tcp", w.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		if !known {
			await(t, "four too many", 2*time.Second, func() bool { return w.RefusedTotal()[TooMany] == 4 })
			continue
		}
		await(t, "the last of them to be waiting", 2*time.Second, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.waiting) == handshakesEach
		})
		time.Sleep(100 * ms) // the oldest are on their way out
		if got := w.RefusedTotal()[TooMany]; got != 0 || len(w.Refused()) != 0 {
			t.Errorf("%d refusals of a known peer: %v", got, w.Refused())
		}
	}
}
