package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// runSyslog runs s until the function that it returns is called.
func runSyslog(s *syslog) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.run(ctx) })
	return func() { cancel(); running.Wait() }
}

func TestSyslogForm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	daemon, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	daemon.SetReadDeadline(time.Now().Add(10 * time.Second))
	s := newSyslog(func() (net.Conn, error) { return net.Dial("unixgram", path) })
	j := newJournal(io.Discard, 2)
	j.divert(s.put)
	defer runSyslog(s)()
	buf := make([]byte, 1024)
	for level, priority := range map[slog.Level]int{
		levelOf(2): 15, slog.LevelDebug: 15, slog.LevelInfo: 14, slog.LevelWarn: 12, slog.LevelError: 11,
	} {
		j.log.Log(t.Context(), level, "text", "key", "value")
		n, err := daemon.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got := string(buf[:n])
		stamp, begins := strings.CutPrefix(got, fmt.Sprintf("<%d>", priority))
		stamp, ends := strings.CutSuffix(stamp, " pen: text key=value")
		if _, err := time.Parse(time.Stamp, stamp); !begins || !ends || err != nil {
			t.Errorf("level %v: got %q", level, got)
		}
	}
}

// A log daemon that hangs must not hold up anybody. What it does not take is
// counted, and it hears of it when it takes again.
func TestHangingSyslog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		conns := []net.Conn{here}
		s := newSyslog(func() (net.Conn, error) {
			if len(conns) == 0 {
				return nil, errors.New("nobody there")
			}
			c := conns[0]
			conns = conns[1:]
			return c, nil
		})
		stop := runSyslog(s)
		begin := time.Now()
		for range queueRoom + 100 {
			s.put(time.Now(), slog.LevelInfo, []byte("m"))
		}
		if time.Since(begin) != 0 {
			t.Errorf("logging waited %v", time.Since(begin))
		}
		if n := s.dropped.Load(); n < 99 {
			t.Errorf("dropped %d", n)
		}
		time.Sleep(2 * queueSend) // the first message's time runs out
		there.Close()

		// It is started anew.
		here, there = net.Pipe()
		conns = []net.Conn{here}
		time.Sleep(2 * syslogRetry)
		var heard strings.Builder
		var listening sync.WaitGroup
		listening.Go(func() { io.Copy(&heard, there) })
		for range 3 {
			s.put(time.Now(), slog.LevelInfo, []byte("again"))
			time.Sleep(syslogRetry)
		}
		stop()
		listening.Wait()
		if got := heard.String(); !strings.Contains(got, "pen: again") || !strings.Contains(got, "log messages dropped count=") {
			t.Errorf("heard %q", got)
		}
	})
}

func TestSyslogEndsThoughNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		s := newSyslog(func() (net.Conn, error) { return here, nil })
		for range 100 {
			s.put(time.Now(), slog.LevelInfo, []byte("m"))
		}
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.run(ctx)
		if took := time.Since(begin); took > queueFlush+queueSend {
			t.Errorf("took %v", took)
		}
	})
}

// What is queued when the process ends still gets out.
func TestSyslogIsFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		var heard strings.Builder
		var listening sync.WaitGroup
		listening.Go(func() { io.Copy(&heard, there) })
		s := newSyslog(func() (net.Conn, error) { return here, nil })
		for i := range 100 {
			s.put(time.Now(), slog.LevelInfo, fmt.Appendf(nil, "message %d;", i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.run(ctx)
		listening.Wait()
		if !strings.Contains(heard.String(), "message 99;") || s.dropped.Load() != 0 {
			t.Errorf("dropped %d, heard %q", s.dropped.Load(), heard.String())
		}
	})
}
