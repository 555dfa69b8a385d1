package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"pen/state"
)

// A segment is a file of the log: a header, then records. All numbers are
// little endian.
//
//	header:  magic, version u32, base u64, CRC-32C of these u32
//	record:  length u32, CRC-32C of the rest u32, index u64, safe u64, command
//
// base is the number of the last command before the segment. safe is how far
// this file was known to be on the disk when the record was written; see torn.
// A record without a command is a mark: it brings no command and repeats the
// index of the last.
const (
	segmentMagic   = "pen\x00log\n"
	segmentVersion = 1
	segmentHead    = 24
	recordHead     = 24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is one that is being written to.
type segment struct {
	disk *disk
	f    *os.File
	path string
	end  int64 // where the next record goes
	safe int64 // so much is on the disk for certain
	buf  []byte
}

func createSegment(d *disk, path string, base uint64) (*segment, error) {
	err := d.create(path, func(w io.Writer) error {
		_, err := w.Write(segmentHeader(base))
		return err
	})
	if err != nil {
		return nil, err
	}
	f, err := d.open(path, os.O_RDWR)
	if err != nil {
		return nil, brokenError{err}
	}
	return &segment{disk: d, f: f, path: path, end: segmentHead, safe: segmentHead}, nil
}

func segmentHeader(base uint64) []byte {
	b := []byte(segmentMagic)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = binary.LittleEndian.AppendUint64(b, base)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// append writes a record. If that fails the segment is as it was, or the error
// is a brokenError.
func (s *segment) append(index uint64, command []byte) error {
	b := append(s.buf[:0], make([]byte, recordHead)...)
	b = append(b, command...)
	binary.LittleEndian.PutUint32(b, uint32(len(command)))
	binary.LittleEndian.PutUint64(b[8:], index)
	binary.LittleEndian.PutUint64(b[16:], uint64(s.safe))
	binary.LittleEndian.PutUint32(b[4:], recordSum(b))
	if s.buf = b; cap(b) > 1<<20 {
		s.buf = nil // such a large command is rare
	}
	if err := s.disk.writeAt(s.f, b, s.end); err != nil {
		return s.cut(s.end, fmt.Errorf("write %s: %w", s.path, err))
	}
	s.end += int64(len(b))
	return nil
}

func recordSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[8:])
}

// brokenError says that the disk may hold something else than it should.
type brokenError struct{ error }

func (e brokenError) Unwrap() error { return e.error }

// cut takes away what was written after a place, because of err, which it
// returns.
func (s *segment) cut(at int64, err error) error {
	s.end = at
	if cut := s.disk.truncate(s.f, at); cut != nil {
		return brokenError{errors.Join(err, fmt.Errorf("cut %s at byte %d: %w", s.path, at, cut))}
	}
	return err
}

// sync makes what was appended survive a power cut. After an error nobody knows
// what the disk holds: a second attempt may succeed without having written
// anything. So the segment is broken.
func (s *segment) sync() error {
	if s.safe == s.end {
		return nil
	}
	if err := s.disk.sync(s.f); err != nil {
		return brokenError{fmt.Errorf("sync %s: %w", s.path, err)}
	}
	s.safe = s.end
	return nil
}

// record is a part of a segment that has been checked.
type record struct {
	index   uint64
	safe    int64
	command []byte
	size    int64
}

// readRecord reads the record at the beginning of b, which is at a place in
// the file, if there is a good one.
func readRecord(b []byte, at int64) (record, error) {
	if len(b) < recordHead {
		return record{}, errors.New("incomplete head of a record")
	}
	size := int64(binary.LittleEndian.Uint32(b)) + recordHead
	switch {
	case size > state.MaxCommand+recordHead:
		return record{}, errors.New("impossible length of a record")
	case size > int64(len(b)):
		return record{}, errors.New("incomplete record")
	case recordSum(b[:size]) != binary.LittleEndian.Uint32(b[4:]):
		return record{}, errors.New("checksum of a record does not match")
	}
	r := record{
		index:   binary.LittleEndian.Uint64(b[8:]),
		safe:    int64(binary.LittleEndian.Uint64(b[16:])),
		command: b[recordHead:size],
		size:    size,
	}
	if r.safe < segmentHead || r.safe > at {
		return record{}, errors.New("impossible record")
	}
	return r, nil
}

// checkHeader checks the header of a segment that should have this base.
func checkHeader(b []byte, base uint64) error {
	switch {
	case len(b) < segmentHead:
		return fmt.Errorf("byte %d: incomplete header", len(b))
	case !bytes.HasPrefix(b, []byte(segmentMagic)):
		return errors.New("byte 0: this is no log of pen")
	case crc32.Checksum(b[:20], castagnoli) != binary.LittleEndian.Uint32(b[20:]):
		return errors.New("byte 0: checksum of the header does not match")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != segmentVersion {
		return fmt.Errorf("byte 8: version %d, this program knows %d", v, segmentVersion)
	}
	if got := binary.LittleEndian.Uint64(b[12:]); got != base {
		return fmt.Errorf("byte 12: it follows command %d, but its name says %d", got, base)
	}
	return nil
}

// torn tells whether a bad record may be what a crash left: its writing was
// under way, or had not reached the disk.
//
// After a crash a part of what was written since the last sync may be missing,
// at the end or, as disks do not keep the order, in front of records that made
// it. None of it was promised to anybody. But when a later good record says that
// the place had been on the disk before it was written, then the place has been
// damaged since, and what was promised is lost. The record is returned then.
// Next is the index that the bad record should have.
//
// Damage to the very last of the promised records, with nothing after it,
// looks like a crash. A segment that was closed ends with a mark, so that it
// does not.
func torn(b []byte, bad int64, next uint64) (proof int64, ok bool) {
	most := next + uint64(len(b)-int(bad))/recordHead
	for at := bad + 1; at+recordHead <= int64(len(b)); {
		index := binary.LittleEndian.Uint64(b[at+8:])
		if index+1 < next || index > most {
			at++
			continue
		}
		r, err := readRecord(b[at:], at)
		switch {
		case err != nil:
			at++
		case r.safe > bad:
			return at, false
		default:
			at += r.size
		}
	}
	return 0, true
}
