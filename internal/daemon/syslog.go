package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// syslog carries messages to the system's log, facility user, ident pen, through
// a queue. The standard library's client would wait for a log daemon that hangs,
// without end and with its lock held.
type syslog struct {
	*queue
	dial  func() (net.Conn, error)
	conn  net.Conn // of the queue's goroutine, once that has begun
	tried time.Time
}

const syslogRetry = 5 * time.Second // between two attempts to reach the log daemon

// newSyslog connects at once, because /dev/log may be out of reach after a
// chroot. A log daemon that is not there yet is no error: the original does
// without as well.
func newSyslog(dial func() (net.Conn, error)) *syslog {
	s := &syslog{dial: dial}
	s.queue = newQueue(s.send)
	s.close = s.disconnect
	s.connect(time.Now())
	return s
}

// send tries twice: the log daemon may have been started anew.
func (s *syslog) send(m message, end time.Time) bool {
	for range 2 {
		if !s.connect(m.at) {
			break
		}
		s.conn.SetWriteDeadline(end)
		_, err := s.conn.Write(m.encode(s.conn.RemoteAddr().Network()))
		if err == nil {
			return true
		}
		s.disconnect()
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			break
		}
		s.tried = time.Time{}
	}
	return false
}

// encode gives the message the form of the local log socket: priority, local
// time, ident.
func (m message) encode(network string) []byte {
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
			c, err := net.DialTimeout(network, path, queueSend)
			if err == nil {
				return c, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}
