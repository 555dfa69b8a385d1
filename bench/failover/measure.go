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

// sample is what one fault did to the clients, and the node's return after it.
type sample struct {
	Gap     time.Duration `json:"gap_ns"`
	Overlap time.Duration `json:"overlap_ns"`
	Stall   time.Duration `json:"stall_ns"` // of the observers, in the gap
	Late    time.Duration `json:"late_ns"`  // of the observers, at any time
	Refused int           `json:"refused"`
	Lost    int           `json:"lost"`
	CutOff  int           `json:"cut_off"`
	Clients int           `json:"clients"`
	Moved   int           `json:"moved"`
	Return  time.Duration `json:"return_ns"`
}

func sampleOf(fault, repair lab.Report) sample {
	return sample{
		Gap: fault.Gap, Overlap: max(fault.Overlap, repair.Overlap), Stall: fault.Stall, Late: max(fault.Late, repair.Late),
		Refused: fault.Refused, Lost: fault.Lost, CutOff: fault.Reset + fault.Mute,
		Clients: fault.Clients, Moved: max(fault.Moved, repair.Moved), Return: repair.Gap,
	}
}

// stalled tells whether the gap may be the observers': the machine did not run
// them for a good part of it.
func (s sample) stalled() bool {
	const worth = 10 * time.Millisecond
	return s.Stall >= worth && s.Stall > s.Gap/10
}

// clients is how many look on. Each comes again every second.
const clients = 200

// pause is how long at most a contender is left in peace before a fault: it
// falls anywhere between two heartbeats.
const pause = time.Second

// estimate is how long the measurement takes without retakes.
func (r *results) estimate() (all time.Duration) {
	const starts = 400 * time.Millisecond // of programs, and looking for the holder
	for _, c := range r.contenders {
		all += time.Duration(r.rounds*len(r.faults)) * (c.window + c.settle + pause/2 + starts)
	}
	return all
}

// measure puts all faults to all contenders.
func (r *results) measure(ctx context.Context, o options, progress io.Writer) error {
	r.rounds, r.Date = o.rounds, time.Now()
	for _, f := range faults() {
		if o.faults.MatchString(f.Name) {
			r.faults = append(r.faults, f)
		}
	}
	for _, c := range contenders(o.bin) {
		if !o.contenders.MatchString(c.Name) || c.extra && o.contenders.String() == "" {
			continue
		}
		if err := c.missing(); err != nil {
			r.note("%s was not measured: %v.", c.Name, err)
			continue
		}
		r.contenders = append(r.contenders, c)
	}
	if len(r.faults) == 0 || len(r.contenders) == 0 {
		return errors.New("there is nothing to measure: look at -run and -contenders")
	}
	fmt.Fprintf(progress, "this takes about %v\n", r.estimate().Round(time.Minute/2))
	for _, c := range r.contenders {
		if err := r.contend(ctx, c, progress); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

func (r *results) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
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
	w, err := l.Watch(clients)
	if err != nil {
		return err
	}
	if err := sleep(ctx, c.settle+pause); err != nil {
		return err
	}
	for _, f := range r.faults {
		delete(r.Samples, nameOf(c.Name, f.Name))
	}
	t := trial{contender: c, cluster: cl, lab: l, watch: w}
	for round := range r.rounds {
		for _, f := range r.faults {
			s, err := r.take(ctx, t, f, progress)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", f.Name, round+1, err)
			}
			r.Samples[nameOf(c.Name, f.Name)] = append(r.Samples[nameOf(c.Name, f.Name)], s)
			fmt.Fprintf(progress, "%s, %s, round %d: %s\n", c.Name, f.Name, round+1, s)
		}
	}
	return nil
}

func (s sample) String() string {
	return fmt.Sprintf("gap %.1f ms, two answered for %.1f ms, refused %d, lost %d, moved %d of %d; at the return gap %.1f ms; observers late %.1f ms, in the gap %.1f ms",
		ms(s.Gap), ms(s.Overlap), s.Refused, s.Lost, s.Moved, s.Clients, ms(s.Return), ms(s.Late), ms(s.Stall))
}

// take is one fault. A gap in which the observers did not run is taken again, twice at
// most, whoever the contender is; so that a bad result is not the cause of another try
// the gap itself plays no part in that.
func (r *results) take(ctx context.Context, t trial, f fault, progress io.Writer) (s sample, err error) {
	const most = 2
	for again := 0; ; again++ {
		if s, err = t.befall(ctx, f); err != nil || !s.stalled() {
			return s, err
		}
		if again == most {
			r.Stalled[t.contender.Name]++
			return s, nil
		}
		r.Retaken[t.contender.Name]++
		fmt.Fprintf(progress, "%s, %s, taken again: %s\n", t.contender.Name, f.Name, s)
	}
}

// trial is a contender that runs, and who looks on.
type trial struct {
	contender contender
	cluster   programs
	lab       *lab.Lab
	watch     *lab.Watch
}

// befall is one fault and its repair.
func (t trial) befall(ctx context.Context, f fault) (s sample, err error) {
	if err := t.cluster.rest(ctx); err != nil {
		return s, err
	}
	holder, err := ready(ctx, t.lab, t.cluster)
	if err != nil {
		return s, err
	}
	if err := sleep(ctx, rand.N(pause)); err != nil {
		return s, err
	}
	from := time.Now()
	if err := f.do(t.cluster, holder); err != nil {
		return s, err
	}
	if err := sleep(ctx, time.Until(from.Add(t.contender.window))); err != nil {
		return s, err
	}
	back := time.Now()
	if err := f.undo(holder); err != nil {
		return s, err
	}
	for _, n := range t.lab.Nodes {
		if err := t.cluster.start(n); err != nil {
			return s, err
		}
	}
	if err := sleep(ctx, time.Until(back.Add(t.contender.settle))); err != nil {
		return s, err
	}
	// Both together, since a report waits for requests that are under way.
	end := time.Now()
	repair := t.watch.Report(back, end)
	fault := t.watch.Report(from, from.Add(t.contender.window))
	return sampleOf(fault, repair), errors.Join(fault.Err, repair.Err, ctx.Err())
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
