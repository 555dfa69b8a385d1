package rig

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// Countries returns a database of countries in MaxMind's format (version 2.0) that
// knows the given prefixes. The longest one counts. An empty code stands for a
// record without a country.
func Countries(made time.Time, prefixes map[netip.Prefix]string) []byte {
	w := &atlasWriter{nodes: make([][2]int, 1), records: map[string]int{}}
	var all []netip.Prefix
	for p := range prefixes {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { // the shorter before those within
		if d := length(a) - length(b); d != 0 {
			return d
		}
		return a.Addr().Compare(b.Addr())
	})
	for _, p := range all {
		w.put(p, w.record(prefixes[p]))
	}
	return w.bytes(made)
}

// atlasWriter is a database being made. A child is 0 for nothing, a node's number, or
// the negative number of a record, counted from 1.
type atlasWriter struct {
	nodes   [][2]int
	records map[string]int // offset of each country's record
	data    []byte
}

// length counts in bits of IPv6, where IPv4 is at the very beginning.
func length(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 96 + p.Bits()
	}
	return p.Bits()
}

func (w *atlasWriter) put(p netip.Prefix, record int) {
	raw := p.Addr().As16()
	if p.Addr().Is4() {
		raw[10], raw[11] = 0, 0
	}
	at := 0
	for i := range length(p) {
		child := &w.nodes[at][raw[i/8]>>(7-i%8)&1]
		if i == length(p)-1 {
			*child = -record - 1
			return
		}
		if *child <= 0 { // what was said of the whole holds for the rest of it
			old := *child
			*child = len(w.nodes)
			at = *child
			w.nodes = append(w.nodes, [2]int{old, old})
			continue
		}
		at = *child
	}
}

// record returns the offset of a country's record.
func (w *atlasWriter) record(code string) int {
	if at, there := w.records[code]; there {
		return at
	}
	at := len(w.data)
	w.records[code] = at
	if code == "" {
		w.data = append(w.data, 7<<5) // an empty map
		return at
	}
	w.data = append(w.data, 7<<5|1)
	w.data = appendText(w.data, "country")
	w.data = append(w.data, 7<<5|1)
	w.data = appendText(w.data, "iso_code")
	w.data = appendText(w.data, code)
	return at
}

func appendText(b []byte, text string) []byte {
	b = append(b, 2<<5|byte(min(len(text), 29)))
	if len(text) >= 29 {
		b = append(b, byte(len(text)-29))
	}
	return append(b, text...)
}

func (w *atlasWriter) bytes(made time.Time) []byte {
	var b []byte
	n := len(w.nodes)
	for _, node := range w.nodes {
		for _, child := range node {
			switch {
			case child == 0:
				child = n
			case child < 0:
				child = n + 16 + (-child - 1)
			}
			b = append(b, byte(child>>16), byte(child>>8), byte(child))
		}
	}
	b = append(b, make([]byte, 16)...)
	b = append(b, w.data...)
	b = append(b, "\xab\xcd\xefMaxMind.com"...)
	b = append(b, 7<<5|9)
	number := func(key string, bits, value int) {
		b = appendText(b, key)
		switch bits {
		case 16:
			b = binary.BigEndian.AppendUint16(append(b, 5<<5|2), uint16(value))
		case 32:
			b = binary.BigEndian.AppendUint32(append(b, 6<<5|4), uint32(value))
		case 64:
			b = binary.BigEndian.AppendUint64(append(b, 8, 2), uint64(value))
		}
	}
	number("node_count", 32, n)
	number("record_size", 16, 24)
	number("ip_version", 16, 6)
	b = appendText(appendText(b, "database_type"), "Test-Country")
	b = append(appendText(b, "languages"), 0, 4) // an empty array
	number("binary_format_major_version", 16, 2)
	number("binary_format_minor_version", 16, 0)
	number("build_epoch", 64, int(made.Unix()))
	b = append(appendText(b, "description"), 7<<5) // an empty map
	return b
}
