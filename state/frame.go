package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A snapshot is a header and a row of blocks. Each block has a length and a
// CRC-32C, both of four bytes, little endian; the sum is over everything before
// it and the block, so a block that was changed, lost, doubled or moved is
// noticed at its place. An empty block is the end.

const (
	snapshotMagic   = "penstate"
	snapshotVersion = 1
	blockSize       = 64 << 10 // what writers aim at
	maxBlock        = MaxCommand + blockSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockWriter writes blocks and remembers the first error.
type blockWriter struct {
	w   io.Writer
	sum uint32
	n   int64
	err error
}

func newBlockWriter(w io.Writer) *blockWriter {
	bw := &blockWriter{w: w}
	bw.write(binary.LittleEndian.AppendUint32([]byte(snapshotMagic), snapshotVersion))
	return bw
}

func (w *blockWriter) write(b []byte) {
	w.sum = crc32.Update(w.sum, castagnoli, b)
	w.raw(b)
}

func (w *blockWriter) raw(b []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(b)
	w.n += int64(n)
	w.err = err
}

func (w *blockWriter) block(b []byte) {
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(b)))
	w.sum = crc32.Update(w.sum, castagnoli, head[:4])
	w.sum = crc32.Update(w.sum, castagnoli, b)
	binary.LittleEndian.PutUint32(head[4:], w.sum)
	w.raw(head[:])
	if len(b) > 0 {
		w.raw(b)
	}
}

// blockReader reads what a blockWriter wrote.
type blockReader struct {
	r   *bufio.Reader
	sum uint32
	at  int64 // offset of the block that was read last
	n   int64
	buf []byte
}

func newBlockReader(r io.Reader) (*blockReader, error) {
	br := &blockReader{r: bufio.NewReaderSize(r, blockSize)}
	head, err := br.read(len(snapshotMagic) + 4)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return nil, errors.New("header: this is no snapshot of pen")
	}
	if v := binary.LittleEndian.Uint32(head[len(snapshotMagic):]); v != snapshotVersion {
		return nil, fmt.Errorf("header: version %d, this program knows %d", v, snapshotVersion)
	}
	br.sum = crc32.Update(0, castagnoli, head)
	return br, nil
}

// read returns the next n bytes; they are good until the next call. What is
// announced but not there takes little memory.
func (r *blockReader) read(n int) ([]byte, error) {
	r.buf = r.buf[:0]
	for len(r.buf) < n {
		from := len(r.buf)
		step := min(n-from, 1<<20)
		r.buf = append(r.buf, make([]byte, step)...)
		m, err := io.ReadFull(r.r, r.buf[from:])
		r.n += int64(m)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("it ends at byte %d, too early", r.n)
		}
		if err != nil {
			return nil, fmt.Errorf("read at byte %d: %w", r.n, err)
		}
	}
	return r.buf, nil
}

// block returns the next block, and an empty one at the end.
func (r *blockReader) block() ([]byte, error) {
	r.at = r.n
	head, err := r.read(8)
	if err != nil {
		return nil, err
	}
	size, sum := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
	if size > maxBlock {
		return nil, fmt.Errorf("block at byte %d: length %d is beyond %d", r.at, size, maxBlock)
	}
	r.sum = crc32.Update(r.sum, castagnoli, head[:4])
	b, err := r.read(int(size))
	if err != nil {
		return nil, err
	}
	r.sum = crc32.Update(r.sum, castagnoli, b)
	if r.sum != sum {
		return nil, fmt.Errorf("block at byte %d: checksum does not match", r.at)
	}
	return b, nil
}

// end makes sure that nothing follows.
func (r *blockReader) end() error {
	if _, err := r.r.ReadByte(); err == nil {
		return fmt.Errorf("more data after the end at byte %d", r.n)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
