//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
)

// bench puts the tasks to the contestants and keeps what comes of it.
type bench struct {
	setup
	options
	contestants []contestant
	known       *known
	results     results
}

// contestant is a proxy that is there.
type contestant struct {
	proxy
	Path    string
	Version string
}

// calm is how much of the two cores others may use before a sample is taken
// again, and tries how often at most.
const (
	calm  = 0.05
	tries = 3
)

// newBench finds the proxies. The caller closes it.
func newBench(o options, log io.Writer) (*bench, error) {
	load, proxy, err := twoCPUs()
	if err != nil {
		return nil, err
	}
	if _, err := raiseFiles(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pen-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o}
	b.setup = setup{loadCPU: load, proxyCPU: proxy, time: o.time, log: log, dir: dir}
	b.known = newKnown(&b.setup)
	for _, p := range append(proxies(o.program), stickTable()) {
		b.invite(p)
	}
	return b, nil
}

// invite lets a proxy take part if it was asked for and is there.
func (b *bench) invite(p proxy) {
	if !b.proxies.MatchString(p.Name) {
		return
	}
	path, err := p.find()
	if err != nil {
		b.results.note("%s is left out: %v.", p.Name, err)
		fmt.Fprintln(b.log, "bench: left out:", err)
		return
	}
	b.contestants = append(b.contestants, contestant{p, path, p.version(path)})
}

func (b *bench) close() {
	b.known.close()
	_ = os.RemoveAll(b.dir)
}

// run puts every task to every contestant, round by round. What one proxy cannot
// do is noted and does not stop the others.
func (b *bench) run(ctx context.Context) error {
	tasks := slices.DeleteFunc(b.tasks(), func(t task) bool { return !b.cases.MatchString(t.Name) })
	for round := range b.rounds {
		for _, t := range tasks {
			for _, c := range rotated(b.contestants, round) {
				if !slices.Contains(t.Proxies, c.Name) {
					continue
				}
				b.ask(ctx, round, key{t.Name, c.Name}, func(ctx context.Context) (sample, error) {
					return t.Measure(ctx, c)
				})
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
			}
			if t.Direct != nil {
				b.ask(ctx, round, key{t.Name, direct}, t.Direct)
			}
		}
	}
	return nil
}

// rotated begins with another contestant in each round, so that nobody is always
// the first.
func rotated(all []contestant, round int) []contestant {
	if len(all) == 0 {
		return nil
	}
	n := round % len(all)
	return slices.Concat(all[n:], all[:n])
}

// ask takes one sample, again if others disturbed it, and keeps the calmest.
func (b *bench) ask(ctx context.Context, round int, k key, measure func(context.Context) (sample, error)) {
	var best sample
	var failure error
	for range tries {
		b.awaitCalm(ctx)
		s, err := measure(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failure = err
			continue
		}
		if best == nil || s[foreign] < best[foreign] {
			best = s
		}
		if best[foreign] <= calm {
			break
		}
	}
	if best == nil {
		b.results.note("%s, %s: %v.", k.Case, k.Proxy, failure)
		b.progress(round, k, failure)
		return
	}
	b.results.add(round, k, best)
	b.progress(round, k, best)
}

func (b *bench) progress(round int, k key, what any) {
	fmt.Fprintf(b.log, "%d %-12s %-20s %v\n", round+1, k.Case, k.Proxy, what)
}

// tasks are all questions that there are.
func (b *bench) tasks() []task {
	everybody := []string{ours, original, haproxy, spliced, nginx}
	var tasks []task
	for _, c := range loadCases {
		t := task{
			Name: c.Name, Proxies: c.contenders(),
			Measure: func(ctx context.Context, p contestant) (sample, error) { return b.measure(ctx, c, &p) },
		}
		if !c.Load.secure() { // the backend talks no TLS
			t.Direct = func(ctx context.Context) (sample, error) { return b.measure(ctx, c, nil) }
		}
		tasks = append(tasks, t)
	}
	for _, conns := range idleSizes {
		tasks = append(tasks, task{
			Name: idleCase(conns), Proxies: everybody,
			Measure: func(ctx context.Context, c contestant) (sample, error) { return b.idle(ctx, conns, &c, false) },
		})
	}
	tasks = append(tasks, task{
		Name: idleTLSCase, Proxies: []string{ours, haproxy, nginx},
		Measure: func(ctx context.Context, c contestant) (sample, error) { return b.idle(ctx, idleTLS, &c, true) },
	})
	tasks = append(tasks, task{
		Name: "start", Proxies: everybody,
		Measure: func(ctx context.Context, c contestant) (sample, error) { return b.start(ctx, &c) },
	})
	return append(tasks, b.known.tasks()...)
}

// report is all that came of it.
func (b *bench) report(e environment) reported {
	r := reported{
		Command: e.Command, Date: e.Date, Machine: e.Machine, Private: e.Private,
		Rounds: b.rounds, Time: b.options.time, Cases: loadCases, results: &b.results,
	}
	for _, c := range b.contestants {
		r.Proxies = append(r.Proxies, [3]string{c.Name, c.Version, c.How})
	}
	return r
}
