//go:build linux

package main

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// pageRequest is what clients of HTTP send, over and over on one connection: about what
// a program sends, with a head of its own that a proxy has to take out.
const pageRequest = "GET /index.html HTTP/1.1\r\nHost: www.example.test\r\nUser-Agent: bench/1.0\r\nAccept: text/html,*/*\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"

// newMessage is what goes to and fro.
func newMessage() (message [messageSize]byte) {
	for i := range message {
		message[i] = byte('!' + i)
	}
	return message
}

var pageAnswer = func() []byte {
	message := newMessage()
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", messageSize, message[:])
}()

// page answers a request, which has no body. A proxy sends a small head in one piece: what
// ends otherwise is the beginning of one.
func (b *backend) page(fd int) bool {
	n, err := unix.Read(fd, b.buffer)
	if n <= 0 {
		return again(err)
	}
	if !bytes.HasSuffix(b.buffer[:n], []byte("\r\n\r\n")) {
		return true
	}
	sent, _ := unix.Write(fd, pageAnswer)
	return sent == len(pageAnswer)
}
