//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// secureLoad generates clients that talk TLS: a goroutine for each, with package
// tls. What they cost does not count, only what the proxy needs for them.
type secureLoad struct {
	job     loadJob
	config  *tls.Config
	message [messageSize]byte

	ops, bytes, failures atomic.Uint64

	mu      sync.Mutex // guards the rest
	latency histogram
	first   string // what the first failure was
	held    []net.Conn
}

// newSecureLoad makes clients that want TLS 1.3 with X25519, which all proxies can
// do, and never resume a session. AES-128-GCM is the first that package tls offers.
func newSecureLoad(job loadJob) *secureLoad {
	return &secureLoad{job: job, config: &tls.Config{
		InsecureSkipVerify: true, // nobody here is somebody else
		MinVersion:         tls.VersionTLS13,
		CurvePreferences:   []tls.CurveID{tls.X25519},
	}}
}

func (l *secureLoad) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.held {
		c.Close()
	}
}

// run measures once. Connections to hold stay open until close.
func (l *secureLoad) run(ctx context.Context) (outcome, error) {
	if l.job.Mode == holdTLS {
		return l.hold(ctx)
	}
	ctx, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	for i := range l.job.Conns {
		clients.Go(func() { l.client(ctx, i) })
	}
	if err := rest(ctx, l.job.Warm); err != nil {
		return outcome{}, err
	}
	l.mu.Lock()
	l.latency = histogram{}
	l.mu.Unlock()
	before, begun := l.now(), time.Now()
	cpu, err := cpuTime(l.job.Watch)
	if err != nil {
		return outcome{}, err
	}
	if err := rest(ctx, l.job.Time); err != nil {
		return outcome{}, err
	}
	done := l.now()
	done.Took = time.Since(begun)
	after, err := cpuTime(l.job.Watch)
	if err != nil {
		return outcome{}, err
	}
	done.CPU = after - cpu
	done.Ops -= before.Ops
	done.Bytes -= before.Bytes
	done.Failures -= before.Failures
	l.mu.Lock()
	defer l.mu.Unlock()
	done.First = l.first
	done.P50, done.P99 = l.latency.quantile(0.5), l.latency.quantile(0.99)
	return done, nil
}

func (l *secureLoad) now() outcome {
	return outcome{Ops: l.ops.Load(), Bytes: l.bytes.Load(), Failures: l.failures.Load()}
}

// rest waits, unless ctx ends before.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// client is one client's life.
func (l *secureLoad) client(ctx context.Context, i int) {
	for ctx.Err() == nil && l.failures.Load() <= maxFailures {
		var err error
		if l.job.Mode == receiveTLS {
			err = l.receive(ctx, i)
		} else {
			err = l.visit(ctx, i)
		}
		if err != nil && ctx.Err() == nil {
			l.fail(err)
		}
	}
}

func (l *secureLoad) fail(err error) {
	l.failures.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = err.Error()
	}
}

// visit connects, asks once, and leaves.
func (l *secureLoad) visit(ctx context.Context, i int) error {
	begun := time.Now()
	c, err := l.open(ctx, i)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := l.ask(c); err != nil {
		return err
	}
	l.mu.Lock()
	l.latency.add(time.Since(begun))
	l.mu.Unlock()
	l.ops.Add(1)
	return nil
}

// receive takes all that comes.
func (l *secureLoad) receive(ctx context.Context, i int) error {
	c, err := l.open(ctx, i)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.NetConn().Close() })()
	buffer := make([]byte, bulkBuffer)
	for {
		n, err := c.Read(buffer)
		l.bytes.Add(uint64(n))
		if err != nil {
			return err
		}
	}
}

// hold opens the connections one after the other and asks on each.
func (l *secureLoad) hold(ctx context.Context) (outcome, error) {
	ctx, stop := context.WithTimeout(ctx, l.job.Time)
	defer stop()
	for i := range l.job.Conns {
		c, err := l.open(ctx, i)
		if err != nil {
			return outcome{}, err
		}
		l.mu.Lock()
		l.held = append(l.held, c)
		l.mu.Unlock()
		if err := l.ask(c); err != nil {
			return outcome{}, fmt.Errorf("%d of %d connections: %w", i, l.job.Conns, err)
		}
		l.ops.Add(1)
	}
	return l.now(), nil
}

// open connects as the client of that number, and shakes hands.
func (l *secureLoad) open(ctx context.Context, i int) (*tls.Conn, error) {
	var d net.Dialer
	if l.job.Clients > 0 {
		from := clientAddr(l.job.FirstClient, uint32(i%l.job.Clients))
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	bare, err := d.DialContext(ctx, "tcp", l.job.Target.String())
	if err != nil {
		return nil, err
	}
	c := tls.Client(bare, l.config)
	if err := c.HandshakeContext(ctx); err != nil {
		bare.Close()
		return nil, err
	}
	return c, nil
}

// ask does one round trip.
func (l *secureLoad) ask(c *tls.Conn) error {
	if _, err := c.Write(l.message[:]); err != nil {
		return err
	}
	var answer [messageSize]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	if answer != l.message {
		return errGarbled
	}
	return nil
}
