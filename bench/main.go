//go:build linux

// Command bench measures pen beside the proxies that people use instead:
// haproxy, the original pen and nginx. It asks each the same questions, in turn,
// on one core, with clients and servers on another, and prints the medians.
//
//	go run ./bench                                  print everything, in about twenty minutes
//	go run ./bench -run 'connrate|pp64'             some cases only
//	go run ./bench -rounds 1 -time 300ms            quick, to see that it works
//	go run ./bench -markdown docs/benchmarks.md     rewrite the measured part of a document
//
// A proxy that is not installed is left out, and the result says so.
package main

import (
	"context"
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
	if isChild, err := child(); isChild {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options are the flags.
type options struct {
	rounds   int
	time     time.Duration
	program  string
	cases    *regexp.Regexp
	proxies  *regexp.Regexp
	markdown string
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var cases, proxies string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "rounds", 5, "how often each case is put to each proxy")
	flags.DurationVar(&o.time, "time", 2*time.Second, "how long each load runs")
	flags.StringVar(&o.program, "pen", "bin/pen", "the pen to measure")
	flags.StringVar(&cases, "run", "", "only the cases whose names match the regular expression")
	flags.StringVar(&proxies, "proxies", "", "only the proxies whose names match the regular expression")
	flags.StringVar(&o.markdown, "markdown", "", "the document whose measured part is rewritten")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.rounds < 1 || o.time < 50*time.Millisecond {
		return o, fmt.Errorf("-rounds must be at least 1 and -time at least 50ms")
	}
	var err error
	if o.cases, err = regexp.Compile(cases); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if o.proxies, err = regexp.Compile(proxies); err != nil {
		return o, fmt.Errorf("-proxies: %w", err)
	}
	return o, nil
}

// run is the whole program but for the children.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	if o.markdown != "" {
		// A document without its markers is told before the time is spent.
		if err := checkMarkers(o.markdown); err != nil {
			return err
		}
	}
	env, err := newEnvironment(args)
	if err != nil {
		return err
	}
	b, err := newBench(o, stderr)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.run(ctx); err != nil {
		return err
	}
	text := b.report(env).String()
	if o.markdown != "" {
		return rewrite(o.markdown, text)
	}
	_, err = io.WriteString(stdout, text)
	return err
}
