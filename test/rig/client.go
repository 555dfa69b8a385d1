//go:build linux

package rig

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long a client waits for anything.
const Patience = 10 * time.Second

// Client is one connection through pen.
type Client struct {
	net.Conn
	in *bufio.Reader
}

// Dial connects to addr. A source address (with port 0 or a fixed one) says who
// the client is; the empty one leaves it to the kernel.
func Dial(source, addr string) (*Client, error) {
	d := net.Dialer{Timeout: Patience, Control: reuseAddr}
	if source != "" {
		a, err := net.ResolveTCPAddr("tcp", source)
		if err != nil {
			return nil, err
		}
		if a.Port == 0 {
			// Let connect choose the port: a port chosen by bind alone is
			// taken for all destinations.
			d.Control = NoPort
		}
		d.LocalAddr = a
	}
	network := "tcp"
	if strings.Contains(addr, "/") {
		network = "unix"
	}
	c, err := d.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(Patience))
	return &Client{Conn: c, in: bufio.NewReader(c)}, nil
}

// NoPort lets connect choose the port of a socket that is bound to an address
// only. It is the Control of a Dialer.
func NoPort(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}

// Say sends a line and returns the line that comes back.
func (c *Client) Say(line string) (string, error) {
	if _, err := fmt.Fprintf(c, "%s\n", line); err != nil {
		return "", err
	}
	return c.Line()
}

// Line returns the next line that comes.
func (c *Client) Line() (string, error) {
	answer, err := c.in.ReadString('\n')
	return strings.TrimSuffix(answer, "\n"), err
}

// Rest closes the sending side and returns all that still comes.
func (c *Client) Rest() (string, error) {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
	b, err := io.ReadAll(c.in)
	return string(b), err
}

// WaitEOF returns when the other side has closed or reset the connection.
func (c *Client) WaitEOF() error {
	_, err := io.Copy(io.Discard, c.in)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return err
	}
	return nil
}

// Fetch is one whole connection: a line sent, its answer, and the end. It
// returns the first word of the answer, the name of the backend.
func Fetch(source, addr string) (string, error) {
	c, err := Dial(source, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	answer, err := c.Say("hi")
	if err != nil {
		return "", err
	}
	if _, err := c.Rest(); err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(answer, " ")
	return name, nil
}

// Send sends raw bytes to a control port, in one write, and returns all that
// comes back.
func Send(addr, request string) (string, error) {
	c, err := Dial("", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// Ask sends one command to a control port and returns the reply.
func Ask(addr, command string) (string, error) { return Send(addr, command+"\n") }
