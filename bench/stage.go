//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Addresses of a cell. The servers differ by address, so that a proxy has three
// times the ports for its connections to them.
var (
	listenAddr  = netip.MustParseAddrPort("127.0.0.1:8080")
	serverAddrs = []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.2:9001"),
		netip.MustParseAddrPort("127.0.0.3:9001"),
		netip.MustParseAddrPort("127.0.0.4:9001"),
	}
	// firstClient is the first of the sixty-four clients that the cases have which
	// do not ask for more.
	firstClient = netip.MustParseAddr("127.1.0.1")
)

const ordinaryClients = 64

// setup is what the measurements have in common.
type setup struct {
	loadCPU, proxyCPU int
	time              time.Duration // of one measurement
	log               io.Writer     // progress
	dir               string        // for temporary files
}

// warm is how long the load runs before it counts.
func (s *setup) warm() time.Duration { return min(s.time/4, 500*time.Millisecond) }

// stage is a proxy at work in a cell, with its backend.
type stage struct {
	*setup
	cell    *cell
	ctx     context.Context
	dir     string
	backend *helper
	proxy   *process // nil: clients talk to the backend
	target  netip.AddrPort
	// First is how long it took from the start of the proxy to the first answer.
	First time.Duration
	// spent is the CPU time of the load generator that ran last.
	spent time.Duration
}

// request says what stage to set.
type request struct {
	proxy   *contestant // nil: none
	mode    backendMode
	secure  bool // the proxy ends TLS
	conns   int
	clients int    // 0: the proxy's default
	data    string // directory of ours with clients to know; empty: none
}

// errProxyEnded means that a proxy ended before it answered.
var errProxyEnded = errors.New("ended before it answered")

// set makes a cell with a backend and the proxy in it, and waits until the
// proxy answers. The caller strikes the stage.
func (s *setup) set(ctx context.Context, r request) (*stage, error) {
	cell, err := newCell()
	if err != nil {
		return nil, err
	}
	st := &stage{setup: s, cell: cell, ctx: ctx, target: serverAddrs[0]}
	if st.dir, err = os.MkdirTemp(s.dir, "stage-"); err == nil {
		err = cell.do(func() error { return st.fill(r) })
	}
	if err != nil {
		st.strike()
		return nil, err
	}
	return st, nil
}

func (st *stage) fill(r request) error {
	var err error
	job := backendJob{Mode: r.mode, Listen: serverAddrs}
	if st.backend, err = startHelper(st.ctx, st.loadCPU, roleBackend, job); err != nil {
		return err
	}
	var answer ready
	if err := st.backend.read(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	if r.proxy == nil {
		return nil
	}
	p := place{
		Dir: st.dir, Listen: listenAddr, Servers: serverAddrs, Conns: r.conns, Clients: r.clients, Data: r.data,
		UDP: r.mode == packet, HTTP: r.mode == pages,
	}
	if r.secure {
		p.Certificate = filepath.Join(st.dir, "bench.pem")
		if err := writeCertificate(p.Certificate); err != nil {
			return err
		}
	}
	args, err := r.proxy.Arguments(p)
	if err != nil {
		return err
	}
	st.target = listenAddr
	started := time.Now()
	if st.proxy, err = startProcess(st.ctx, st.proxyCPU, append([]string{r.proxy.Path}, args...)); err != nil {
		return err
	}
	if err := st.await(r); err != nil {
		return fmt.Errorf("%s: %w: %s", r.proxy.Name, err, st.proxy.last())
	}
	st.First = time.Since(started)
	return nil
}

// await tries the proxy until it answers.
func (st *stage) await(r request) error {
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := probe(st.target, r.mode, r.secure)
		switch {
		case err == nil:
			return nil
		case st.proxy.ended():
			return errProxyEnded
		case st.ctx.Err() != nil:
			return st.ctx.Err()
		case time.Now().After(deadline):
			return fmt.Errorf("no answer: %w", err)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// strike ends everything on the stage.
func (st *stage) strike() {
	if st.proxy != nil {
		st.proxy.stop()
	}
	if st.backend != nil {
		st.backend.stop()
	}
	st.cell.close()
	if st.dir != "" {
		_ = os.RemoveAll(st.dir)
	}
}

// pids are those of the proxy, if there is one.
func (st *stage) pids() []int {
	if st.proxy == nil {
		return nil
	}
	return st.proxy.pids()
}

// run has one job done by the load generator.
func (st *stage) run(job loadJob) (done outcome, err error) {
	err = st.begin(job, func(h *helper) error {
		if err := h.read(&done); err != nil {
			return err
		}
		if done.Error != "" {
			return errors.New(done.Error)
		}
		return nil
	})
	return done, err
}

// begin starts the load generator with a job and ends it when f returns.
func (st *stage) begin(job loadJob, f func(*helper) error) error {
	job.Target, job.Watch = st.target, st.pids()
	ctx, cancel := context.WithTimeout(st.ctx, job.Warm+job.Time+30*time.Second)
	defer cancel()
	return st.cell.do(func() error {
		h, err := startHelper(ctx, st.loadCPU, roleLoad, job)
		if err != nil {
			return err
		}
		defer func() { st.spent = h.stop() }()
		return f(h)
	})
}
