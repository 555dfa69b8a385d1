//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance, level-triggered. What is registered is known by
// a small number of the caller's choice.
type poller struct {
	fd     int
	events [256]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &poller{fd: fd}, nil
}

func (p *poller) close() { unix.Close(p.fd) }

func (p *poller) add(fd int, id int32, events uint32) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, id, events)
}

func (p *poller) change(fd int, id int32, events uint32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, id, events)
}

func (p *poller) control(op, fd int, id int32, events uint32) error {
	return unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: events, Fd: id})
}

// wait returns what is ready, nothing after the timeout or an interruption.
// The slice is good until the next call.
func (p *poller) wait(timeout time.Duration) ([]unix.EpollEvent, error) {
	ms := max(0, (timeout+time.Millisecond-1)/time.Millisecond)
	n, err := unix.EpollWait(p.fd, p.events[:], int(ms))
	if errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("epoll_wait: %w", err)
	}
	return p.events[:n], nil
}

func sockaddr(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// socket makes a socket for IPv4 that does not block, of SOCK_STREAM or SOCK_DGRAM.
func socket(kind int) (int, error) {
	return unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// accept takes one connection and does not ask where it comes from. A negative
// descriptor means that there was none.
func accept(listener int) int {
	fd, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0,
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1
	}
	return int(fd)
}

// discard reads up to a megabyte without copying it anywhere, so that the
// receiving end costs less than any proxy.
func discard(fd int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 1<<20, unix.MSG_TRUNC, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// again tells whether a call only came too early.
func again(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
}
