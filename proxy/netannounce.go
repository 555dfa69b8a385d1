package proxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// hear reads the header that a connection has to begin with, if it has to. False: it
// did not come, and the client is sent away.
func (c *netConn) hear(ctx context.Context) bool {
	f := c.front
	if !f.expects(c.client) {
		return true
	}
	if !f.waits() {
		f.spurned[spurnedHeaderCrowd].Add(1)
		c.blame(HeaderCrowded)
		return false
	}
	e, rest, err := readHeader(c.bare)
	f.unheard.Add(-1)
	if err != nil {
		why := spurnedHeader
		if timedOut(err) {
			why = spurnedHeaderTime
		}
		f.spurned[why].Add(1)
		c.blame(why.cause())
		if c.engine.debug() {
			c.engine.log.LogAttrs(ctx, slog.LevelDebug, "no header",
				slog.String("service", f.name), slog.Int("slot", c.slot), slog.Any("client", c.client), slog.Any("err", err))
		}
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.known() {
		c.ends, c.client = e, e.client.Addr()
	}
	if len(rest) > 0 {
		c.side[ofClient] = &aheadConn{Conn: c.bare, ahead: rest}
	}
	return true
}

// readHeader reads the header of a connection, and maybe some of what follows it.
func readHeader(conn net.Conn) (e ends, rest []byte, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(headerTime)); err != nil {
		return e, nil, err
	}
	b := make([]byte, 0, tasteRoom)
	for {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, headerMost+tasteRoom), b...)
		}
		n, err := conn.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if e, size, bad := parseHeader(b); bad != nil {
			return e, nil, bad
		} else if size > 0 {
			return e, b[size:], conn.SetReadDeadline(time.Time{})
		}
		if err != nil {
			return e, nil, err
		}
	}
}

// tasteRoom is as much as most headers need, with what follows.
const tasteRoom = 1 << 10

// aheadConn is a connection of which some bytes have been read already.
type aheadConn struct {
	net.Conn
	ahead []byte
}

// Read returns first what was read before.
func (c *aheadConn) Read(b []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// CloseWrite ends the stream, if it is one that can be ended alone.
func (c *aheadConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// announce tells the server that was connected to for whom that was. An error shows
// again with the client's first byte.
func (c *netConn) announce(server net.Conn) {
	f := c.front
	if c.datagrams || !f.announces() {
		return
	}
	e := c.ends
	if !e.known() {
		e = ends{endOf(c.bare.RemoteAddr()), endOf(c.bare.LocalAddr())}
	}
	var fields []byte
	if secure, ok := c.side[ofClient].(*tls.Conn); ok {
		s := secure.ConnectionState()
		fields = tlsFields(&s)
	}
	_, _ = server.Write(f.announce(nil, e, fields))
}

// endOf is the address of one end of a connection; invalid for a Unix socket.
func endOf(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
