//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// open begins connection i. The message follows at once where the connection is
// already there, which on loopback it is.
func (l *load) open(i int) {
	c := &l.conns[i]
	*c = conn{fd: -1, started: time.Now()}
	if err := l.connect(c); err != nil {
		l.fail(i, err)
		return
	}
	wanted := uint32(unix.EPOLLIN)
	switch l.job.Mode {
	case receive:
	case send:
		wanted = unix.EPOLLOUT
	default:
		if c.asked = l.ask(c); !c.asked {
			wanted = unix.EPOLLOUT
		}
	}
	if err := l.poll.add(c.fd, int32(i), wanted); err != nil {
		l.fail(i, err)
	}
}

func (l *load) connect(c *conn) (err error) {
	kind := unix.SOCK_STREAM
	if l.job.Mode == datagrams {
		kind = unix.SOCK_DGRAM
	}
	if c.fd, err = socket(kind); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if l.job.Clients > 0 {
		// The port is chosen by connect, when the whole pair is known: many more
		// connections fit than with a choice by bind.
		if err := unix.SetsockoptInt(c.fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
		l.from.Addr = l.client()
		if err := unix.Bind(c.fd, &l.from); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
	}
	if err := unix.Connect(c.fd, l.target); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// client is the source address of the next connection.
func (l *load) client() [4]byte {
	if l.job.Random {
		return clientAddr(l.job.FirstClient, l.random.Uint32N(uint32(l.job.Clients))).As4()
	}
	n := l.next
	l.next = (l.next + 1) % uint32(l.job.Clients)
	return clientAddr(l.job.FirstClient, n).As4()
}

// clientAddr counts n addresses up from first.
func clientAddr(first netip.Addr, n uint32) netip.Addr {
	a := first.As4()
	v := n + (uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3]))
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}
