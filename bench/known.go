//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"
)

// firstKnown is the first of the known clients; they are counted up from it.
var firstKnown = netip.MustParseAddr("127.16.0.0")

// known asks what a connection costs when many clients are known. Filling a
// table takes longer than measuring, so each stage is set once, and stays for
// all rounds.
type known struct {
	*setup
	stages map[key]*knownStage
}

// knownStage is a stage whose proxy knows its clients, or why there is none.
type knownStage struct {
	*stage
	err error
}

func newKnown(s *setup) *known { return &known{s, make(map[key]*knownStage)} }

func (k *known) close() {
	for _, st := range k.stages {
		if st.err == nil {
			st.strike()
		}
	}
}

// tasks have haproxy without a table in them: what it needs more for many
// clients is the kernel's part.
func (k *known) tasks() []task {
	var tasks []task
	for _, size := range knownSizes {
		name := knownCase(size)
		proxies := []string{ours, haproxy, remembers}
		if size <= mostForOriginal {
			proxies = append(proxies, original)
		}
		tasks = append(tasks, task{
			Name: name, Proxies: proxies,
			Measure: func(ctx context.Context, c contestant) (sample, error) {
				return k.measure(ctx, key{name, c.Name}, size, c)
			},
		})
	}
	return tasks
}

func (k *known) measure(ctx context.Context, id key, size int, c contestant) (sample, error) {
	st := k.stages[id]
	if st == nil {
		st = &knownStage{}
		st.stage, st.err = k.set(ctx, size, c)
		k.stages[id] = st
	}
	if st.err != nil {
		return nil, st.err
	}
	return st.measure(loadJob{
		Mode: connects, Conns: atOnce, FirstClient: firstKnown, Clients: size, Random: true,
		Warm: k.warm(), Time: k.time,
	})
}

// set starts the proxy and lets it know its clients.
func (k *known) set(ctx context.Context, size int, c contestant) (st *stage, err error) {
	r := request{proxy: &c, mode: echo, conns: defaultConns, clients: size}
	if c.Name == ours {
		r.data = filepath.Join(k.dir, "data-"+knownCase(size))
		if err := k.prepareData(ctx, r, size); err != nil {
			return nil, err
		}
	}
	if st, err = k.setup.set(ctx, r); err != nil {
		return nil, err
	}
	switch c.Name {
	case remembers:
		err = fillStickTable(filepath.Join(st.dir, stickTableSocket), size)
	case original:
		err = st.visitAll(size)
	}
	if err != nil {
		st.strike()
		return nil, fmt.Errorf("fill the table of %d clients: %w", size, err)
	}
	return st, nil
}

// visitAll makes one connection from each client.
func (st *stage) visitAll(size int) error {
	done, err := st.run(loadJob{
		Mode: connects, Conns: atOnce, FirstClient: firstKnown, Clients: size,
		Time: 5 * time.Minute, Limit: uint64(size),
	})
	if err == nil && done.Failures > 0 {
		err = errors.New(done.First)
	}
	return err
}
