//go:build linux

package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// probe makes one connection, or flow of datagrams, and waits until something has come through it: a
// listener alone may have nobody behind it yet.
func probe(target netip.AddrPort, mode backendMode, secure bool) error {
	if secure {
		return probeTLS(target)
	}
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
	question := make([]byte, messageSize)
	switch mode {
	case pages:
		question = []byte(pageRequest)
		fallthrough
	case echo, packet:
		if _, err := unix.Write(fd, question); err != nil {
			return err
		}
	}
	if n, err := unix.Read(fd, make([]byte, messageSize)); n <= 0 {
		return fmt.Errorf("read from %s: %w", target, closedOr(err))
	}
	return nil
}

// probeTLS shakes hands. The server is connected to afterwards; that is not waited for.
func probeTLS(target netip.AddrPort) error {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := d.Dial("tcp", target.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// closedOr is err, or what the end of a stream means here.
func closedOr(err error) error {
	if err == nil {
		return errClosed
	}
	return err
}
