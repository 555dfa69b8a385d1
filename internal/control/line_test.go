package control

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// say writes the pieces to a pipe, one write each, with the pauses between
// them, and closes it at the end if last is "EOF".
func say(c net.Conn, pause time.Duration, pieces ...string) {
	for i, p := range pieces {
		if i > 0 {
			time.Sleep(pause)
		}
		if p == "EOF" {
			c.Close()
			return
		}
		if _, err := io.WriteString(c, p); err != nil {
			return
		}
	}
}

// hear reads one line of what is said.
func hear(pause time.Duration, pieces ...string) (string, error) {
	line, _, err := hearTimed(pause, pieces...)
	return line, err
}

// hearTimed tells also how long it took.
func hearTimed(pause time.Duration, pieces ...string) (line string, took time.Duration, err error) {
	here, there := net.Pipe()
	var speaker sync.WaitGroup
	speaker.Go(func() { say(there, pause, pieces...) })
	begin := time.Now()
	line, err = readLine(here)
	took = time.Since(begin)
	here.Close()
	speaker.Wait()
	there.Close()
	return line, took, err
}

func TestLineEndsWhereTheOriginalEndsIt(t *testing.T) {
	for _, tt := range []struct{ name, sent, want string }{
		{"LF", "mode\n", "mode"},
		{"CR LF", "mode\r\n", "mode"},
		{"CR", "mode\r", "mode"},
		{"NUL", "mode\x00", "mode"},
		{"further lines", "mode\nservers\n", "mode"},
		{"empty", "\nmode\n", ""},
		{"spaces and tabs are the command's", "  server 0\tmax  3 \n", "  server 0\tmax  3 "},
		{"bytes that are no text", "\xff\xc3\x28\n", "\xff\xc3\x28"},
		{"longest", strings.Repeat("x", MaxLine) + "\n", strings.Repeat("x", MaxLine)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := hear(0, tt.sent); got != tt.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestLineIsWholeHoweverItIsCut(t *testing.T) {
	const sent = "server 1 address ::1 port 80\r\n"
	want := strings.TrimSpace(sent)
	synctest.Test(t, func(t *testing.T) {
		for i := 1; i < len(sent); i++ {
			if got, err := hear(time.Second, sent[:i], sent[i:]); got != want || err != nil {
				t.Errorf("cut at %d: got %q, %v, want %q", i, got, err, want)
			}
		}
		bytes := strings.Split(sent, "")
		if got, err := hear(100*time.Millisecond, bytes...); got != want || err != nil {
			t.Errorf("byte by byte: got %q, %v, want %q", got, err, want)
		}
	})
}

func TestLineEndsWithTheStream(t *testing.T) {
	if got, err := hear(0, "mode", "EOF"); got != "mode" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := hear(0, "EOF"); got != "" || err != nil {
		t.Errorf("nothing sent: got %q, %v", got, err)
	}
}

func TestLineHasFiveSeconds(t *testing.T) {
	drip := strings.Split("server 0 max 100\n", "")
	for _, tt := range []struct {
		name   string
		pause  time.Duration
		pieces []string
		want   string
		err    error
	}{
		{"silent peer", 0, nil, "", errSilent},
		{"no terminator, waits for the reply", 0, []string{"mode"}, "mode", nil},
		{"second half in time", 4 * time.Second, []string{"mo", "de\n"}, "mode", nil},
		{"second half too late", 6 * time.Second, []string{"mo", "de\n"}, "mo", nil},
		{"still sending when the time is over", 400 * time.Millisecond, drip, "", errUnfinished},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, took, err := hearTimed(tt.pause, tt.pieces...)
				if got != tt.want || !errors.Is(err, tt.err) {
					t.Errorf("got %q, %v, want %q, %v", got, err, tt.want, tt.err)
				}
				if took > lineTime {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestLineIsBounded(t *testing.T) {
	got, err := hear(0, strings.Repeat("x", MaxLine+1)+"\n")
	if got != "" || !errors.Is(err, errLong) {
		t.Errorf("got %d bytes, %v, want %v", len(got), err, errLong)
	}
}

// FuzzLine cuts the input in two anywhere: the line must not depend on it, and
// be what a look at the whole input says.
func FuzzLine(f *testing.F) {
	f.Add([]byte("mode\n"), uint16(2))
	f.Add([]byte("server 0 max 3\r\nmode"), uint16(14))
	f.Add([]byte("\x00\n"), uint16(1))
	f.Add([]byte(strings.Repeat("y", MaxLine+2)), uint16(MaxLine))
	f.Fuzz(func(t *testing.T, sent []byte, cut uint16) {
		n := min(int(cut), len(sent))
		got, err := hear(0, string(sent[:n]), string(sent[n:]), "EOF")
		want := string(sent)
		if i := strings.IndexAny(want, "\n\r\x00"); i >= 0 {
			want = want[:i]
		}
		if len(want) > MaxLine {
			if !errors.Is(err, errLong) {
				t.Fatalf("%d bytes: %v", len(want), err)
			}
			return
		}
		if got != want || err != nil {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	})
}
