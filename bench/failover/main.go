//go:build linux

// Command failover measures how long clients are without an answer when a node
// of a cluster fails: pen beside keepalived with haproxy, in the same network
// namespaces, with the same faults, observed by the same clients.
//
//	go run ./bench/failover                                  print everything; two hours
//	go run ./bench/failover -run 'killed|power' -rounds 3    some faults only, and quick
//	go run ./bench/failover -contenders keepalived           some contenders only
//	go run ./bench/failover -markdown docs/benchmarks.md     rewrite the measured part of a document
//
// It needs root. A contender that is not installed is left out, and the result
// says so.
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
)

func main() {
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
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var faults, contenders string
	flags := flag.NewFlagSet("failover", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "rounds", 20, "how often each fault befalls each contender")
	flags.StringVar(&o.bin, "bin", "bin", "the directory with the pen and the penctl to measure")
	flags.StringVar(&faults, "run", "", "only the faults whose names match the regular expression")
	flags.StringVar(&contenders, "contenders", "", "only the contenders whose names match the regular expression")
	flags.StringVar(&o.markdown, "markdown", "", "the document whose measured part is rewritten")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("-rounds must be at least 1")
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
	r, err := measure(ctx, o, stderr)
	if err != nil {
		return err
	}
	r.args = args
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
