package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

// syslog carries messages to the system's log, facility user, ident pen. Whoever
// logs never waits for it: messages are queued, and what the queue has no room
// for is dropped, counted and reported. The standard library's client would
// wait for a log daemon that hangs, without end and with its lock held.
type syslog struct {
	dial    func() (net.Conn, error)
	conn    net.Conn // of run, once that has begun
	tried   time.Time
	queue   chan sysMessage
	dropped atomic.Uint64
}

type sysMessage struct {
	at    time.Time
	level slog.Level
	line  []byte
}

const (
	syslogQueue = 1024
	syslogRetry = 5 * time.Second // between two attempts to reach the log daemon
	syslogWrite = time.Second     // for it to take one message
	syslogFlush = time.Second     // at the end, for all
)

// newSyslog connects at once, because /dev/log may be out of reach after a
// chroot. A log daemon that is not there yet is no error: the original does
// without as well.
func newSyslog(dial func() (net.Conn, error)) *syslog {
	s := &syslog{dial: dial, queue: make(chan sysMessage, syslogQueue)}
	s.connect(time.Now())
	return s
}

// put is the sink. It never waits.
func (s *syslog) put(at time.Time, level slog.Level, line []byte) {
	select {
	case s.queue <- sysMessage{at, level, line}:
	default:
		s.dropped.Add(1)
	}
}

// run sends what is queued until ctx ends, then what is left, for a second.
func (s *syslog) run(ctx context.Context) {
	defer s.disconnect()
	var reported uint64
	for {
		select {
		case m := <-s.queue:
			s.send(m, time.Now().Add(syslogWrite))
			if n := s.dropped.Load(); n != reported && len(s.queue) == 0 {
				s.send(s.loss(n-reported), time.Now().Add(syslogWrite))
				reported = n
			}
		case <-ctx.Done():
			s.flush(time.Now().Add(syslogFlush))
			return
		}
	}
}

// loss is the message about lost messages.
func (s *syslog) loss(n uint64) sysMessage {
	return sysMessage{time.Now(), slog.LevelWarn, fmt.Appendf(nil, "log messages dropped count=%d", n)}
}

func (s *syslog) flush(end time.Time) {
	for time.Now().Before(end) {
		select {
		case m := <-s.queue:
			s.send(m, end)
		default:
			return
		}
	}
}

// send tries twice: the log daemon may have been started anew.
func (s *syslog) send(m sysMessage, end time.Time) {
	for range 2 {
		if !s.connect(m.at) {
			break
		}
		s.conn.SetWriteDeadline(end)
		_, err := s.conn.Write(m.encode(s.conn.RemoteAddr().Network()))
		if err == nil {
			return
		}
		s.disconnect()
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			break
		}
		s.tried = time.Time{}
	}
	s.dropped.Add(1)
}

// encode gives the message the form of the local log socket: priority, local
// time, ident.
func (m sysMessage) encode(network string) []byte {
	const user = 1 << 3
	b := fmt.Appendf(nil, "<%d>%s pen: %s", user|severity(m.level), m.at.Local().Format(time.Stamp), m.line)
	if network == "unix" { // a stream needs an end
		b = append(b, '\n')
	}
	return b
}

func severity(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

func (s *syslog) connect(now time.Time) bool {
	if s.conn != nil {
		return true
	}
	if now.Sub(s.tried) < syslogRetry {
		return false
	}
	s.tried = now
	c, err := s.dial()
	if err == nil {
		s.conn = c
	}
	return err == nil
}

func (s *syslog) disconnect() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// dialSyslog reaches the system's log daemon where it usually is.
func dialSyslog() (net.Conn, error) {
	var errs []error
	for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
		for _, network := range []string{"unixgram", "unix"} {
			c, err := net.DialTimeout(network, path, syslogWrite)
			if err == nil {
				return c, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}
