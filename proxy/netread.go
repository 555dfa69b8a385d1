package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// netBuffer is what is read at once. With twice as much as a loop takes, bulk over TLS
// costs a fifth less.
type netBuffer [128 << 10]byte

var netBuffers = sync.Pool{New: func() any { return new(netBuffer) }}

// intake reads from one side of a connection. Of it most is read at once; 0: as much as
// there is room for. Where the system allows it, it has
// no buffer while it waits: one who is idle costs no more than his two goroutines.
type intake struct {
	conn net.Conn
	wire *wire           // below conn, if that talks TLS
	raw  syscall.RawConn // nil: can not be waited for without a buffer
	try  func(uintptr) bool
	buf  *netBuffer
	most int
	n    int
	err  error
}

func newIntake(conn net.Conn, datagrams bool) *intake {
	in := &intake{conn: conn, wire: wireOf(conn)}
	switch {
	case datagrams: // an empty one is no end
	case in.wire != nil:
		in.raw = in.wire.raw
	default:
		in.raw = rawOf(conn)
	}
	in.try = in.tryRead
	return in
}

// read waits for bytes and returns them; they are good until release. There may be
// some beside an error.
func (in *intake) read() (data []byte, err error) {
	switch {
	case in.raw == nil:
		in.take()
		in.n, err = in.conn.Read(in.room())
	case in.wire != nil:
		err = in.readSecure()
	default:
		err = in.readRaw()
	}
	if in.buf == nil {
		return nil, err
	}
	return in.buf[:in.n], err
}

func (in *intake) take() {
	if in.buf == nil {
		in.buf = netBuffers.Get().(*netBuffer)
	}
}

// room is what may be read into.
func (in *intake) room() []byte {
	if in.most == 0 {
		return in.buf[in.n:]
	}
	return in.buf[in.n:min(in.most, len(in.buf))]
}

// release gives the buffer back.
func (in *intake) release() {
	if in.buf != nil {
		netBuffers.Put(in.buf)
	}
	in.buf, in.n = nil, 0
}

// readRaw reads from a socket as soon as there is something.
func (in *intake) readRaw() error {
	if err := in.raw.Read(in.try); err != nil {
		return err
	}
	return endAfter(in.n, in.err)
}

// tryRead tells whether there was something, or an error.
func (in *intake) tryRead(fd uintptr) bool {
	in.take()
	if in.n, in.err = readFD(fd, in.room()); errors.Is(in.err, syscall.EAGAIN) {
		in.release()
		return false
	}
	return true
}

// endAfter is the error for a read of n bytes: none of them are the end of the stream.
func endAfter(n int, err error) error {
	if n > 0 || err != nil {
		return err
	}
	return io.EOF
}

// readSecure takes all records that are there, as many as fit, or waits for one.
func (in *intake) readSecure() error {
	for {
		in.take()
		for len(in.room()) > 0 {
			n, err := in.conn.Read(in.room())
			in.n += n
			if err == nil {
				continue
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			break
		}
		if in.n > 0 {
			return nil
		}
		in.release()
		if err := in.wire.await(); errors.Is(err, os.ErrDeadlineExceeded) {
			return err // one that was set
		}
	}
}

// wireOf returns what a TLS connection runs over, nil for another one.
func wireOf(conn net.Conn) *wire {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	w, _ := secure.NetConn().(*wire)
	return w
}

// writeTo writes to one side of a connection.
func writeTo(conn net.Conn, data []byte) (int, error) {
	if w := wireOf(conn); w != nil {
		return w.writeSecure(conn, data)
	}
	return conn.Write(data)
}
