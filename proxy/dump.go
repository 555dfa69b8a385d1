package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"strconv"
	"sync/atomic"
)

// Dump says how traffic is written to the log.
type Dump uint32

// The ways.
const (
	DumpOff  Dump = iota
	DumpHex       // each byte as two digits
	DumpText      // as text; what can not be printed is a point
)

// levelDump is the level of dumps: that of debug 3.
const levelDump = slog.LevelDebug - 8

// dumpMost is how much of one piece is shown. A dump is for looking at, and the log
// has a bound.
const dumpMost = 1 << 10

// Dump has all traffic written to the log from now on, or no more: each piece as it is
// read from a client or a server, without TLS. Bytes that would be spliced are copied
// meanwhile.
func (p *Proxy) Dump(d Dump) { p.opts.dump.Store(uint32(d)) }

// dumping tells what is to be done now.
func (o *Options) dumping() Dump {
	if o.dump == nil {
		return DumpOff
	}
	return Dump(o.dump.Load())
}

// dumps makes room for the answer.
func (o *Options) dumps() { o.dump = new(atomic.Uint32) }

// piece writes to the log what was read from one side of a connection.
func (d Dump) piece(log *slog.Logger, f *front, slot int, client netip.Addr, side int, data []byte) {
	from := "client"
	if side == ofServer {
		from = "server"
	}
	log.LogAttrs(context.Background(), levelDump, string(d.append(nil, data)),
		slog.String("service", f.name), slog.Int("slot", slot), slog.Any("client", client), slog.String("from", from))
}

// append appends a piece in the original's form: the number of bytes, and the bytes.
func (d Dump) append(b, data []byte) []byte {
	const digits = "0123456789abcdef"
	b = strconv.AppendInt(b, int64(len(data)), 10)
	b = append(b, ": "...)
	for _, c := range data[:min(len(data), dumpMost)] {
		switch {
		case d == DumpHex:
			b = append(b, digits[c>>4], digits[c&15], ' ')
		case c >= ' ' && c < 0x7f, c >= '\t' && c <= '\r':
			b = append(b, c)
		default:
			b = append(b, '.')
		}
	}
	if len(data) > dumpMost {
		b = append(b, "..."...)
	}
	return b
}

// note dumps what was read from one side of c, if that is asked for.
func (c *netConn) note(side int, data []byte) {
	if d := c.engine.opts.dumping(); d != DumpOff {
		d.piece(c.engine.log, c.front, c.slot, c.client, side, data)
	}
}
