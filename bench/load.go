//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// maxFailures ends a run that only piles up failures.
const maxFailures = 1000

// atOnce is how many connections are opened together where they are then held.
const atOnce = 64

// load generates the clients: one loop, a fixed number of connections, and no
// memory taken while it runs.
type load struct {
	job     loadJob
	poll    *poller
	conns   []conn
	opened  int   // connections that were opened so far, see opening
	broken  []int // connections to be opened anew
	target  *unix.SockaddrInet4
	from    unix.SockaddrInet4
	next    uint32 // client whose turn it is
	random  *rand.Rand
	message [messageSize]byte
	request []byte // what is sent: the message, or a request of HTTP
	bulk    []byte
	latency histogram
	done    outcome
	ended   bool // the limit of the job was reached
}

// conn is one connection; its index is its number in the poller.
type conn struct {
	fd      int
	started time.Time // of the operation under way
	asked   bool      // the message has been sent
	got     int       // bytes of the answer so far
	answer  [answerMost]byte
}

func newLoad(job loadJob) (*load, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &load{
		job: job, poll: poll, conns: make([]conn, job.Conns), target: sockaddr(job.Target),
		random: rand.New(rand.NewPCG(1, 2)), bulk: make([]byte, bulkBuffer),
	}
	l.message = newMessage()
	l.request = l.message[:]
	if job.Mode == requests {
		l.request = []byte(pageRequest)
	}
	for i := range l.conns {
		l.conns[i].fd = -1
	}
	if job.Mode == hold {
		l.job.Limit = uint64(job.Conns)
	}
	return l, nil
}

func (l *load) close() {
	for i := range l.conns {
		if l.conns[i].fd >= 0 {
			unix.Close(l.conns[i].fd)
		}
	}
	l.poll.close()
}

// run measures once. The connections stay open until close.
func (l *load) run(ctx context.Context) (outcome, error) {
	begin := len(l.conns)
	if l.job.Mode == hold {
		begin = min(begin, atOnce)
	}
	for range begin {
		l.opening()
	}
	if l.job.Warm > 0 {
		if err := l.until(ctx, time.Now().Add(l.job.Warm)); err != nil {
			return outcome{}, err
		}
		l.done, l.latency = outcome{}, histogram{}
	}
	before, err := cpuTime(l.job.Watch)
	if err != nil {
		return outcome{}, err
	}
	started := time.Now()
	if err := l.until(ctx, started.Add(l.job.Time)); err != nil {
		return outcome{}, err
	}
	l.done.Took = time.Since(started)
	after, err := cpuTime(l.job.Watch)
	if err != nil {
		return outcome{}, err
	}
	l.done.CPU = after - before
	l.done.P50, l.done.P99 = l.latency.quantile(0.5), l.latency.quantile(0.99)
	return l.done, l.complete()
}

// complete tells whether a job with a limit got there.
func (l *load) complete() error {
	if l.job.Limit > 0 && !l.ended {
		return fmt.Errorf("%d of %d operations in %v", l.done.Ops, l.job.Limit, l.job.Time)
	}
	return nil
}

// until serves the connections to that moment, or to the job's own end.
func (l *load) until(ctx context.Context, end time.Time) error {
	for !l.ended && ctx.Err() == nil {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		events, err := l.poll.wait(min(left, 100*time.Millisecond))
		if err != nil {
			return err
		}
		for _, ev := range events {
			l.serve(int(ev.Fd))
		}
		if err := l.mend(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// mend opens what has failed anew.
func (l *load) mend() error {
	if l.done.Failures > maxFailures {
		return fmt.Errorf("gave up after %d failures, the first: %s", l.done.Failures, l.done.First)
	}
	broken := l.broken
	l.broken = nil
	for _, i := range broken {
		l.open(i)
	}
	return nil
}
