package cluster

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	packetMax   = 2048 // memberlist sends at most 1400
	packetsWait = 256
)

// gossipTransport is memberlist's way to the one port. Packets that were not
// sealed with the key of this cluster, and streams of strangers, do not reach
// memberlist.
type gossipTransport struct {
	wire    *Wire
	label   []byte // what every packet of this cluster begins with
	seal    cipher.AEAD
	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // of the whole life
}

func newGossipTransport(ctx context.Context, w *Wire, name string, key []byte) (*gossipTransport, error) {
	label, err := memberlist.AddLabelHeaderToPacket(nil, name)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &gossipTransport{
		wire: w, label: label, seal: seal, ctx: ctx,
		packets: make(chan *memberlist.Packet, packetsWait), streams: make(chan net.Conn),
	}, nil
}

// sealed tells whether a packet was made by somebody with the key, for this
// cluster: label, version, nonce, ciphertext (memberlist's security.go).
func (t *gossipTransport) sealed(b, scratch []byte) bool {
	body, ok := bytes.CutPrefix(b, t.label)
	const version, nonce = 1, 12
	if !ok || len(body) < version+nonce+t.seal.Overhead() || body[0] != version {
		return false
	}
	_, err := t.seal.Open(scratch[:0], body[version:version+nonce], body[version+nonce:], t.label[2:])
	return err == nil
}

// readPackets hands on what others sent. When memberlist does not keep up,
// packets are lost, which it expects of packets.
func (t *gossipTransport) readPackets() {
	var buf, scratch [packetMax + 1]byte
	for {
		n, from, err := t.wire.udp.ReadFrom(buf[:])
		if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-time.After(pauseFirst):
			case <-t.ctx.Done():
				return
			}
			continue
		}
		if n > packetMax || !t.sealed(buf[:n], scratch[:]) {
			t.wire.refusals.add(addrPort(from).Addr(), &RefusedError{Reason: BadPacket}, false)
			continue
		}
		t.wire.packeted(addrPort(from))
		select {
		case t.packets <- &memberlist.Packet{Buf: bytes.Clone(buf[:n]), From: from, Timestamp: time.Now()}:
		default:
		}
	}
}

func (t *gossipTransport) takeStreams() {
	for {
		select {
		case s, ok := <-t.wire.Accept(PurposeGossip):
			if !ok {
				return
			}
			select {
			case t.streams <- s.Conn:
			case <-t.ctx.Done():
				s.Close()
				return
			}
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *gossipTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	at := t.wire.Hello().Addr
	return at.Addr().AsSlice(), int(at.Port()), nil
}

func (t *gossipTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.wire.udp.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

func (t *gossipTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t *gossipTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	s, err := t.wire.Dial(ctx, to, PurposeGossip)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return nil, op // memberlist looks at the type
	}
	if err != nil {
		return nil, err
	}
	return s.Conn, nil
}

func (t *gossipTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

func (t *gossipTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *gossipTransport) StreamCh() <-chan net.Conn           { return t.streams }
func (t *gossipTransport) Shutdown() error                     { return nil } // the port is the Wire's

// gossipLog turns the lines of memberlist into ours. What it calls an error is a
// nuisance at most: it has no say in anything.
type gossipLog struct {
	log  *slog.Logger
	over func() bool // the port is closed: that it is, is no news

	mu    sync.Mutex // guards what follows
	lines lineLimit
}

func (l *gossipLog) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	level := slog.LevelInfo
	for prefix, at := range map[string]slog.Level{"[DEBUG]": slog.LevelDebug, "[INFO]": slog.LevelDebug, "[WARN]": slog.LevelInfo, "[ERR]": slog.LevelInfo} {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			line, level = strings.TrimSpace(rest), at
		}
	}
	if l.over() && strings.Contains(line, net.ErrClosed.Error()) {
		level = slog.LevelDebug
	}
	if l.log.Enabled(context.Background(), level) && l.allowed() {
		l.log.Log(context.Background(), level, "gossip", "text", clean(strings.TrimPrefix(line, "memberlist: ")))
	}
	return len(p), nil
}

func (l *gossipLog) allowed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.allow(time.Now())
}
