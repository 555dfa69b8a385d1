//go:build linux

// Chaos lets faults happen to clusters in network namespaces, by the thousand and
// drawn from a seed, and says what must never be and was: docs/chaos.md.
//
//	make chaos
//	go run ./test/chaos -faults 100 -seed 7
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "the directory with pen and penctl")
	flag.IntVar(&o.faults, "faults", 1000, "how many")
	flag.Uint64Var(&o.seed, "seed", 0, "what the faults are drawn from; 0: any")
	flag.IntVar(&o.from, "from", 1, "begin with the round of this fault, on a new cluster")
	flag.IntVar(&o.to, "to", 0, "end with the round of this fault; 0: with the last")
	flag.BoolVar(&o.first, "first", false, "end with the first violation")
	flag.BoolVar(&o.print, "print", false, "print the faults and do nothing")
	flag.StringVar(&o.only, "only", "", "only rounds with a fault of this kind")
	flag.StringVar(&o.markdown, "markdown", "", "write the report into this file")
	flag.StringVar(&o.logs, "logs", "", "where to keep the nodes' logs after a violation; empty: a new directory in that for temporary files")
	flag.DurationVar(&o.limit, "hold", holdTime, "how long nobody may hold the address where somebody can")
	flag.Parse()
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

type options struct {
	bin            string
	faults         int
	seed           uint64
	from, to       int
	first, print   bool
	markdown, logs string
	only           string
	limit          time.Duration
}

func (o options) run(ctx context.Context, out io.Writer) (err error) {
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}
	plan := o.part(planOf(o.seed, o.faults))
	if o.print {
		for _, e := range plan {
			for _, r := range e.rounds {
				for _, s := range r.strikes {
					say("fault %d: %s", s.number, s)
				}
			}
		}
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: sudo make chaos")
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	say("seed %d", o.seed)
	t, began := newTally(), time.Now()
	for _, e := range plan {
		if err := o.episode(ctx, e, t, say); err != nil {
			return err
		}
		if ctx.Err() != nil || o.first && len(t.violations) > 0 {
			break
		}
	}
	outing := outing{began, time.Since(began), o.seed, version(ctx, o.bin), thisMachine(), o.limit}
	say("%s", report(outing, t))
	if o.markdown != "" && ctx.Err() == nil {
		err = writeReport(o.markdown, outing, t)
	}
	if n := len(t.violations); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d violations; seed %d", n, o.seed))
	}
	return errors.Join(err, ctx.Err())
}

// part leaves out what is not asked for.
func (o options) part(plan []episode) (left []episode) {
	for _, e := range plan {
		var rounds []round
		for _, r := range e.rounds {
			last := r.strikes[len(r.strikes)-1].number
			if last >= o.from && (o.to == 0 || r.strikes[0].number <= o.to) && (o.only == "" || r.has(o.only)) {
				rounds = append(rounds, r)
			}
		}
		if e.rounds = rounds; len(rounds) > 0 {
			left = append(left, e)
		}
	}
	return left
}

// episode plays a part of the plan on a cluster of its own. After a violation that
// the cluster does not recover from, the rest is played on another one.
func (o options) episode(ctx context.Context, e episode, t *tally, say func(string, ...any)) error {
	for len(e.rounds) > 0 && ctx.Err() == nil {
		left, err := o.rounds(ctx, e, t, say)
		if err != nil {
			return err
		}
		if e.rounds = left; o.first && len(t.violations) > 0 {
			return nil
		}
	}
	return nil
}

func (o options) rounds(ctx context.Context, e episode, t *tally, say func(string, ...any)) (left []round, err error) {
	say("%s  episode %d: %v", clock(time.Now()), e.number, e.lineup)
	p, err := begin(o.bin, o.limit, e, t, say)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, p.leave())
		t.add(p.writer.counts)
	}()
	for i, r := range e.rounds {
		if ctx.Err() != nil {
			return nil, nil
		}
		wrong := p.round(r)
		t.clusters[e.lineup]++
		if len(wrong) == 0 {
			continue
		}
		if err := o.confess(p, r, wrong, t, say); err != nil {
			return nil, err
		}
		if o.first || wrong[len(wrong)-1] == notWell {
			return e.rounds[i+1:], nil
		}
	}
	return nil, nil
}

// confess tells of violations and keeps what is needed to understand them.
func (o options) confess(p *play, r round, wrong []string, t *tally, say func(string, ...any)) error {
	text := fmt.Sprintf("VIOLATION in the round of fault %d, seed %d (replay: -seed %d -faults %d -from %d -to %d)\n%s",
		r.strikes[0].number, o.seed, o.seed, o.faults, r.strikes[0].number, r.strikes[0].number, strings.Join(wrong, "\n"))
	dir := o.logs
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "pen-chaos-"); err != nil {
			return err
		}
	}
	dir = filepath.Join(dir, fmt.Sprintf("fault-%d", r.strikes[0].number))
	if err := p.keep(dir); err != nil {
		return err
	}
	trace := text + "\n\nWhat was seen, in ms:\n" + p.watch.Trace(time.Now().Add(-time.Minute), time.Now())
	if err := os.WriteFile(filepath.Join(dir, "seen.txt"), []byte(trace), 0o644); err != nil {
		return err
	}
	say("%s\nThe logs of all nodes are in %s.", text, dir)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.violations = append(t.violations, text)
	return nil
}

func version(ctx context.Context, bin string) string {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "pen"), "--version").CombinedOutput()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
