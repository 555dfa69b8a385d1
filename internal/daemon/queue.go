package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// queue stands between those who log and a reader that may be slow, stall or be
// gone. Whoever logs never waits: what the queue has no room for is dropped,
// counted, and reported when there is room again. The order stays.
type queue struct {
	// send delivers one message and tells whether that was possible. It may take
	// until end, and longer only if it can not be interrupted.
	send     func(m message, end time.Time) bool
	close    func() // after the last; nil: nothing to do
	messages chan message
	dropped  atomic.Uint64
}

// message is one line of the log, without its end.
type message struct {
	at    time.Time
	level slog.Level
	line  []byte
}

const (
	queueRoom  = 1024
	queueSend  = time.Second // for one message
	queueFlush = time.Second // at the end, for all
)

func newQueue(send func(message, time.Time) bool) *queue {
	return &queue{send: send, messages: make(chan message, queueRoom)}
}

// put is the sink. It never waits.
func (q *queue) put(at time.Time, level slog.Level, line []byte) {
	select {
	case q.messages <- message{at, level, line}:
	default:
		q.dropped.Add(1)
	}
}

// run delivers what is queued until ctx ends, then what is left, for a second.
// It tells whether all of it got out. If not, one goroutine may stay behind in
// a write that nothing but the end of the process interrupts.
func (q *queue) run(ctx context.Context) bool {
	done := make(chan struct{})
	go q.deliver(ctx, done)
	<-ctx.Done()
	late := time.NewTimer(queueFlush)
	defer late.Stop()
	select {
	case <-done:
		return len(q.messages) == 0
	case <-late.C:
		return false
	}
}

// deliver is the goroutine of run.
func (q *queue) deliver(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	if q.close != nil {
		defer q.close()
	}
	var reported uint64
	for {
		select {
		case m := <-q.messages:
			q.one(m, time.Now().Add(queueSend))
			if n := q.dropped.Load(); n != reported && len(q.messages) == 0 {
				q.one(loss(n-reported), time.Now().Add(queueSend))
				reported = n
			}
		case <-ctx.Done():
			q.flush(time.Now().Add(queueFlush))
			return
		}
	}
}

// flush delivers what is there, until end.
func (q *queue) flush(end time.Time) {
	for time.Now().Before(end) {
		select {
		case m := <-q.messages:
			q.one(m, end)
		default:
			return
		}
	}
}

func (q *queue) one(m message, end time.Time) {
	if !q.send(m, end) {
		q.dropped.Add(1)
	}
}

// loss is the message about lost messages.
func loss(n uint64) message {
	return message{time.Now(), slog.LevelWarn, fmt.Appendf(nil, "log messages dropped count=%d", n)}
}
