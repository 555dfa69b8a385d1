package control

import (
	"bytes"
	"strings"
)

// Refusal begins every error reply that the original does not have.
const Refusal = "error: "

// Refused tells whether a reply says that the command was not carried out: by
// one of the original's texts, or by a line that begins with "error: ". Many
// commands of the original answer nothing at all, also when they fail.
//
// The first and the last line count; the rest of a long reply may be left out.
func Refused(reply []byte) bool {
	reply = bytes.TrimSuffix(reply, []byte("\n"))
	first, _, _ := bytes.Cut(reply, []byte("\n"))
	last := reply[bytes.LastIndexByte(reply, '\n')+1:]
	return refusedLine(string(first)) || strings.HasPrefix(string(last), Refusal)
}

func refusedLine(line string) bool {
	for _, known := range []struct{ prefix, suffix string }{
		{Refusal, ""},
		{"do_cmd: ignoring ", ""},
		{"Exit is not enabled; ", ""},
		{"Connection ", " out of range"},
		{"Unable to create webstats", ""},
		{"unable to set source address to ", ""},
	} {
		if strings.HasPrefix(line, known.prefix) && strings.HasSuffix(line, known.suffix) {
			return true
		}
	}
	return false
}

// Verdict is a Writer that looks for a refusal in a reply that passes by. It
// keeps no more than the first and the last KiB.
type Verdict struct{ head, tail []byte }

const verdictSize = 1024

// Write never fails.
func (v *Verdict) Write(b []byte) (int, error) {
	n := min(len(b), verdictSize-len(v.head))
	v.head = append(v.head, b[:n]...)
	v.tail = append(v.tail, b[max(n, len(b)-verdictSize):]...)
	v.tail = v.tail[max(0, len(v.tail)-verdictSize):]
	return len(b), nil
}

// Refused tells what Refused would tell of the whole reply.
func (v *Verdict) Refused() bool {
	if len(v.tail) < verdictSize {
		return Refused(append(bytes.Clone(v.head), v.tail...))
	}
	// The tail begins anywhere, perhaps within a line.
	_, tail, _ := bytes.Cut(v.tail, []byte("\n"))
	return Refused(v.head) || Refused(append([]byte("\n"), tail...))
}
