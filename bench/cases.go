//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// task is one question, put to several proxies in each round.
type task struct {
	Name    string
	Proxies []string
	Measure func(ctx context.Context, c contestant) (sample, error)
	Direct  func(ctx context.Context, none contestant) (sample, error) // without a proxy; may be nil
}

// loadCase is a task of the common kind: a load for some time, and the CPU time
// that the proxy needs for it.
type loadCase struct {
	Name    string
	Backend backendMode
	Load    loadMode
	Conns   int
}

// bulk tells whether bytes count, not operations.
func (c loadCase) bulk() bool { return c.Load == receive || c.Load == send }

var loadCases = []loadCase{
	{"connrate", echo, connects, 64},
	{"pp64", echo, roundTrip, 64},
	{"down1", source, receive, 1},
	{"down8", source, receive, 8},
	{"down64", source, receive, 64},
	{"up1", sink, send, 1},
	{"up8", sink, send, 8},
	{"up64", sink, send, 64},
}

// caseNames are the names of the load cases, in order.
func caseNames() []string {
	names := make([]string, len(loadCases))
	for i, c := range loadCases {
		names[i] = c.Name
	}
	return names
}

// isBulk tells whether the load case of that name counts bytes.
func isBulk(name string) bool {
	return slices.ContainsFunc(loadCases, func(c loadCase) bool { return c.Name == name && c.bulk() })
}

// defaultConns is the size of a proxy's table of connections where the case
// does not ask for more.
const defaultConns = 500

// measure sets a stage for the case and loads it once. Without a proxy the
// clients talk to the backend.
func (s *setup) measure(ctx context.Context, c loadCase, p *contestant) (sample, error) {
	st, err := s.set(ctx, request{proxy: p, mode: c.Backend, conns: defaultConns})
	if err != nil {
		return nil, err
	}
	defer st.strike()
	return st.measure(loadJob{
		Mode: c.Load, Conns: c.Conns, FirstClient: firstClient, Clients: ordinaryClients,
		Warm: s.warm(), Time: s.time,
	})
}

// measure loads the stage once and works out the figures.
func (st *stage) measure(job loadJob) (sample, error) {
	watch := newForeignWatch(st)
	done, err := st.run(job)
	if err != nil {
		return nil, err
	}
	s, err := figures(done, job.Mode == receive || job.Mode == send)
	if err != nil {
		return nil, err
	}
	if st.proxy == nil {
		delete(s, cpuEach)
		delete(s, busy)
	}
	if part, ok := watch.part(st.spent); ok {
		s[foreign] = part
	}
	return s, nil
}

// figures works out what an outcome means.
func figures(done outcome, bulk bool) (sample, error) {
	count, scale := float64(done.Ops), 1e-3 // ns in us
	if bulk {
		count, scale = float64(done.Bytes)/1e9, 1e-9
	}
	if count == 0 {
		return nil, fmt.Errorf("nothing came through in %v", done.Took.Round(time.Millisecond))
	}
	if done.Failures > done.Ops/1000 {
		return nil, fmt.Errorf("%d failures in %d operations, the first: %s", done.Failures, done.Ops, done.First)
	}
	s := sample{
		cpuEach: float64(done.CPU) * scale / count,
		rate:    count / done.Took.Seconds(),
		busy:    done.CPU.Seconds() / done.Took.Seconds(),
	}
	if !bulk {
		s[p50] = float64(done.P50) / 1e3
		s[p99] = float64(done.P99) / 1e3
	}
	return s, nil
}
