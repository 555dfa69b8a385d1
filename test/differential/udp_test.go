//go:build linux

package differential

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// answerers starts servers that answer datagrams with their name and what came.
func (x *session) answerers(args string) (string, error) {
	for _, name := range strings.Fields(args) {
		c, err := net.ListenPacket("udp", x.backendAddr(name))
		if err != nil {
			return "", err
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			b := make([]byte, 1<<16)
			for {
				n, from, err := c.ReadFrom(b)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					_, _ = c.WriteTo(fmt.Appendf(nil, "%s %s", name, b[:n]), from)
				}
			}
		})
		x.deafen[name] = sync.OnceFunc(func() { c.Close(); wg.Wait() })
		x.t.Cleanup(x.deafen[name])
	}
	return "", nil
}

// deaf closes their ports.
func (x *session) deaf(args string) (string, error) {
	for _, name := range strings.Fields(args) {
		x.deafen[name]()
	}
	return "", nil
}

// ask sends a datagram from each client, and tells who answered it. A socket takes
// replies only from where it has sent to. One with a fixed port stays open: the
// original ends a flow whose client can not be reached.
func (x *session) ask(args string) (string, error) {
	var names []string
	for _, client := range strings.Fields(args) {
		client, text, said := strings.Cut(client, "=")
		if !said {
			text = "hi"
		}
		name, err := x.askOne(source(client), text)
		if err != nil {
			return "", err
		}
		names = append(names, name)
	}
	return strings.Join(names, " ") + "\n", nil
}

func (x *session) askOne(from, text string) (string, error) {
	c := x.callers[from]
	if c == nil {
		local, err := net.ResolveUDPAddr("udp", from)
		if err != nil {
			return "", err
		}
		d := net.Dialer{LocalAddr: local, Control: shared} // with the session of the other side
		if c, err = d.Dial("udp", x.block.Listen()); err != nil {
			return "", err
		}
		x.t.Cleanup(func() { c.Close() })
		if local.Port != 0 {
			x.callers[from] = c
		}
	}
	for range 3 { // the original loses some
		if _, err := c.Write([]byte(text)); err != nil {
			return "", err
		}
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		b := make([]byte, 1<<16)
		n, err := c.Read(b)
		for n == 0 && err == nil { // the original sends an empty one of its own before the first reply
			n, err = c.Read(b)
		}
		if err == nil {
			name, _, _ := strings.Cut(string(b[:n]), " ")
			return name, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return "", fate(err)
		}
	}
	return "nothing", nil
}

// shared lets two sockets have an address, as long as they talk to different ones.
func shared(_, _ string, c syscall.RawConn) (err error) {
	return errors.Join(c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}), err)
}
