package proxy

import (
	"bytes"
	"errors"
	"io"
)

// requests is the way of a client's requests: each head is rewritten, and bodies
// pass as they are. Requests of a client that does not wait for answers go out
// together, as they have come.
type requests struct {
	src     source
	dst     io.Writer
	forward forwarder

	// hurry is called when a head is waited for, and what it returns when that is over.
	// nil: there is no hurry.
	hurry func() (over func() fault)
	// expect is told of each request before it goes out. It waits while too many are
	// not answered, after those before it have gone out with flush.
	expect func(r request, flush func() error) error
	// note is told of each head as it goes out. nil: nobody is.
	note func(head []byte)
	// settled waits for the answer to a request that offers another protocol, and tells
	// whether that is spoken now.
	settled func() bool

	in    []byte // what was read and has yet to be looked at
	room  []byte // where it lies
	out   []byte // what has yet to be sent
	begun int    // where the last head lies in out
	part  bool   // a request is on its way, and its end is not
}

// source is where requests come from. What read gives, which is no more than most bytes,
// is good until release. There may be some beside an error, which comes again.
type source interface {
	read(most int) ([]byte, error)
	release()
}

const (
	restingSize = 4 << 10   // what a connection may keep between two requests
	chunkLine   = 4 << 10   // the most for the line before a chunk
	chunkMost   = 1<<31 - 1 // a larger one has more than one size, depending on who reads it
)

// errSwitched ends the requests of a connection that carries something else now.
var errSwitched = errors.New("another protocol is spoken")

// run passes requests on. It begins with what a call of head has left.
func (q *requests) run(r request) error {
	q.noted()
	for {
		if err := q.body(r); err != nil {
			return err
		}
		q.part = false
		if r.upgrade || r.method == connectMethod {
			if err := q.flush(); err != nil {
				return err
			}
			if q.settled() {
				return q.rest()
			}
		}
		var err error
		if r, err = q.head(false); err != nil {
			return err
		}
		q.noted()
		if err := q.expect(r, q.flush); err != nil {
			return err
		}
	}
}

// noted tells of the head that was read last.
func (q *requests) noted() {
	if q.note != nil {
		q.note(q.out[q.begun:])
	}
}

// rest sends what was read already of another protocol.
func (q *requests) rest() error {
	q.send(len(q.in))
	if err := q.flush(); err != nil {
		return err
	}
	return errSwitched
}

// head reads the next head and puts what becomes of it to what is sent next. An end
// of the stream is one wherever it comes: what there is of a head then goes nowhere.
// first: the client has sent nothing before.
func (q *requests) head(first bool) (request, error) {
	n, err := q.await(first)
	if err != nil {
		return request{}, err
	}
	out, r, f := q.forward.rewrite(q.out, q.in[:n])
	if f != faultNone {
		return r, f
	}
	q.begun, q.out = len(q.out), out
	q.in = q.in[n:]
	q.part = true
	return r, nil
}

// await returns how long the next head is, once it is there.
func (q *requests) await(first bool) (n int, err error) {
	var scan headScan
	var over func() fault
	defer func() {
		if over != nil {
			if f := over(); f != faultNone {
				err = f
			}
		}
	}()
	for {
		if scan.at == 0 {
			q.skipLineEnds()
		}
		n, f := scan.find(q.in)
		if n > 0 || f != faultNone {
			return n, asError(f)
		}
		if over == nil && q.hurry != nil && (first || len(q.in) > 0) {
			over = q.hurry()
		}
		if err := q.fill(); err != nil {
			return 0, err
		}
	}
}

// skipLineEnds leaves out empty lines before a request, as RFC 9112, 2.2 asks for the
// sake of old clients.
func (q *requests) skipLineEnds() {
	for bytes.HasPrefix(q.in, crlf) {
		q.in = q.in[len(crlf):]
	}
}

func asError(f fault) error {
	if f == faultNone {
		return nil
	}
	return f
}

// body passes on what follows a head.
func (q *requests) body(r request) error {
	if !r.chunked {
		return q.carry(r.length)
	}
	for {
		size, err := q.chunk()
		if err != nil {
			return err
		}
		if size == 0 {
			return q.trailer()
		}
		if err := q.carry(size); err != nil {
			return err
		}
		for len(q.in) < len(crlf) {
			if err := q.fill(); err != nil {
				return err
			}
		}
		if !bytes.HasPrefix(q.in, crlf) {
			return faultChunk
		}
		q.send(len(crlf))
	}
}

// chunk passes on the line before a chunk, and returns the size of that.
func (q *requests) chunk() (int64, error) {
	for {
		b := q.in
		if i := bytes.IndexByte(b, '\n'); i >= 0 && i < chunkLine {
			size, ok := sizeOfChunk(b[:i])
			if !ok {
				return 0, faultChunk
			}
			q.send(i + 1)
			return size, nil
		}
		if len(b) >= chunkLine {
			return 0, faultChunk
		}
		if err := q.fill(); err != nil {
			return 0, err
		}
	}
}

// sizeOfChunk reads the line before a chunk, up to its LF: hexadecimal digits, and
// maybe extensions.
func sizeOfChunk(line []byte) (int64, bool) {
	line, ok := bytes.CutSuffix(line, []byte("\r"))
	if !ok {
		return 0, false
	}
	digits, extension, extended := bytes.Cut(line, []byte(";"))
	if extended {
		digits = bytes.TrimRight(digits, " \t")
	}
	if len(digits) == 0 || len(digits) > 16 {
		return 0, false
	}
	size := int64(0)
	for _, c := range digits {
		d, ok := hexDigit(c)
		if !ok {
			return 0, false
		}
		if size = size<<4 | d; size > chunkMost {
			return 0, false
		}
	}
	return size, !bytes.ContainsFunc(extension, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

func hexDigit(c byte) (int64, bool) {
	switch c = lower(c); {
	case '0' <= c && c <= '9':
		return int64(c - '0'), true
	case 'a' <= c && c <= 'f':
		return int64(c-'a') + 10, true
	}
	return 0, false
}

// trailer passes on what follows the last chunk.
func (q *requests) trailer() error {
	var scan headScan
	for {
		n, f := scan.find(q.in)
		if f == faultNone && n > 0 {
			f = trailer(q.in[:n])
		}
		if f != faultNone {
			return f
		}
		if n > 0 {
			q.send(n)
			return nil
		}
		if err := q.fill(); err != nil {
			return err
		}
	}
}

// send puts n bytes of what was read to what is sent next.
func (q *requests) send(n int) {
	q.out = append(q.out, q.in[:n]...)
	q.in = q.in[n:]
}

// carry passes on n bytes. What was read already goes out with what is before it;
// the rest through a buffer that the connection does not keep.
func (q *requests) carry(n int64) error {
	here := min(n, int64(len(q.in)))
	q.send(int(here))
	if n -= here; n == 0 {
		return nil
	}
	if err := q.flush(); err != nil {
		return err
	}
	defer q.src.release()
	for n > 0 {
		data, err := q.src.read(int(min(n, int64(len(netBuffer{})))))
		n -= int64(len(data))
		if _, unsent := q.dst.Write(data); unsent != nil {
			return writeError{unsent}
		}
		q.src.release()
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// fill reads more, after what there is to send has been sent.
func (q *requests) fill() error {
	if err := q.flush(); err != nil {
		return err
	}
	data, err := q.src.read(restingSize)
	defer q.src.release()
	if len(q.in) == 0 && cap(q.room) > restingSize {
		q.room = nil // it was for a large head
	}
	q.room = append(append(q.room[:0], q.in...), data...)
	q.in = q.room
	if len(data) > 0 {
		return nil // an error comes again
	}
	return err
}

// flush sends what there is to send, if there is somebody to send it to.
func (q *requests) flush() error {
	if len(q.out) == 0 || q.dst == nil {
		return nil
	}
	_, err := q.dst.Write(q.out)
	if q.out = q.out[:0]; cap(q.out) > 2*restingSize {
		q.out = nil
	}
	if err != nil {
		return writeError{err}
	}
	return nil
}

// writeError is an error of the server's side.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }
