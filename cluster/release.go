package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// hearReleases listens for what the guards of other nodes say, and keeps
// connections open over which this node's guard can speak.
func (n *Node) hearReleases(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	var mu sync.Mutex
	kept := map[netip.AddrPort]bool{}
	for {
		for _, to := range n.others() {
			mu.Lock()
			if !kept[to] {
				kept[to] = true
				all.Go(func() {
					n.keepRelease(ctx, to)
					mu.Lock()
					delete(kept, to)
					mu.Unlock()
				})
			}
			mu.Unlock()
		}
		select {
		case <-tick.C:
		case s, ok := <-n.streams.Accept(PurposeRelease):
			if !ok {
				return
			}
			all.Go(func() { n.hearRelease(ctx, s) })
		case <-ctx.Done():
			return
		}
	}
}

// hearRelease reads one message from a stream that has stepped out of TLS. The
// peer's hello, which came under TLS, says who may speak on it.
func (n *Node) hearRelease(ctx context.Context, s Stream) {
	defer s.Close()
	c, _, err := s.StepOut()
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	b := make([]byte, releaseSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return
	}
	term := binary.BigEndian.Uint64(b[len(releaseMagic)+32:])
	if !hmac.Equal(b, releaseMessage(n.cfg.Key, s.Hello.Node, s.Hello.Boot, term)) {
		n.log.Warn("a release that is not one", "member", s.Hello.Node, "addr", s.Hello.Addr)
		return
	}
	if k := n.core.Load(); k != nil {
		n.log.Info("the address is free", "member", s.Hello.Node, "term", term)
		k.elector.released(releasedTerm{Term: term, from: s.Hello.Node.String()}, true)
	}
}

// keepRelease has a bare connection to a node, made anew when it breaks.
func (n *Node) keepRelease(ctx context.Context, to netip.AddrPort) {
	for ctx.Err() == nil && slices.Contains(n.others(), to) {
		if s, err := n.dialRelease(ctx, to); err == nil {
			n.holdRelease(ctx, s)
		}
		select {
		case <-time.After(n.cfg.Heartbeat):
		case <-ctx.Done():
		}
	}
}

func (n *Node) dialRelease(ctx context.Context, to netip.AddrPort) (Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, max(time.Second, 3*n.cfg.Heartbeat))
	defer cancel()
	return n.streams.Dial(ctx, to, PurposeRelease)
}

// holdRelease offers a connection until the peer closes it: it never says a word.
func (n *Node) holdRelease(ctx context.Context, s Stream) {
	defer s.Close()
	c, _, err := s.StepOut()
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	id, own := s.Hello.Node, &ReleaseConn{Peer: s.Hello.Node, Conn: c, stream: s}
	n.mu.Lock()
	n.release[id] = own
	n.mu.Unlock()
	n.tell()
	_, _ = c.Read(make([]byte, 1))
	n.mu.Lock()
	if n.release[id] == own {
		delete(n.release, id)
	}
	n.mu.Unlock()
	n.tell()
}

// ReleaseConn is a bare connection on which another process can say that the
// address is free. See Node.ReleaseMessage.
type ReleaseConn struct {
	Peer   ID
	Conn   net.Conn // a *net.TCPConn; the Node closes it
	stream Stream
}

const releaseMagic = "pen released\n"

// ReleaseMessage is what says on a ReleaseConn of this node that it does not
// answer for the address any more in that term. It can be made long before it is
// sent, and must not be known to anybody before: whoever has it can say so.
func (n *Node) ReleaseMessage(term uint64) []byte {
	h := n.wire.Hello()
	return releaseMessage(n.cfg.Key, h.Node, h.Boot, term)
}

func releaseMessage(key Key, node, boot ID, term uint64) []byte {
	b := append([]byte(releaseMagic), node[:]...)
	b = append(b, boot[:]...)
	b = binary.BigEndian.AppendUint64(b, term)
	mac := hmac.New(sha256.New, key.derive("release", 32))
	mac.Write(b)
	return mac.Sum(b)
}

const releaseSize = len(releaseMagic) + 16 + 16 + 8 + sha256.Size

// ReleaseConns returns connections to the other nodes that speak no TLS any more
// and can be inherited by another process. They are made anew when they break;
// the Node closes them.
func (n *Node) ReleaseConns() []ReleaseConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []ReleaseConn
	for _, c := range n.release {
		all = append(all, *c)
	}
	return all
}

func (n *Node) dropRelease() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, c := range n.release {
		c.stream.Close()
		delete(n.release, id)
	}
}
