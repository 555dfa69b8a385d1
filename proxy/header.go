package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, as haproxy's proxy-protocol.txt has it: a header before the
// first byte of a connection says for whom it was made. Version 1 is a line of
// text, version 2 is binary and may say more in fields behind the addresses.

// ends are the two ends of a client's connection. What is invalid is not known: a
// client on a Unix socket has neither.
type ends struct {
	client netip.AddrPort
	local  netip.AddrPort // where the client has connected to
}

// known tells whether there are two addresses to speak of.
func (e ends) known() bool { return e.client.IsValid() && e.local.IsValid() }

// plain is e with addresses of one family: IPv4 clients of an IPv6 socket are what
// they are, and where only one end is IPv4, both are written as IPv6.
func (e ends) plain() ends {
	c, l := e.client.Addr().Unmap().WithZone(""), e.local.Addr().Unmap().WithZone("")
	if c.Is4() != l.Is4() {
		c, l = netip.AddrFrom16(c.As16()), netip.AddrFrom16(l.As16())
	}
	return ends{netip.AddrPortFrom(c, e.client.Port()), netip.AddrPortFrom(l, e.local.Port())}
}

const (
	lineMost   = 107                       // of version 1, with its end
	binHead    = 16                        // of version 2: signature, command, family, length
	binUnix    = 216                       // two paths, the longest of the addresses
	binMost    = binHead + binUnix + 4<<10 // the fields have 4 KiB
	headerMost = max(lineMost, binMost)    // of any header
	lineMark   = "PROXY "                  // how version 1 begins
	binMark    = "\r\n\r\n\x00\r\nQUIT\n"  // how version 2 does
)

// The numbers of version 2.
const (
	binLocal = 0x20 // version and command: the sender speaks for himself
	binProxy = 0x21 // for somebody else

	binUnspec = 0x00 // family and transport
	binTCP4   = 0x11
	binUDP4   = 0x12
	binTCP6   = 0x21
	binUDP6   = 0x22
	binStream = 0x31 // Unix sockets
	binDgram  = 0x32

	fieldALPN      = 0x01
	fieldAuthority = 0x02
	fieldSum       = 0x03
	fieldTLS       = 0x20
	fieldVersion   = 0x21
	fieldName      = 0x22
	fieldCipher    = 0x23
)

// Why a header is none.
var (
	errNoHeader   = errors.New("does not begin with a PROXY header")
	errHeaderLong = errors.New("the PROXY header is too long")
	errHeaderBad  = errors.New("the PROXY header is malformed")
	errHeaderSum  = errors.New("the PROXY header has a wrong checksum")
)

// parseHeader reads the header with which b begins and returns how long it is; 0
// if some of it is still missing. The ends are not known if the header says so: the
// connection is then its sender's own.
func parseHeader(b []byte) (e ends, size int, err error) {
	switch {
	case begun(b, lineMark):
		return parseLine(b)
	case begun(b, binMark):
		return parseBinary(b)
	}
	return e, 0, errNoHeader
}

// begun tells whether b may become something that begins with mark.
func begun(b []byte, mark string) bool {
	n := min(len(b), len(mark))
	return string(b[:n]) == mark[:n]
}

func parseLine(b []byte) (e ends, size int, err error) {
	end := bytes.IndexByte(b[:min(len(b), lineMost)], '\n')
	switch {
	case end < 0 && len(b) >= lineMost:
		return e, 0, errHeaderLong
	case end < 0:
		return e, 0, nil
	case b[end-1] != '\r':
		return e, 0, errHeaderBad
	}
	line, size := string(b[len(lineMark):end-1]), end+1
	if line == "UNKNOWN" || strings.HasPrefix(line, "UNKNOWN ") {
		return e, size, nil // whatever else it says
	}
	part := strings.Split(line, " ")
	if len(part) != 5 || part[0] != "TCP4" && part[0] != "TCP6" {
		return e, 0, errHeaderBad
	}
	var ok [2]bool
	e.client, ok[0] = lineEnd(part[1], part[3], part[0] == "TCP4")
	e.local, ok[1] = lineEnd(part[2], part[4], part[0] == "TCP4")
	if !ok[0] || !ok[1] {
		return ends{}, 0, errHeaderBad
	}
	return e, size, nil
}

// lineEnd reads an address and a port as strictly as they are to be written.
func lineEnd(addr, port string, four bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(addr)
	n, bad := strconv.ParseUint(port, 10, 16)
	ok := err == nil && bad == nil && a.Is4() == four && a.Zone() == "" && port == strconv.FormatUint(n, 10)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}

func parseBinary(b []byte) (e ends, size int, err error) {
	if len(b) < binHead {
		return e, 0, nil
	}
	command, family := b[12], b[13]
	size = binHead + int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case command != binLocal && command != binProxy:
		return e, 0, errHeaderBad
	case size > binMost:
		return e, 0, errHeaderLong
	case len(b) < size:
		return e, 0, nil
	case command == binLocal:
		return e, size, nil
	}
	addresses, known := binSizes[family]
	if !known || binHead+addresses > size {
		return e, 0, errHeaderBad
	}
	switch at := b[binHead:]; addresses {
	case 12:
		e.client = binEnd(at[:4], at[8:])
		e.local = binEnd(at[4:8], at[10:])
	case 36:
		e.client = binEnd(at[:16], at[32:])
		e.local = binEnd(at[16:32], at[34:])
	}
	if err := checkFields(b[:size], binHead+addresses); err != nil {
		return ends{}, 0, err
	}
	return e, size, nil
}

// binSizes are how long the addresses of a family are.
var binSizes = map[byte]int{
	binUnspec: 0, binTCP4: 12, binUDP4: 12, binTCP6: 36, binUDP6: 36, binStream: binUnix, binDgram: binUnix,
}

func binEnd(addr, port []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
}

// checkFields looks at what stands in a header behind the addresses: fields that
// are whole, and if one is a checksum, the right one.
func checkFields(header []byte, from int) error {
	for at := from; at < len(header); {
		if len(header)-at < 3 {
			return errHeaderBad
		}
		kind, value := header[at], at+3
		next := value + int(binary.BigEndian.Uint16(header[at+1:]))
		switch {
		case next > len(header), kind == fieldSum && next-value != 4:
			return errHeaderBad
		case kind == fieldSum && binary.BigEndian.Uint32(header[value:]) != sumWithout(header, value):
			return errHeaderSum
		}
		at = next
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumWithout is the checksum of a header in which the four bytes at a place are 0.
func sumWithout(header []byte, at int) uint32 {
	sum := crc32.Update(0, castagnoli, header[:at])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	return crc32.Update(sum, castagnoli, header[at+4:])
}

// appendLine appends a header of version 1.
func appendLine(b []byte, e ends) []byte {
	if !e.known() {
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	e = e.plain()
	if e.client.Addr().Is4() {
		b = append(b, "PROXY TCP4 "...)
	} else {
		b = append(b, "PROXY TCP6 "...)
	}
	b = append(e.client.Addr().AppendTo(b), ' ')
	b = append(e.local.Addr().AppendTo(b), ' ')
	b = append(strconv.AppendUint(b, uint64(e.client.Port()), 10), ' ')
	b = strconv.AppendUint(b, uint64(e.local.Port()), 10)
	return append(b, '\r', '\n')
}

// appendBinary appends a header of version 2 with fields, which appendField has
// made. Where the ends are not known it says that the connection is our own, as
// haproxy does: then the server takes it as it is.
func appendBinary(b []byte, e ends, fields []byte) []byte {
	b = append(b, binMark...)
	if !e.known() {
		return append(b, binLocal, binUnspec, 0, 0)
	}
	e = e.plain()
	c, l := e.client.Addr(), e.local.Addr()
	family, addresses := byte(binTCP4), 12
	if !c.Is4() {
		family, addresses = binTCP6, 36
	}
	b = append(b, binProxy, family)
	b = binary.BigEndian.AppendUint16(b, uint16(addresses+len(fields)))
	if c.Is4() {
		from, to := c.As4(), l.As4()
		b = append(append(b, from[:]...), to[:]...)
	} else {
		from, to := c.As16(), l.As16()
		b = append(append(b, from[:]...), to[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, e.client.Port())
	b = binary.BigEndian.AppendUint16(b, e.local.Port())
	return append(b, fields...)
}

// fieldMost is the longest value of a field that is passed on. Names in certificates
// have 64 letters, those of machines 255.
const fieldMost = 512

// appendField appends a field with a value, unless there is none or it is too long.
func appendField(b []byte, kind byte, value string) []byte {
	if value == "" || len(value) > fieldMost {
		return b
	}
	b = binary.BigEndian.AppendUint16(append(b, kind), uint16(len(value)))
	return append(b, value...)
}
