package daemon

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"pen/internal/config"
	"pen/proxy"
)

// levelOf is the least level that is logged when debug has been asked for so
// many times. The levels of package slog are four apart: -d shows
// slog.LevelDebug, -dd what lies four below.
func levelOf(debug int) slog.Level {
	return slog.LevelInfo - slog.Level(4*max(debug, 0))
}

// dumpOf is how traffic is dumped: from debug 3 on.
func dumpOf(l *config.Local) proxy.Dump {
	switch {
	case l.Debug < 3:
		return proxy.DumpOff
	case l.ASCII:
		return proxy.DumpText
	}
	return proxy.DumpHex
}

// journal is where the process logs to. It begins with a writer, in the
// original's form on stderr, and can change over to syslog while in use.
type journal struct {
	log    *slog.Logger
	level  slog.LevelVar
	sink   atomic.Pointer[sink]
	direct sink   // to the writer, while who logs waits
	queue  *queue // that run serves: the writer's, or syslog's
}

// sink takes one message, which is one line without its end. The bytes are its
// own.
type sink func(at time.Time, level slog.Level, line []byte)

// newJournal logs to w, one write for each message. Until run begins whoever
// logs waits for w: what a start has to say is not lost when that fails.
func newJournal(w io.Writer, debug int) *journal {
	write := writeLines(w)
	j := &journal{queue: newQueue(write)}
	j.direct = func(at time.Time, level slog.Level, line []byte) { write(message{at, level, line}, time.Time{}) }
	j.debug(debug)
	j.divert(j.direct)
	j.log = slog.New(&lineHandler{journal: j})
	return j
}

// debug changes what is logged, from now on.
func (j *journal) debug(n int) { j.level.Set(levelOf(n)) }

// divert sends what is logged from now on elsewhere.
func (j *journal) divert(s sink) { j.sink.Store(&s) }

// toSyslog logs to s from now on. It comes before run.
func (j *journal) toSyslog(s *syslog) {
	j.queue, j.direct = s.queue, nil
	j.divert(s.put)
}

// run delivers the log until ctx ends, and for at most a second after that.
// Meanwhile nobody who logs waits, however slow the reader is. Afterwards a
// writer that has taken everything is written to directly again; one that has
// not gets nothing more.
func (j *journal) run(ctx context.Context) {
	j.divert(j.queue.put)
	if j.queue.run(ctx) && j.direct != nil {
		j.divert(j.direct)
		j.queue.flush(time.Now().Add(queueFlush)) // who was on the way to the queue
	}
}

// dropped is the number of messages that were lost.
func (j *journal) dropped() uint64 { return j.queue.dropped.Load() }

// writeLines sends in the original's form: the local time, a colon, the text. A
// write can not be interrupted.
func writeLines(w io.Writer) func(message, time.Time) bool {
	return func(m message, _ time.Time) bool {
		b := m.at.Local().AppendFormat(make([]byte, 0, 24+len(m.line)), "2006-01-02 15:04:05: ")
		_, err := w.Write(append(append(b, m.line...), '\n'))
		return err == nil
	}
}

// lineHandler makes a line of a record: the message, then the attributes as
// key=value. Nothing that a peer or a file has a say in can end the line or
// reach the terminal as a control sequence.
type lineHandler struct {
	journal *journal
	group   string // with its dot
	attrs   []byte // of With, ready
}

func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.journal.level.Level()
}

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	line := appendText(make([]byte, 0, 256), r.Message)
	line = append(line, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		line = appendAttr(line, h.group, a)
		return true
	})
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	(*h.journal.sink.Load())(at, r.Level, line)
	return nil
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	made := *h
	made.attrs = bytes.Clone(h.attrs)
	for _, a := range attrs {
		made.attrs = appendAttr(made.attrs, h.group, a)
	}
	return &made
}

func (h *lineHandler) WithGroup(name string) slog.Handler {
	made := *h
	if name != "" {
		made.group += name + "."
	}
	return &made
}

// appendAttr appends " key=value", or one for each member of a group.
func appendAttr(line []byte, group string, a slog.Attr) []byte {
	a.Value = a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return line
	}
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, m := range a.Value.Group() {
			line = appendAttr(line, group, m)
		}
		return line
	}
	line = append(line, ' ')
	line = appendText(line, group+a.Key)
	line = append(line, '=')
	return appendValue(line, a.Value.String())
}

// appendValue quotes what would not read back as one word.
func appendValue(line []byte, s string) []byte {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || r == '"' || r == '=' || unsafeRune(r) }) {
		return strconv.AppendQuote(line, s)
	}
	return append(line, s...)
}

// appendText leaves a message as it is, but for what is unsafe.
func appendText(line []byte, s string) []byte {
	if !strings.ContainsFunc(s, unsafeRune) {
		return append(line, s...)
	}
	q := strconv.Quote(s)
	return append(line, q[1:len(q)-1]...)
}

func unsafeRune(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }
