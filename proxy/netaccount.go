package proxy

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"time"
)

// netAccount is the account of a connection that goroutines serve.
type netAccount struct {
	account // of whoever serves the connection
	told    bool
	first   atomic.Int64  // when the server's first byte came, in nanoseconds since origin; 0: not yet
	why     atomic.Uint32 // the Cause that was named first
	over    atomic.Int32  // which stream ended first, 1 more than its side; 0: none
}

// blame notes why c is about to end. What is named first counts: the rest is its
// consequence.
func (c *netConn) blame(why Cause) { c.account.why.CompareAndSwap(uint32(causeUnsaid), uint32(why)) }

// lostSide blames who broke a stream off.
func (c *netConn) lostSide(side int) {
	if side == ofServer {
		c.blame(ServerReset)
	} else {
		c.blame(ClientReset)
	}
}

// cause is why c has ended. It is for who serves c.
func (c *netConn) cause() Cause {
	a := &c.account
	switch why := Cause(a.why.Load()); {
	case why != causeUnsaid:
		return why
	case c.server == nil || !c.open:
		return ClientLeft
	case a.over.Load() == ofServer+1:
		return ServerClosed
	}
	return ClientClosed
}

// tell tells of c, which has ended, if somebody wants to know. It is for who served c.
func (c *netConn) tell() {
	a, w := &c.account, c.engine.opts.watching()
	if !a.told || w.Visit == nil {
		return
	}
	if first := a.first.Load(); first != 0 {
		a.account.first = a.since(origin.Add(time.Duration(first)))
	}
	a.account.cause = c.cause()
	a.received, a.sent = c.read[ofClient].Load(), c.sent.Load()
	v := new(Visit)
	a.visit(v, c.front, c.client, c.server, &c.trial, time.Now())
	if conn, ok := c.side[ofClient].(*tls.Conn); ok {
		v.TLS = secured(conn.ConnectionState())
	}
	w.Visit(v)
}

// request tells what a client has sent, if somebody wants to know.
func (c *netConn) request(data []byte) {
	if w := c.engine.opts.watching(); w.Request != nil {
		w.Request(&Request{
			At: time.Now(), Client: bare(c.client), Server: c.server.addr.Addr(), Path: c.server.path,
			Data: data[:min(len(data), RequestMost)],
		})
	}
}

// sought ends the search for a server that has found none.
func (c *netConn) sought(ctx context.Context) {
	if ctx.Err() == nil {
		c.blame(c.trial.cause())
	}
}
