package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// wire is what a client's TLS runs over. During the handshake it takes turns with
// others. Then it reads what is there and does not wait for more, so that who waits
// need not hold a buffer; and it puts records together that are written at once.
type wire struct {
	net.Conn
	turns reckoning       // nil: the handshake is over
	raw   syscall.RawConn // nil: reads wait
	ended bool            // the end was read

	// What await has read: it needs some place for that anyway.
	stash [512]byte
	held  []byte // of it, not yet taken
	dry   bool   // the socket was empty when it was read last
	err   error  // comes when held has been taken

	// For a read of the socket: where to, whether to wait, and what came of it.
	buf   []byte
	waits bool
	got   int
	bad   error
	try   func(uintptr) bool

	mu     sync.Mutex // guards the rest: others may send a notice
	gather bool
	out    *[]byte
}

func newWire(conn net.Conn, turns reckoning) *wire {
	w := &wire{Conn: conn, turns: turns}
	w.try = w.tryRead
	return w
}

// Read reads. While the handshake waits for the client it is nobody's turn.
func (w *wire) Read(b []byte) (n int, err error) {
	switch {
	case w.turns != nil:
		w.turns.end()
		defer w.turns.begin()
		n, err = w.Conn.Read(b)
	case w.raw == nil:
		n, err = w.Conn.Read(b)
	default:
		n, err = w.readNow(b)
	}
	w.ended = w.ended || errors.Is(err, io.EOF)
	return n, err
}

// shaken ends the handshake.
func (w *wire) shaken() {
	w.turns = nil
	w.raw = rawOf(w.Conn)
}

// readNow reads what is there. Package tls goes on after an error that says that
// there is nothing at the moment, as after a deadline.
func (w *wire) readNow(b []byte) (int, error) {
	switch {
	case len(w.held) > 0:
		n := copy(b, w.held)
		w.held = w.held[n:]
		return n, nil
	case w.err != nil:
		return 0, w.err
	case w.dry:
		return 0, os.ErrDeadlineExceeded
	}
	n, err := w.readSocket(b, false)
	if errors.Is(err, syscall.EAGAIN) {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

// await returns when there is something to read, or an error, which a read gives
// as well.
func (w *wire) await() error {
	n, err := w.readSocket(w.stash[:], true)
	w.held, w.err = w.stash[:n], err
	return err
}

// readSocket reads from the socket.
func (w *wire) readSocket(b []byte, wait bool) (int, error) {
	w.buf, w.waits = b, wait
	err := w.raw.Read(w.try)
	w.buf = nil
	if err != nil {
		return 0, err
	}
	w.dry = w.got < len(b) // what comes after that is waited for
	return w.got, endAfter(w.got, w.bad)
}

func (w *wire) tryRead(fd uintptr) bool {
	w.got, w.bad = readFD(fd, w.buf)
	return !errors.Is(w.bad, syscall.EAGAIN) || !w.waits
}

// gathered is a few records: what is read at once, and what TLS adds.
const gathered = len(netBuffer{}) + 4<<10

var gatherBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, gathered)
	return &b
}}

// Write writes, or keeps what is to be written together.
func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.gather {
		return w.Conn.Write(b)
	}
	*w.out = append(*w.out, b...)
	return len(b), nil
}

// oneRecord is how much package tls surely puts into one record: those at the
// beginning of a stream are small.
const oneRecord = 1 << 10

// writeSecure writes to a client with one call what may be several records.
func (w *wire) writeSecure(conn net.Conn, data []byte) (int, error) {
	if len(data) <= oneRecord {
		return conn.Write(data)
	}
	w.mu.Lock()
	w.gather, w.out = true, gatherBuffers.Get().(*[]byte)
	w.mu.Unlock()
	n, err := conn.Write(data)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, bad := w.Conn.Write(*w.out); bad != nil {
		n, err = 0, bad
	}
	*w.out = (*w.out)[:0]
	gatherBuffers.Put(w.out)
	w.gather, w.out = false, nil
	return n, err
}
