package proxy

import (
	"crypto/tls"
	"io"
	"net/netip"
	"time"

	"pen/state"
)

// page is what `dummy` answers to whatever a client says. It is the original's, to
// the byte. No server is asked, and none need be there; who is denied stays so.
const page = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Type: text/html\r\n\r\nUlric was here."

// statePage is the state of a client who has not yet said anything, as the original
// tells it.
const statePage = StateConnected | StateServerClosed

// greet notes the visit of a client who gets the page. He keeps the server that he
// may have.
func (s *service) greet(client netip.Addr, now state.Time) trial {
	known, slot := s.memory.visit(bare(client), now)
	return trial{slot: int32(slot), at: state.None, known: int16(known), stage: exhausted}
}

// present waits until the client has said something, and answers with the page.
func (c *netConn) present() {
	f := c.front
	c.trial = f.greet(c.client, c.engine.opts.Clock.At(time.Now()))
	if f.bars(c.client) {
		f.refused[refusedACL].Add(1)
		c.blame(ClientDenied)
		return
	}
	c.mu.Lock()
	c.page = true
	conn := c.side[ofClient]
	c.mu.Unlock()
	if idle := idleOf(f.settings.Load()); idle > 0 {
		_ = conn.SetDeadline(time.Now().Add(idle))
	}
	buf := netBuffers.Get().(*netBuffer)
	defer netBuffers.Put(buf)
	n, _ := conn.Read(buf[:])
	f.credit(&c.trial, c.client, 0, uint64(n))
	if n == 0 {
		return
	}
	c.note(ofClient, buf[:n])
	c.read[ofClient].Add(uint64(n))
	c.blame(ServerClosed)
	c.sent.Add(uint64(len(page)))
	if _, err := io.WriteString(conn, page); err != nil {
		return // the client has gone
	}
	if secure, ok := conn.(*tls.Conn); ok {
		_ = secure.CloseWrite() // the notice that this was all
	}
}
