//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"pen/test/lab"
)

// loaded is what became of the cluster while its machine had no time left.
type loaded struct {
	For      time.Duration `json:"for_ns"`
	Answered int64         `json:"answered"`
	Failed   int64         `json:"failed"`
	Busy     float64       `json:"busy"`  // share of all processors
	Moves    int           `json:"moves"` // of the address, as the nodes counted them
	Lapsed   uint64        `json:"lapsed"`
	Gap      time.Duration `json:"gap_ns"`
	Overlap  time.Duration `json:"overlap_ns"`
}

// loadFor keeps all processors busy with traffic through the holder.
func loadFor(ctx context.Context, o options, progress io.Writer) (res *loaded, err error) {
	l, err := lab.New(lab.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	cl, err := newPens(l, o.bin, false)
	if err != nil {
		return nil, err
	}
	p := cl.(pens)
	if err := p.Start(l.Nodes...); err != nil {
		return nil, err
	}
	if err := p.rest(ctx); err != nil {
		return nil, err
	}
	w, err := l.Watch(clients)
	if err != nil {
		return nil, err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	const threads = 16
	load := l.Load(loading, threads)
	if err := sleep(ctx, 2*time.Second); err != nil {
		return nil, err
	}
	before, err := p.tally(ctx)
	if err != nil {
		return nil, err
	}
	answered, failed := load.Answered.Load(), load.Failed.Load()
	from, idle := time.Now(), idleTime()
	for left := o.load; left > 0; left = o.load - time.Since(from) {
		fmt.Fprintf(progress, "%v left, %d requests answered\n", left.Round(time.Second), load.Answered.Load())
		if err := sleep(ctx, min(left, time.Minute)); err != nil {
			return nil, err
		}
	}
	res = &loaded{For: o.load, Busy: 1 - (idleTime()-idle)/time.Since(from).Seconds()/processors()}
	res.Answered, res.Failed = load.Answered.Load()-answered, load.Failed.Load()-failed
	after, err := p.tally(ctx)
	stop()
	load.Wait()
	seen := w.Report(from, from.Add(o.load))
	res.Moves, res.Lapsed = after.moves-before.moves, after.lapsed-before.lapsed
	res.Gap, res.Overlap = seen.Gap, seen.Overlap
	return res, errors.Join(err, seen.Err)
}

// tally is what the nodes have counted.
type tally struct {
	moves  int
	lapsed uint64
}

func (p pens) tally(ctx context.Context) (all tally, err error) {
	for _, n := range p.nodes {
		text, err := p.Ask(ctx, n, "cluster", "json")
		if err != nil {
			return all, err
		}
		var st struct {
			Moves   int `json:"moves"`
			Address struct {
				Lapsed uint64 `json:"lapsed"`
			} `json:"address"`
		}
		if err := json.Unmarshal([]byte(text), &st); err != nil {
			return all, fmt.Errorf("cluster json of %s: %w", n.Name, err)
		}
		all.moves = max(all.moves, st.Moves)
		all.lapsed += st.Address.Lapsed
	}
	return all, nil
}

// cpu is the first line of /proc/stat in clock ticks: user, nice, system, idle,
// waiting for a disk, and so on.
func cpu() []string {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.Fields(line)
}

// idleTime is for how many seconds processors have had nothing to do, together.
func idleTime() float64 {
	const ticks = 100 // USER_HZ, the same on every system
	fields := cpu()
	if len(fields) < 6 {
		return 0
	}
	var idle, waiting float64
	_, _ = fmt.Sscan(fields[4], &idle)
	_, _ = fmt.Sscan(fields[5], &waiting)
	return (idle + waiting) / ticks
}

// processors is how many there are in the machine.
func processors() float64 {
	text, _ := os.ReadFile("/proc/stat")
	return float64(strings.Count(string(text), "\ncpu"))
}

// String is the section of the document; empty if nothing was measured.
func (r *loaded) String() string {
	if r == nil {
		return ""
	}
	verdict := "yes"
	if r.Moves > 0 {
		verdict = "**no**"
	}
	return fmt.Sprintf("\n### No time left\n\nClients in the same machine fetched through the holder as fast as they were answered, for %v: "+
		"the processors were busy for %.0f %% of the time, with %.0f requests a second, of which %d in all failed. "+
		"The kernel leases lapsed %d times. The longest time without an answer to the clients that look on was %.0f ms.\n\n"+
		"| what | goal | reached | |\n| --- | ---: | ---: | --- |\n| elections | 0 | %d | %s |\n| two nodes answering, ms | 0 | %.0f | |\n",
		r.For, 100*r.Busy, float64(r.Answered)/r.For.Seconds(), r.Failed, r.Lapsed, ms(r.Gap), r.Moves, verdict, ms(r.Overlap))
}
