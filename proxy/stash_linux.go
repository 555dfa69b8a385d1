package proxy

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// stash is what was read from one side and not taken by the other: in a buffer,
// or in a pipe that splice filled. A way has one only while it is blocked.
type stash struct {
	buf  []byte // all of it goes back to the pool
	from int    // the bytes are buf[from:to]
	to   int
	pipe *pipe // instead of buf; holds to bytes
}

// size returns how many bytes there are; a nil stash has none.
func (s *stash) size() int {
	if s == nil {
		return 0
	}
	return s.to - s.from
}

// pipe is a pipe that is empty whenever nobody holds it.
type pipe struct{ r, w int32 }

// Sizes and bounds of what a loop keeps at hand.
const (
	bufferSize   = 64 << 10
	pipeSize     = 256 << 10
	pipesMax     = 128 // in use by one loop at once; beyond them bytes are copied
	pipesSpare   = 16  // kept for the next
	buffersSpare = 16  // of each size
	smallSpare   = 128 // of the smallest, which connects under way hold for a moment
)

// bufferSizes are the sizes of buffers, so that a few bytes that a slow reader
// left do not cost 64 KiB.
var bufferSizes = [...]int{tasteSize, 4 << 10, 16 << 10, bufferSize}

// pool is a loop's store of buffers and pipes. Figures of what is in use are
// read by others.
type pool struct {
	buffers [len(bufferSizes)][][]byte
	stashes []*stash
	pipes   []*pipe

	heldBuffers atomic.Int64
	openPipes   atomic.Int64 // in use and spare
	usedPipes   atomic.Int64
}

func (p *pool) stash() *stash {
	if n := len(p.stashes); n > 0 {
		s := p.stashes[n-1]
		p.stashes = p.stashes[:n-1]
		return s
	}
	return new(stash)
}

// keep copies b into a stash.
func (p *pool) keep(b []byte) *stash {
	s := p.stash()
	s.buf = p.buffer(len(b))
	s.from, s.to = 0, copy(s.buf, b)
	return s
}

func (p *pool) buffer(size int) []byte {
	p.heldBuffers.Add(1)
	i := 0
	for bufferSizes[i] < size {
		i++
	}
	if n := len(p.buffers[i]); n > 0 {
		b := p.buffers[i][n-1]
		p.buffers[i] = p.buffers[i][:n-1]
		return b
	}
	return make([]byte, bufferSizes[i])
}

// release takes back a stash and its buffer; a pipe has been seen to.
func (p *pool) release(s *stash) {
	if s.buf != nil {
		p.heldBuffers.Add(-1)
		for i, size := range bufferSizes {
			spare := buffersSpare
			if i == 0 {
				spare = smallSpare
			}
			if len(s.buf) == size && len(p.buffers[i]) < spare {
				p.buffers[i] = append(p.buffers[i], s.buf)
			}
		}
	}
	*s = stash{}
	if len(p.stashes) < smallSpare+4*buffersSpare {
		p.stashes = append(p.stashes, s)
	}
}

// pipe returns an empty pipe, or nil if there is none to be had.
func (l *loop) pipe() *pipe {
	p := &l.pool
	if n := len(p.pipes); n > 0 {
		pi := p.pipes[n-1]
		p.pipes = p.pipes[:n-1]
		p.usedPipes.Add(1)
		return pi
	}
	if p.openPipes.Load() >= pipesMax || !l.engine.take(2) {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		l.engine.give(2)
		return nil
	}
	// Refused beyond the user's share of pipe memory; a small one does too.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	p.openPipes.Add(1)
	p.usedPipes.Add(1)
	return &pipe{r: int32(fds[0]), w: int32(fds[1])}
}

// putPipe takes back a pipe. One that is not empty can not be used again.
func (l *loop) putPipe(pi *pipe, empty bool) {
	p := &l.pool
	p.usedPipes.Add(-1)
	if empty && len(p.pipes) < pipesSpare && l.engine.filesLeft() > 0 {
		p.pipes = append(p.pipes, pi)
		return
	}
	l.closePipe(pi)
}

func (l *loop) closePipe(pi *pipe) {
	closeFD(pi.r)
	closeFD(pi.w)
	l.pool.openPipes.Add(-1)
	l.engine.give(2)
}

// drop forgets what a half holds.
func (l *loop) drop(h *half) {
	if h.held.pipe != nil {
		l.putPipe(h.held.pipe, false)
	}
	l.pool.release(h.held)
	h.held = nil
}
