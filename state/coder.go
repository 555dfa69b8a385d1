package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
)

// coder writes values to the end of buf, or reads them from its beginning, so
// that one description of a format serves both. Numbers are varints in their
// shortest form. After the first error nothing more is written or read.
type coder struct {
	buf     []byte
	reading bool
	err     error
}

var errShort = errors.New("it ends too early")

func (c *coder) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// take returns the next n bytes.
func (c *coder) take(n int) []byte {
	if c.err == nil && n > len(c.buf) {
		c.err = errShort
	}
	if c.err != nil {
		return nil
	}
	b := c.buf[:n]
	c.buf = c.buf[n:]
	return b
}

func (c *coder) byte(v *uint8) {
	switch {
	case c.err != nil:
	case !c.reading:
		c.buf = append(c.buf, *v)
	default:
		if b := c.take(1); b != nil {
			*v = b[0]
		}
	}
}

func (c *coder) bool(v *bool) {
	var b uint8
	if *v {
		b = 1
	}
	c.byte(&b)
	if b > 1 {
		c.fail("%d is neither yes nor no", b)
	}
	*v = b == 1
}

func (c *coder) uint64(v *uint64, most uint64) {
	switch {
	case c.err != nil:
		return
	case !c.reading:
		c.buf = binary.AppendUvarint(c.buf, *v)
	default:
		u, n := binary.Uvarint(c.buf)
		switch {
		case n == 0:
			c.err = errShort
			return
		case n < 0 || n > 1 && c.buf[n-1] == 0:
			c.fail("malformed number")
			return
		}
		*v, c.buf = u, c.buf[n:]
	}
	if *v > most {
		c.fail("%d is more than %d", *v, most)
	}
}

func (c *coder) uint32(v *uint32) {
	u := uint64(*v)
	c.uint64(&u, math.MaxUint32)
	*v = uint32(u)
}

func (c *coder) uint16(v *uint16) {
	u := uint64(*v)
	c.uint64(&u, math.MaxUint16)
	*v = uint16(u)
}

// int64 codes small negative numbers as small ones, as varints usually do.
func (c *coder) int64(v *int64) {
	u := uint64(*v)<<1 ^ uint64(*v>>63)
	c.uint64(&u, math.MaxUint64)
	*v = int64(u>>1) ^ -int64(u&1)
}

func (c *coder) int(v *int) {
	i := int64(*v)
	c.int64(&i)
	if int64(int(i)) != i {
		c.fail("%d is too large for this computer", i)
	}
	*v = int(i)
}

func (c *coder) bytes(v *[]byte, most int) {
	n := uint64(len(*v))
	c.uint64(&n, uint64(most))
	switch {
	case c.err != nil:
	case !c.reading:
		c.buf = append(c.buf, *v...)
	default:
		if n > uint64(len(c.buf)) {
			c.err = errShort
			return
		}
		*v = append([]byte(nil), c.take(int(n))...)
	}
}

func (c *coder) text(v *string) {
	if !c.reading && len(*v) > MaxText {
		c.fail("text of %d bytes is longer than %d", len(*v), MaxText)
		return
	}
	b := []byte(*v)
	c.bytes(&b, MaxText)
	*v = string(b)
}

// The kinds of addresses.
const (
	addrNone  = 0
	addrIPv4  = 4
	addrIPv6  = 6
	addrZoned = 7
)

func (c *coder) addr(v *netip.Addr) {
	if !c.reading {
		c.writeAddr(*v)
		return
	}
	var kind uint8
	c.byte(&kind)
	switch kind {
	case addrNone:
		*v = netip.Addr{}
	case addrIPv4:
		if b := c.take(4); b != nil {
			*v = netip.AddrFrom4([4]byte(b))
		}
	case addrIPv6, addrZoned:
		b := c.take(16)
		if b == nil {
			return
		}
		*v = netip.AddrFrom16([16]byte(b))
		if kind == addrZoned {
			var zone string
			c.text(&zone)
			if zone == "" {
				c.fail("empty zone of an address")
			}
			*v = v.WithZone(zone)
		}
	default:
		c.fail("unknown kind %d of address", kind)
	}
}

func (c *coder) writeAddr(a netip.Addr) {
	if c.err != nil {
		return
	}
	switch {
	case !a.IsValid():
		c.buf = append(c.buf, addrNone)
	case a.Is4():
		b := a.As4()
		c.buf = append(append(c.buf, addrIPv4), b[:]...)
	default:
		kind, zone := uint8(addrIPv6), a.Zone()
		if zone != "" {
			kind = addrZoned
		}
		b := a.As16()
		c.buf = append(append(c.buf, kind), b[:]...)
		if zone != "" {
			c.text(&zone)
		}
	}
}

func (c *coder) addrPort(v *netip.AddrPort) {
	a, p := v.Addr(), v.Port()
	c.addr(&a)
	c.uint16(&p)
	*v = netip.AddrPortFrom(a, p)
}
