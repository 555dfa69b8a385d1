package proxy

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"pen/state"
)

func TestDumpOfAPiece(t *testing.T) {
	long := strings.Repeat("x", dumpMost+5)
	for _, c := range []struct {
		mode       Dump
		data, want string
	}{
		{DumpHex, "hi\x01\xff\n", "5: 68 69 01 ff 0a "}, // as the original prints it
		{DumpText, "hi\x01\xff\n\ty~", "8: hi..\n\ty~"},
		{DumpHex, "", "0: "},
		{DumpText, long, "1029: " + long[:dumpMost] + "..."},
	} {
		if got := string(c.mode.append(nil, []byte(c.data))); got != c.want {
			t.Errorf("%q got %q, want %q", c.data, got, c.want)
		}
	}
}

// dumped keeps the messages of dumps.
type dumped struct {
	mu    sync.Mutex
	lines []string
}

func (d *dumped) Enabled(context.Context, slog.Level) bool { return true }
func (d *dumped) WithAttrs([]slog.Attr) slog.Handler       { return d }
func (d *dumped) WithGroup(string) slog.Handler            { return d }

func (d *dumped) Handle(_ context.Context, r slog.Record) error {
	if r.Level != levelDump {
		return nil
	}
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "from" {
			line = a.Value.String() + " " + line
		}
		return true
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
	return nil
}

// take returns what was dumped since it was last asked, once there is a last line.
func (d *dumped) take(t *testing.T, last string) string {
	t.Helper()
	got := ""
	eventually(t, "a dump "+last, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		got = strings.Join(d.lines, "\n")
		return strings.HasSuffix(got, last)
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = nil
	return got
}

func TestDumps(t *testing.T) {
	d := &dumped{}
	s := newStand(t, Options{Log: slog.New(d)}, backend(t, loopback, echo))
	c := s.dial()
	exchange(t, c, "before")
	s.Dump(DumpText)
	exchange(t, c, "hello")
	if got, want := d.take(t, "server 5: hello"), "client 5: hello\nserver 5: hello"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Dump(DumpHex)
	c = s.dial()
	exchange(t, c, "ab")
	if got, want := d.take(t, "server 2: 61 62 "), "client 2: 61 62 \nserver 2: 61 62 "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// Bytes in bulk are not spliced past it.
	many := strings.Repeat("0123456789abcdef", 32<<10)
	go io.WriteString(c, many)
	if got := make([]byte, len(many)); true {
		if _, err := io.ReadFull(c, got); err != nil || string(got) != many {
			t.Fatalf("bulk: %v", err)
		}
	}
	d.mu.Lock()
	if n := len(d.lines); n < 4 {
		t.Errorf("%d dumps of %d bytes both ways", n, len(many))
	}
	d.lines = nil
	d.mu.Unlock()
	s.Dump(DumpOff)
	exchange(t, c, "after")
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lines) > 0 {
		t.Errorf("dumped while that is off: %q", d.lines)
	}
}

func TestDumpOverTLS(t *testing.T) {
	d := &dumped{}
	s := newSafe(t, Options{Log: slog.New(d)}, backend(t, loopback, echo))
	s.Dump(DumpText)
	exchange(t, s.connect(s.client()), "secret")
	if got, want := d.take(t, "server 6: secret"), "client 6: secret\nserver 6: secret"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDumpOfWhoGetsThePage(t *testing.T) {
	d := &dumped{}
	s := newStand(t, Options{Log: slog.New(d)})
	s.set(state.OptDummy, state.Bool(true))
	s.Dump(DumpText)
	c := s.dial()
	io.WriteString(c, "x")
	all(t, c)
	if got, want := d.take(t, "1: x"), "client 1: x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
