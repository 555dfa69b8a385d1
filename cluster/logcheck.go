package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	walsegment "github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// The files of the log: a header, then frames of eight bytes and what belongs to
// them, padded to eight. A batch of entries ends with a frame that has the
// checksum of all since the last such frame, and was synced before the next batch
// was begun.
const (
	walHead   = 32
	walFrame  = 8
	walEntry  = 1
	walIndex  = 2
	walCommit = 3
)

func segmentName(s types.SegmentInfo) string { return walsegment.FileName(s) }

// checkLog looks at every checksum of the log. The package that writes it looks at
// the last one only: an entry in which a bit has turned would be applied here and
// not on the other nodes.
func checkLog(dir string, s types.PersistentState) error {
	for i, info := range s.Segments {
		last := i == len(s.Segments)-1
		if !last && (info.SealTime.IsZero() || s.Segments[i+1].BaseIndex != info.MaxIndex+1) {
			return fmt.Errorf("%s: it does not go on where %s ends: %w", segmentName(s.Segments[i+1]), segmentName(info), errLogDamaged)
		}
		path := filepath.Join(dir, segmentName(info))
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && last && info.SealTime.IsZero() {
			continue // it was to be begun
		}
		if err != nil {
			return err
		}
		if bad, why := checkSegment(b, info.SealTime.IsZero()); why != "" {
			return fmt.Errorf("%s: byte %d: %s: %w", path, bad, why, errLogDamaged)
		}
	}
	return nil
}

// checkSegment returns where the log has been damaged, and how; an empty reason:
// nowhere. What a crash has left at the end of the file that is being written was
// promised to nobody.
func checkSegment(b []byte, tail bool) (at int, why string) {
	begin, sealed := 0, false // of the batch
	for at = walHead; ; {
		kind, size := frameAt(b, at)
		switch {
		case kind == 0 || at+size > len(b):
			return judgeEnd(b, begin, at, tail)
		case kind == walIndex:
			sealed = true
		case kind == walCommit:
			if crc32.Checksum(b[begin:at], castagnoli) != binary.LittleEndian.Uint32(b[at+4:]) {
				return judgeEnd(b, begin, begin, tail)
			}
			if sealed {
				return 0, "" // the rest is what was taken from the disk and not used
			}
			begin = at + walFrame
		}
		at += size
	}
}

// frameAt returns the kind of a frame and its size; kind 0: there is none.
func frameAt(b []byte, at int) (kind byte, size int) {
	if at+walFrame > len(b) || b[at+1] != 0 || b[at+2] != 0 || b[at+3] != 0 {
		return 0, 0
	}
	n := uint64(binary.LittleEndian.Uint32(b[at+4:]))
	switch kind = b[at]; kind {
	case walCommit:
		return kind, walFrame
	case walEntry, walIndex:
		if n > uint64(len(b)) {
			return kind, len(b) + 1
		}
		return kind, walFrame + int(n+7)&^7
	}
	return 0, 0
}

// judgeEnd tells whether the batch that began there, in which something is bad,
// may be what a crash has left: nothing that was synced later may follow it.
func judgeEnd(b []byte, begin, bad int, tail bool) (at int, why string) {
	if !tail {
		return bad, "the file was complete, and is not any more"
	}
	for at := max(bad, walHead); at+walFrame <= len(b); at += walFrame {
		if kind, _ := frameAt(b, at); kind != walCommit {
			continue
		}
		if from := batchBefore(b, max(begin+1, walHead), at); from > 0 {
			return bad, fmt.Sprintf("a checksum does not match, and the batch at byte %d shows that it did before", from)
		}
	}
	return 0, ""
}

// lookBack is how far back from its end the beginning of a batch is looked for.
const lookBack = 1 << 20

// batchBefore returns where a good batch begins, after least, that ends with the
// frame at end; 0: there is none.
func batchBefore(b []byte, least, end int) int {
	sum := binary.LittleEndian.Uint32(b[end+4:])
	for at, tries := end-walFrame, 0; at >= max(least, end-lookBack) && tries < 1024; at -= walFrame {
		kind, size := frameAt(b, at)
		if kind != walEntry && kind != walIndex || at+size > end {
			continue
		}
		tries++
		if crc32.Checksum(b[at:end], castagnoli) == sum {
			return at
		}
	}
	return 0
}
