//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"pen/test/lab"
)

// sample is what one fault did to the clients.
type sample struct {
	fault, repair lab.Report
}

// samples of a contender and a fault.
type key struct{ contender, fault string }

type results struct {
	args       []string
	rounds     int
	date       time.Time
	contenders []contender
	faults     []fault
	samples    map[key][]sample
	notes      []string
}

// clients is how many look on. Each comes again every second.
const clients = 200

// measure puts all faults to all contenders.
func measure(ctx context.Context, o options, progress io.Writer) (*results, error) {
	r := &results{rounds: o.rounds, date: time.Now(), samples: map[key][]sample{}}
	for _, f := range faults() {
		if o.faults.MatchString(f.Name) {
			r.faults = append(r.faults, f)
		}
	}
	for _, c := range contenders(o.bin) {
		if !o.contenders.MatchString(c.Name) {
			continue
		}
		if err := c.missing(); err != nil {
			r.notes = append(r.notes, fmt.Sprintf("%s was not measured: %v.", c.Name, err))
			continue
		}
		r.contenders = append(r.contenders, c)
		if err := r.contend(ctx, c, progress); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	if len(r.samples) == 0 {
		return nil, errors.New("nothing was measured")
	}
	return r, nil
}

// contend puts all faults to one contender, in a lab of its own.
func (r *results) contend(ctx context.Context, c contender, progress io.Writer) (err error) {
	l, err := lab.New(lab.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	cl, err := c.build(l)
	if err != nil {
		return err
	}
	for _, n := range l.Nodes {
		if err := cl.start(n); err != nil {
			return err
		}
	}
	if _, err := ready(ctx, l, cl); err != nil {
		return err
	}
	if err := sleep(ctx, c.settle); err != nil {
		return err
	}
	for round := range r.rounds {
		for _, f := range r.faults {
			s, err := befall(ctx, c, cl, l, f)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", f.Name, round+1, err)
			}
			k := key{c.Name, f.Name}
			r.samples[k] = append(r.samples[k], s)
			fmt.Fprintf(progress, "%s, %s, round %d: gap %.1f ms, two answered for %.1f ms, moved %d of %d; at the repair gap %.1f ms\n",
				c.Name, f.Name, round+1, ms(s.fault.Gap), ms(s.fault.Overlap), s.fault.Moved, s.fault.Clients, ms(s.repair.Gap))
		}
	}
	return nil
}

// befall is one fault and its repair.
func befall(ctx context.Context, c contender, cl cluster, l *lab.Lab, f fault) (s sample, err error) {
	holder, err := ready(ctx, l, cl)
	if err != nil {
		return s, err
	}
	w, err := l.Watch(clients)
	if err != nil {
		return s, err
	}
	defer w.Stop()
	// All clients come once, and the fault falls anywhere between two heartbeats.
	if err := sleep(ctx, 1200*time.Millisecond+rand.N(time.Second)); err != nil {
		return s, err
	}
	from := time.Now()
	if err := f.do(cl, holder); err != nil {
		return s, err
	}
	s.fault = w.Report(from, from.Add(c.window))
	from = time.Now()
	if err := f.undo(holder); err != nil {
		return s, err
	}
	for _, n := range l.Nodes {
		if err := cl.start(n); err != nil {
			return s, err
		}
	}
	s.repair = w.Report(from, from.Add(c.settle))
	return s, errors.Join(s.fault.Err, s.repair.Err, ctx.Err())
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
