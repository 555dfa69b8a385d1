//go:build linux

package main

import (
	"context"
)

// task is one question, put to several proxies in each round.
type task struct {
	Name    string
	Proxies []string
	Measure func(ctx context.Context, c contestant) (sample, error)
	Direct  func(ctx context.Context) (sample, error) // without a proxy; nil: not asked
}

// defaultConns is the size of a proxy's table of connections where the case
// does not ask for more.
const defaultConns = 500

// measure sets a stage for the case and loads it once. Without a proxy the
// clients talk to the backend.
func (s *setup) measure(ctx context.Context, c loadCase, p *contestant) (sample, error) {
	st, err := s.set(ctx, request{proxy: p, mode: c.Backend, secure: c.Load.secure(), conns: defaultConns})
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
	s, err := figures(done, job.Mode.bulk())
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
