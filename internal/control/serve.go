package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"time"
)

// serve has one conversation: line, reply, close.
func (s *Server) serve(ctx context.Context, p *place, from Peer) {
	defer s.places.leave(p)
	defer p.conn.Close()
	line, err := readLine(p.conn)
	if !s.places.keep(p) {
		return
	}
	switch {
	case errors.Is(err, errSilent):
		s.counters.silent.Add(1)
		return
	case errors.Is(err, errLong):
		s.counters.long.Add(1)
		s.refuse(p.conn, err)
	case errors.Is(err, errUnfinished):
		s.counters.unfinished.Add(1)
		s.refuse(p.conn, err)
	case err != nil:
		s.counters.broken.Add(1)
		return
	case line != "":
		s.counters.commands.Add(1)
		s.answer(ctx, p.conn, from, line)
	}
	s.places.release(p)
	drain(p.conn)
}

// answer runs the handler and sends what it writes.
func (s *Server) answer(ctx context.Context, c net.Conn, from Peer, line string) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	out := bufio.NewWriterSize(&writer{conn: c, broken: cancel}, pieceSize)
	s.handle(ctx, from, line, out)
	if err := out.Flush(); errors.Is(err, os.ErrDeadlineExceeded) {
		s.counters.slow.Add(1)
	}
}

// handle keeps a mistake in a handler from ending the process: traffic goes on
// while somebody reads the log.
func (s *Server) handle(ctx context.Context, from Peer, line string, w io.Writer) {
	defer func() {
		if r := recover(); r != nil {
			s.counters.panics.Add(1)
			s.log.Error("control command panicked", "client", from, "command", line, "err", r, "stack", string(debug.Stack()))
			fmt.Fprintf(w, "%sthe command failed inside pen; the log tells more\n", Refusal)
		}
	}()
	s.handler(ctx, from, line, w)
}

// refuse sends an error without ever waiting for the peer: the buffer of its
// socket is still empty.
func (s *Server) refuse(c net.Conn, why error) {
	c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	fmt.Fprintf(c, "%s%v\n", Refusal, why)
}

// writer sends in pieces, each of which has its time: a long reply may take
// long, but only while the peer takes it.
type writer struct {
	conn   net.Conn
	broken func() // called when the peer takes no more
}

func (w *writer) Write(b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		piece := b[sent:min(sent+pieceSize, len(b))]
		w.conn.SetWriteDeadline(time.Now().Add(pieceTime))
		n, err := w.conn.Write(piece)
		sent += n
		if err != nil {
			w.broken()
			return sent, err
		}
	}
	return sent, nil
}

// drain ends the reply and waits a little for the peer to close. Closing while
// something unread is left, such as further lines, would send a reset, and that
// may overtake the reply and destroy it.
func drain(c stream) {
	if c.CloseWrite() != nil {
		return
	}
	c.SetReadDeadline(time.Now().Add(drainTime))
	io.CopyN(io.Discard, onlyReader{c}, drainSize)
}

// onlyReader hides WriterTo, which would take no account of the limit of CopyN.
type onlyReader struct{ io.Reader }

// peerOf tells who is at the other end.
func peerOf(c net.Conn) Peer {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		a := t.AddrPort()
		return Peer{Addr: netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), UID: -1, PID: -1}
	}
	uid, pid := credentials(c)
	return Peer{UID: uid, PID: pid}
}
