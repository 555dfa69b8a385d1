//go:build linux

package main

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// probe makes one connection, or flow of datagrams, and waits until something has come through it: a
// listener alone may have nobody behind it yet.
func probe(target netip.AddrPort, mode backendMode) error {
	kind := unix.SOCK_STREAM
	if mode == packet {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	patience := unix.Timeval{Sec: 1}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return err
	}
	if err := unix.Connect(fd, sockaddr(target)); err != nil {
		return fmt.Errorf("connect to %s: %w", target, err)
	}
	if mode == echo || mode == packet {
		if _, err := unix.Write(fd, make([]byte, messageSize)); err != nil {
			return err
		}
	}
	if n, err := unix.Read(fd, make([]byte, messageSize)); n <= 0 {
		return fmt.Errorf("read from %s: %w", target, closedOr(err))
	}
	return nil
}

// closedOr is err, or what the end of a stream means here.
func closedOr(err error) error {
	if err == nil {
		return errClosed
	}
	return err
}
