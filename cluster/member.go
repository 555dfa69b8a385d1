package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
)

// Meta is what a node shows of itself in the status of the others, beside what
// its hello says.
type Meta struct {
	Version  string // of the program
	Applied  uint64 // index of the last command that it has applied
	Digest   uint64 // of its configuration file; zero: none
	Eligible bool   // it could hold the address
	Reason   string // why not
}

const (
	metaFormat = 1
	versionMax = 32
	reasonMax  = 160
)

// fit shortens what would not go into the 512 bytes that gossip has for a node.
func (m Meta) fit() Meta {
	m.Version, m.Reason = shorten(m.Version, versionMax), shorten(m.Reason, reasonMax)
	return m
}

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// metadata is what gossip carries for a node. Later versions append fields.
type metadata struct {
	hello Hello
	meta  Meta
}

func (d metadata) encode() []byte {
	h, m := d.hello, d.meta.fit()
	b := append(make([]byte, 0, memberlist.MetaMaxSize), metaFormat)
	b = append(b, h.Boot[:]...)
	b = append(b, h.Formation[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Generation)
	b = appendText(b, h.Name)
	b = binary.BigEndian.AppendUint32(b, uint32(h.Priority))
	b = binary.BigEndian.AppendUint32(b, uint32(h.Heartbeat/time.Millisecond))
	b = binary.BigEndian.AppendUint32(b, h.StateVersion)
	b = append(b, flag(h.Witness), flag(m.Eligible))
	b = binary.BigEndian.AppendUint64(b, m.Applied)
	b = binary.BigEndian.AppendUint64(b, m.Digest)
	b = appendText(b, m.Version)
	return appendText(b, m.Reason)
}

func decodeMetadata(b []byte) (metadata, error) {
	r := reader{b: b}
	if format := r.u8(); format != metaFormat {
		return metadata{}, fmt.Errorf("metadata of format %d", format)
	}
	var d metadata
	h, m := &d.hello, &d.meta
	h.Boot, h.Formation, h.Generation, h.Name = r.id(), r.id(), r.u64(), r.text()
	h.Priority, h.Heartbeat, h.StateVersion = int32(r.u32()), time.Duration(r.u32())*time.Millisecond, r.u32()
	h.Witness, m.Eligible = r.u8() == 1, r.u8() == 1
	m.Applied, m.Digest = r.u64(), r.u64()
	m.Version, m.Reason = clean(r.text()), clean(r.text())
	switch {
	case r.short:
		return metadata{}, io.ErrUnexpectedEOF
	case !printable(h.Name):
		return metadata{}, errors.New("not a name")
	case h.Boot.IsZero():
		return metadata{}, errors.New("no boot id")
	}
	return d, nil
}

// memberFrom reads what memberlist knows of a node.
func memberFrom(n *memberlist.Node) (Member, error) {
	id, err := ParseID(n.Name)
	if err != nil {
		return Member{}, err
	}
	d, err := decodeMetadata(n.Meta)
	if err != nil {
		return Member{}, err
	}
	d.hello.Node, d.hello.Addr = id, nodeAddr(n)
	if !d.hello.Addr.IsValid() {
		return Member{}, errors.New("not an address")
	}
	return memberOf(d.hello, d.meta), nil
}

func nodeAddr(n *memberlist.Node) netip.AddrPort {
	a, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(a.Unmap(), n.Port)
}
