//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bulkBuffer is written at once by whoever sends in bulk. It stays in the cache.
const bulkBuffer = 128 << 10

// backend is the server behind the proxies: one loop that does as little as it
// can for each connection.
type backend struct {
	mode      backendMode
	poll      *poller
	listeners []int
	buffer    []byte
}

// newBackend listens; nothing is accepted before run.
func newBackend(job backendJob) (*backend, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	b := &backend{mode: job.Mode, poll: poll, buffer: make([]byte, bulkBuffer)}
	for _, addr := range job.Listen {
		if err := b.listen(addr); err != nil {
			b.close()
			return nil, fmt.Errorf("backend: listen on %s: %w", addr, err)
		}
	}
	return b, nil
}

func (b *backend) listen(addr netip.AddrPort) error {
	kind := unix.SOCK_STREAM
	if b.mode == packet {
		kind = unix.SOCK_DGRAM
	}
	fd, err := socket(kind)
	if err != nil {
		return err
	}
	b.listeners = append(b.listeners, fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr(addr)); err != nil {
		return err
	}
	if b.mode == packet {
		return b.poll.add(fd, int32(fd), unix.EPOLLIN)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return err
	}
	// A listener is known by a negative number, a connection by its descriptor.
	return b.poll.add(fd, int32(-fd), unix.EPOLLIN)
}

func (b *backend) close() {
	for _, fd := range b.listeners {
		unix.Close(fd)
	}
	b.poll.close()
}

// run serves until ctx ends. Connections that are open then are left to the
// end of the process.
func (b *backend) run(ctx context.Context) error {
	defer b.close()
	for ctx.Err() == nil {
		events, err := b.poll.wait(100 * time.Millisecond)
		if err != nil {
			return err
		}
		for _, ev := range events {
			if ev.Fd < 0 {
				b.accept(int(-ev.Fd))
			} else if !b.serve(int(ev.Fd)) {
				unix.Close(int(ev.Fd))
			}
		}
	}
	return nil
}

func (b *backend) accept(listener int) {
	wanted := uint32(unix.EPOLLIN)
	if b.mode == source {
		wanted = unix.EPOLLOUT
	}
	for fd := accept(listener); fd >= 0; fd = accept(listener) {
		if b.mode == sink && !greet(fd) || b.poll.add(fd, int32(fd), wanted) != nil {
			unix.Close(fd)
		}
	}
}

// greet sends one byte, by which a probe knows that it came through. Who sends in
// bulk leaves it unread.
func greet(fd int) bool {
	n, _ := unix.Write(fd, []byte{'!'})
	return n == 1
}

// serve does one step for a connection and tells whether to keep it.
func (b *backend) serve(fd int) bool {
	switch b.mode {
	case source:
		_, err := unix.Write(fd, b.buffer)
		return err == nil || again(err)
	case sink:
		n, err := discard(fd)
		return n > 0 || again(err)
	case packet:
		bounce(fd, b.buffer)
		return true
	case pages:
		return b.page(fd)
	default:
		return b.echo(fd)
	}
}

// bounce sends back a datagram. What goes wrong is a loss, as in a network.
func bounce(fd int, buffer []byte) {
	var from unix.RawSockaddrInet4
	size := uint32(unix.SizeofSockaddrInet4)
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)),
		0, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
	if errno == 0 {
		_, _, _ = unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&buffer[0])), n,
			0, uintptr(unsafe.Pointer(&from)), uintptr(size))
	}
}

// echo relies on messages that fit the socket's buffer: what cannot be sent at
// once ends the connection, and the load generator counts a failure.
func (b *backend) echo(fd int) bool {
	n, err := unix.Read(fd, b.buffer)
	if n <= 0 {
		return again(err)
	}
	sent, _ := unix.Write(fd, b.buffer[:n])
	return sent == n
}
