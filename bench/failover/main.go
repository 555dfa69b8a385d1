//go:build linux

// Command failover measures how long clients are without an answer when a node
// of a cluster fails: pen beside keepalived with haproxy, in the same network
// namespaces, with the same faults, observed by the same clients.
//
//	go run ./bench/failover                                  everything, printed; three quarters of an hour
//	go run ./bench/failover -run 'killed|power' -rounds 3    some faults only, and quick
//	go run ./bench/failover -contenders keepalived           some contenders only
//	go run ./bench/failover -markdown docs/benchmarks.md     rewrite the measured part of a document
//
// What belongs together can be measured in several runs, which keep their
// figures in a file. A fault that is measured again replaces what was there.
//
//	go run ./bench/failover -results FILE -contenders '^pen$'
//	go run ./bench/failover -results FILE -contenders keepalived
//	go run ./bench/failover -results FILE -load 10m          no fault, but both cores are busy
//	go run ./bench/failover -results FILE -newcomers 20s     clients that nobody knows, 50,000 a second
//	go run ./bench/failover -results FILE -rounds 0 -markdown docs/benchmarks.md
//
// It needs root. A contender that is not installed is left out, and the result
// says so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

func main() {
	if os.Getenv(nodeEnv) != "" {
		if err := node(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "failover: node:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds     int
	bin        string
	faults     *regexp.Regexp
	contenders *regexp.Regexp
	markdown   string
	results    string
	load       time.Duration
	newcomers  time.Duration
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var faults, contenders string
	flags := flag.NewFlagSet("failover", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "rounds", 20, "how often each fault befalls each contender; 0: nothing is measured")
	flags.StringVar(&o.bin, "bin", "bin", "the directory with the pen and the penctl to measure")
	flags.StringVar(&faults, "run", "", "only the faults whose names match the regular expression")
	flags.StringVar(&contenders, "contenders", "", "only the contenders whose names match the regular expression")
	flags.StringVar(&o.markdown, "markdown", "", "the document whose measured part is rewritten")
	flags.StringVar(&o.results, "results", "", "the file with the figures of earlier runs, which gets those of this one")
	flags.DurationVar(&o.load, "load", 0, "instead of faults: for so long keep all cores busy with traffic through the holder, and count elections")
	flags.DurationVar(&o.newcomers, "newcomers", 0, "instead of faults: for so long replicate 50,000 new clients a second, and measure connections beside")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.rounds < 0 || o.load < 0 || o.newcomers < 0 {
		return o, errors.New("-rounds, -load and -newcomers must not be negative")
	}
	if o.rounds == 0 && o.results == "" {
		return o, errors.New("-rounds 0 shows what is in -results, which is missing")
	}
	var err error
	if o.faults, err = regexp.Compile(faults); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if o.contenders, err = regexp.Compile(contenders); err != nil {
		return o, fmt.Errorf("-contenders: %w", err)
	}
	return o, nil
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	if o.markdown != "" {
		// A document without its markers is told before the time is spent.
		if _, err := marked(o.markdown, ""); err != nil {
			return err
		}
	}
	r, err := readResults(o.results)
	if err != nil {
		return err
	}
	r.bin = o.bin
	if err := r.fill(ctx, o, stderr); err != nil {
		return err
	}
	if o.results != "" {
		if err := r.write(o.results); err != nil {
			return err
		}
	}
	text := r.String()
	if o.markdown == "" {
		_, err = io.WriteString(stdout, text)
		return err
	}
	document, err := marked(o.markdown, text)
	if err != nil {
		return err
	}
	return os.WriteFile(o.markdown, document, 0o644)
}

// fill does what was asked for.
func (r *results) fill(ctx context.Context, o options, progress io.Writer) (err error) {
	switch {
	case o.load > 0:
		r.Load, err = loadFor(ctx, o, progress)
	case o.newcomers > 0:
		r.New, err = newcomersFor(ctx, o.newcomers, progress)
	case o.rounds > 0:
		err = r.measure(ctx, o, progress)
	}
	return err
}
