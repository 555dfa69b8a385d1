package proxy

import (
	queue "container/list"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of handshakes.
const (
	handshakeTime  = 5 * time.Second // for one, all in all
	handshakesMost = 1024            // under way in a service before the slow ones go
	handshakeGrace = time.Second     // how long one may take then
)

// handshakes are those under way in a service, the oldest first. As long as they
// are few, each has its time. When they are many, who takes longer than the grace
// goes, the oldest first, so that clients who do not go on can not keep the others
// out.
type handshakes struct {
	mu    sync.Mutex // guards the rest
	line  queue.List // of *handshake
	timer *time.Timer

	crowded atomic.Uint64 // that had to go
}

type handshake struct {
	began time.Time
	leave func()
	gone  atomic.Bool // had to go
}

// enter adds a handshake, of which there should be most. leave ends it from
// outside.
func (h *handshakes) enter(leave func(), most int) *queue.Element {
	h.mu.Lock()
	defer h.mu.Unlock()
	el := h.line.PushBack(&handshake{began: time.Now(), leave: leave})
	h.trim(most)
	return el
}

// done takes a handshake out, and tells whether it had to go.
func (h *handshakes) done(el *queue.Element) (gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hs := el.Value.(*handshake)
	if gone = hs.gone.Load(); !gone {
		h.line.Remove(el)
	}
	return gone
}

// trim makes the slow ones go while there are more than most, and comes back when
// the next one is slow. The caller holds mu.
func (h *handshakes) trim(most int) {
	for h.line.Len() > most {
		oldest := h.line.Front()
		hs := oldest.Value.(*handshake)
		if left := handshakeGrace - time.Since(hs.began); left > 0 {
			if h.timer != nil {
				h.timer.Stop()
			}
			h.timer = time.AfterFunc(left, func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.trim(most)
			})
			return
		}
		h.line.Remove(oldest)
		hs.gone.Store(true)
		h.crowded.Add(1)
		hs.leave()
	}
}

// underWay returns how many there are.
func (h *handshakes) underWay() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.line.Len()
}

// reckoning lets a few handshakes at a time compute, so that a flood of them
// leaves the processors to the traffic that there is. Who waits for his peer does
// not count.
type reckoning chan struct{}

func (r reckoning) begin() { r <- struct{}{} }
func (r reckoning) end()   { <-r }

// cutOff tells whether a stream has ended without the notice of TLS. Package tls
// takes that for an end like any other, but somebody on the way may have cut it. It
// is for who reads from conn.
func cutOff(conn net.Conn) bool {
	w := wireOf(conn)
	return w != nil && w.ended
}

// shake makes a TLS connection of a client's. The bare connection is the caller's
// to close, whatever comes of it.
func (c *netConn) shake(t *terminator, bare net.Conn) (*tls.Conn, error) {
	f := c.front
	most := max(1, min(handshakesMost, f.settings.Load().ConnMax/2))
	el := f.shaking.enter(c.reset, most)
	under := newWire(bare, c.engine.turns)
	_ = bare.SetDeadline(time.Now().Add(handshakeTime))
	conn := tls.Server(under, t.config)
	under.turns.begin()
	err := conn.Handshake()
	under.turns.end()
	under.shaken()
	if f.shaking.done(el) {
		return nil, errCrowded
	}
	if err != nil {
		return nil, err
	}
	return conn, bare.SetDeadline(time.Time{})
}

var errCrowded = errors.New("too slow while many wait")

// spurned is why a client did not come through the handshake of TLS, or to it: he
// was to say first for whom he comes.
type spurned uint8

const (
	spurnedFault       spurned = iota // anything else: no common cipher, no good certificate, no TLS
	spurnedTime                       // took too long
	spurnedCrowd                      // took too long for the number of those who wait
	spurnedFiles                      // this node has no certificate
	spurnedHeader                     // no PROXY header, or a bad one
	spurnedHeaderTime                 // it took too long
	spurnedHeaderCrowd                // too many wait for theirs
	spurnedReasons                    // how many there are
)

func (s spurned) String() string {
	return [...]string{
		spurnedFault: "tls_handshake", spurnedTime: "tls_timeout", spurnedCrowd: "tls_crowded", spurnedFiles: "tls_certificate",
		spurnedHeader: "proxy_header", spurnedHeaderTime: "proxy_timeout", spurnedHeaderCrowd: "proxy_crowded",
	}[s]
}

func spurnedBy(err error) spurned {
	switch {
	case errors.Is(err, errCrowded):
		return spurnedCrowd
	case errors.Is(err, errNoMaterial):
		return spurnedFiles
	case timedOut(err):
		return spurnedTime
	}
	return spurnedFault
}

func timedOut(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// terminate ends a client's TLS. False: he has not come through the handshake.
func (c *netConn) terminate(ctx context.Context, t *terminator) bool {
	f := c.front
	conn, err := c.shake(t, c.side[ofClient])
	if err != nil {
		f.spurned[spurnedBy(err)].Add(1)
		c.blame(spurnedBy(err).cause())
		if c.engine.debug() {
			c.engine.log.LogAttrs(ctx, slog.LevelDebug, "no handshake",
				slog.String("service", f.name), slog.Int("slot", c.slot), slog.Any("client", c.client), slog.Any("err", err))
		}
		return false
	}
	c.mu.Lock()
	c.side[ofClient] = conn
	c.mu.Unlock()
	return true
}
