package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// bulk is how much is written to a file with one call.
const bulk = 64 << 10

// file is a file, a device or a pipe.
type file struct {
	out   io.Writer
	f     *os.File // nil: not ours to close
	piece int      // most to write with one call
	torn  []byte   // the rest of a line of which the beginning was written
}

// OpenFile opens a file to append to. What is not there is made, and others than
// owner and group may not read it: it tells who came. A pipe need not have a reader yet, and
// may lose it and get another one.
func OpenFile(name string) (Target, error) {
	flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE
	t := &file{piece: bulk}
	if info, err := os.Stat(name); err == nil {
		switch mode := info.Mode(); {
		case mode&os.ModeNamedPipe != 0:
			// Who also reads a pipe does not wait for a reader when he opens it, and
			// gets no error when the reader leaves.
			flags = os.O_RDWR
			t.piece = LineMost
		case mode&os.ModeSocket != 0:
			return nil, &os.PathError{Op: "open", Path: name, Err: errors.New("is a socket")}
		case mode.IsDir():
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
		}
	}
	f, err := os.OpenFile(name, flags|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, err
	}
	t.f, t.out = f, f
	return t, nil
}

// Stream is a writer that stays open, such as standard error.
func Stream(w io.Writer) Target { return &file{out: w, piece: LineMost} }

// Write writes as much as fits with each call, up to the end of a line. Where a
// disk is full, a call may write less than that: the rest of the line that is cut
// comes first when there is room again.
func (t *file) Write(lines []byte) (lost int, err error) {
	if len(t.torn) > 0 {
		n, err := t.out.Write(t.torn)
		t.torn = t.torn[n:]
		if err != nil {
			return bytes.Count(lines, newline), err
		}
	}
	for len(lines) > 0 {
		part := whole(lines, t.piece)
		n, err := t.out.Write(part)
		if err != nil {
			t.torn = bytes.Clone(rest(part, n))
			return bytes.Count(lines[n+len(t.torn):], newline), err
		}
		lines = lines[len(part):]
	}
	return 0, nil
}

// whole returns as many whole lines as fit, and one at least.
func whole(lines []byte, most int) []byte {
	if len(lines) <= most {
		return lines
	}
	if i := bytes.LastIndexByte(lines[:most], '\n'); i >= 0 {
		return lines[:i+1]
	}
	return lines[:bytes.IndexByte(lines, '\n')+1]
}

// rest returns what is missing of the line in which n is, if it was begun.
func rest(lines []byte, n int) []byte {
	if n == 0 || n == len(lines) || lines[n-1] == '\n' {
		return nil
	}
	return lines[n : n+bytes.IndexByte(lines[n:], '\n')+1]
}

// Hurry works for pipes. Nothing interrupts a write to a disk.
func (t *file) Hurry(end time.Time) {
	if t.f != nil {
		_ = t.f.SetWriteDeadline(end)
	}
}

// Close makes one more attempt at a line that is cut.
func (t *file) Close() error {
	if t.f == nil {
		return nil
	}
	if len(t.torn) > 0 {
		_, _ = t.f.Write(t.torn)
	}
	return t.f.Close()
}

// datagrams sends one for each line.
type datagrams struct{ conn net.Conn }

// sendTime is how long one datagram may take.
const sendTime = time.Second

// Datagrams sends each line to conn, which keeps their borders.
func Datagrams(conn net.Conn) Target { return datagrams{conn} }

func (t datagrams) Write(lines []byte) (lost int, err error) {
	for line := range bytes.Lines(lines) {
		_ = t.conn.SetWriteDeadline(time.Now().Add(sendTime))
		_, e := t.conn.Write(line)
		if e != nil && !errors.Is(e, os.ErrDeadlineExceeded) {
			_, e = t.conn.Write(line) // that was about the one before, which nobody took
		}
		if e != nil {
			lost++
			err = fmt.Errorf("send: %w", e)
		}
	}
	return lost, err
}

func (t datagrams) Hurry(time.Time) {}

func (t datagrams) Close() error { return t.conn.Close() }
