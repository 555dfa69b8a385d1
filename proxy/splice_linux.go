package proxy

import "golang.org/x/sys/unix"

// tooLittle is what a splice has to move so that it is worth its second call.
const tooLittle = 8 << 10

// splice moves what there is through a pipe, without the bytes being touched.
// It returns how much that was. When it was little, or can not be done, reading
// goes back to copying.
func (l *loop) splice(c *conn, src, dst *half) int {
	p := l.pipe()
	if p == nil {
		src.flags &^= bulk
		return l.copy(c, src, dst)
	}
	n, err := splice(src.fd, p.w, pipeSize)
	if n <= 0 {
		l.putPipe(p, true)
		if err == unix.EINVAL {
			src.flags &^= bulk
			src.flags |= copying
			return 0
		}
		src.stop(n, err)
		return 0
	}
	src.read += uint64(n)
	c.active = l.tick
	if n < tooLittle {
		src.flags &^= bulk
	}
	s := l.pool.stash()
	s.pipe, s.to = p, n
	src.held = s
	l.flush(c, src, dst)
	return n
}
