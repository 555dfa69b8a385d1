//go:build linux

package windows

import (
	"bytes"
	"encoding/binary"
)

// prng is a library that has the one function for which programs in Go load
// bcryptprimitives.dll, and which wine has only since 9.0. It has no code: its function
// is another name for one of advapi32.dll that does the same.
func prng() []byte {
	const (
		headers = 0x200  // bytes in the file
		section = 0x1000 // where the only section is in memory
		size    = 0x200
	)
	// The table of exports: the directory, one address, one name, one ordinal, texts.
	texts := []string{"bcryptprimitives.dll", "ProcessPrng", "advapi32.SystemFunction036"}
	at, where := uint32(section+40+4+4+4), []uint32{}
	for _, t := range texts {
		where = append(where, at)
		at += uint32(len(t)) + 1
	}
	var exports bytes.Buffer
	put(&exports, uint32(0), uint32(0), uint32(0), where[0], uint32(1), uint32(1), uint32(1), // one function, one name
		uint32(section+40), uint32(section+44), uint32(section+48),
		where[2], where[1], uint32(0)) // an address within the table is a name to look up instead
	for _, t := range texts {
		exports.WriteString(t + "\x00")
	}

	var file bytes.Buffer
	file.WriteString("MZ")
	file.Write(make([]byte, 58))
	put(&file, uint32(64)) // where the rest begins
	file.WriteString("PE\x00\x00")
	put(&file, uint16(0x8664), uint16(1), uint32(0), uint32(0), uint32(0), uint16(240), uint16(0x2022)) // amd64, a library
	put(&file, uint16(0x20b), uint16(0), uint32(0), uint32(size), uint32(0), uint32(0), uint32(0),
		uint64(0x180000000), uint32(0x1000), uint32(0x200), // base, alignments
		uint16(6), uint16(0), uint16(0), uint16(0), uint16(6), uint16(0), uint32(0), // versions
		uint32(section+0x1000), uint32(headers), uint32(0), uint16(3), uint16(0x100),
		uint64(1<<20), uint64(1<<12), uint64(1<<20), uint64(1<<12), uint32(0), uint32(16),
		uint32(section), uint32(exports.Len()))
	file.Write(make([]byte, 15*8))
	file.WriteString(".edata\x00\x00")
	put(&file, uint32(exports.Len()), uint32(section), uint32(size), uint32(headers), uint32(0), uint32(0), uint32(0), uint32(0x40000040))
	file.Write(make([]byte, headers-file.Len()))
	file.Write(exports.Bytes())
	file.Write(make([]byte, headers+size-file.Len()))
	return file.Bytes()
}

func put(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		_ = binary.Write(b, binary.LittleEndian, v) // does not fail on a buffer
	}
}
