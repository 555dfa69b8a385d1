//go:build linux

package lab

import (
	"net"
	"time"
)

// StrangerMAC is the link address of the machine in whose name Claim speaks.
var StrangerMAC = hardware(0, foreignHost)

// Connect makes a TCP connection from the clients' machine.
func (l *Lab) Connect(addr string, patience time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: patience}
	err = l.clients.do(func() error {
		c, err = d.Dial("tcp", addr)
		return err
	})
	return c, err
}
