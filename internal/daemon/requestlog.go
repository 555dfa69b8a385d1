package daemon

import (
	"bytes"
	"iter"
	"strconv"

	"pen/proxy"
)

// The forms of the original, which penlogd and mergelogs read, to the byte.
const (
	requestText   = 100               // bytes of text in a line of a file
	requestPacket = proxy.RequestMost // bytes of a datagram, its end included
)

// putRequest writes a line: client, time, server, and the beginning of what was sent.
func (l *logs) putRequest(r *proxy.Request) {
	var room [512]byte
	l.request.put(appendRequest(room[:0], r))
}

// putDatagram is putRequest for a network log.
func (l *logs) putDatagram(r *proxy.Request) {
	var room [requestPacket]byte
	l.request.put(appendDatagram(room[:0], r))
}

func appendRequest(b []byte, r *proxy.Request) []byte {
	b = appendClient(b, r)
	b = strconv.AppendInt(append(b, ' '), r.At.Unix(), 10)
	b = appendServer(append(b, ' '), r)
	b = append(b, ' ')
	text := firstLine(r.Data)
	for _, c := range text[:min(len(text), requestText)] {
		if c >= 0x80 {
			c = '.'
		}
		b = append(b, c)
	}
	return append(b, '\n')
}

func appendDatagram(b []byte, r *proxy.Request) []byte {
	b = appendClient(append(b, "+ "...), r)
	b = appendServer(append(b, ' '), r)
	b = append(b, ' ')
	text := firstLine(r.Data)
	b = append(b, text[:min(len(text), max(0, requestPacket-1-len(b)))]...)
	return append(b, '\n')
}

// appendClient leaves out who is on a Unix socket.
func appendClient(b []byte, r *proxy.Request) []byte {
	if !r.Client.IsValid() {
		return b
	}
	return r.Client.AppendTo(b)
}

func appendServer(b []byte, r *proxy.Request) []byte {
	if r.Path != "" {
		return append(b, r.Path...)
	}
	return r.Server.AppendTo(b)
}

// firstLine is what stands before the first CR or LF.
func firstLine(data []byte) []byte {
	if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
		return data[:i]
	}
	return data
}

// eachLine yields lines without their ends.
func eachLine(lines []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for line := range bytes.Lines(lines) {
			if !yield(bytes.TrimSuffix(line, []byte{'\n'})) {
				return
			}
		}
	}
}
