//go:build linux

package main

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

var (
	errClosed  = errors.New("closed by the proxy")
	errGarbled = errors.New("not the bytes that were sent")
)

// serve does one step for connection i, which is ready for what it waits for.
func (l *load) serve(i int) {
	switch c := &l.conns[i]; {
	case l.job.Mode == receive:
		n, err := discard(c.fd)
		l.transferred(i, n, err)
	case l.job.Mode == send:
		n, err := unix.Write(c.fd, l.bulk)
		l.transferred(i, n, err)
	case !c.asked:
		l.askLate(i)
	default:
		l.hear(i)
	}
}

func (l *load) transferred(i, n int, err error) {
	switch {
	case n > 0:
		l.done.Bytes += uint64(n)
	case err == nil:
		l.fail(i, errClosed)
	case !again(err):
		l.fail(i, err)
	}
}

// ask sends the message and tells whether it went.
func (l *load) ask(c *conn) bool {
	n, err := unix.Write(c.fd, l.request)
	return err == nil && n == len(l.request)
}

// askLate sends the message on a connection that was not there at once.
func (l *load) askLate(i int) {
	c := &l.conns[i]
	if c.asked = l.ask(c); !c.asked {
		l.fail(i, errClosed)
		return
	}
	if err := l.poll.change(c.fd, int32(i), unix.EPOLLIN); err != nil {
		l.fail(i, err)
	}
}

// longest is how many bytes an answer may have. Its last ones are the message.
func (l *load) longest() int {
	if l.job.Mode == requests {
		return answerMost
	}
	return messageSize
}

// hear takes a part of the answer, usually all of it.
func (l *load) hear(i int) {
	c := &l.conns[i]
	n, err := unix.Read(c.fd, c.answer[c.got:l.longest()])
	switch {
	case n > 0:
		c.got += n
	case err != nil && again(err):
		return
	case err != nil:
		l.fail(i, err)
		return
	default:
		l.fail(i, errClosed)
		return
	}
	switch {
	case c.got >= messageSize && [messageSize]byte(c.answer[c.got-messageSize:]) == l.message:
		l.answered(i)
	case c.got == l.longest():
		l.fail(i, errGarbled)
	}
}

// answered counts a round trip and begins the next.
func (l *load) answered(i int) {
	c := &l.conns[i]
	now := time.Now()
	l.latency.add(now.Sub(c.started))
	l.done.Ops++
	if l.job.Limit > 0 && l.done.Ops >= l.job.Limit {
		l.ended = true
		return
	}
	switch l.job.Mode {
	case connects:
		unix.Close(c.fd)
		l.open(i)
	case roundTrip, datagrams, requests:
		c.started, c.got = now, 0
		if !l.ask(c) {
			l.fail(i, errClosed)
		}
	case hold:
		l.opening()
	}
}

// opening starts one more connection to hold, if there are any left.
func (l *load) opening() {
	if l.opened < len(l.conns) {
		l.opened++
		l.open(l.opened - 1)
	}
}

// fail counts a failure and puts a new connection in the place of the old one.
// The new one waits for its turn in the loop: a proxy that refuses everything
// must not make the stack grow.
func (l *load) fail(i int, err error) {
	if l.done.Failures == 0 {
		l.done.First = err.Error()
	}
	l.done.Failures++
	if fd := l.conns[i].fd; fd >= 0 {
		unix.Close(fd)
		l.conns[i].fd = -1
	}
	l.broken = append(l.broken, i)
}
