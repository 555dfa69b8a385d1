// Penctl sends a command to the control port of pen, ours or the original, and
// prints the reply.
//
// Exit status: 0 done, 1 refused by pen, 2 not asked at all or no whole reply.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"pen/internal/control"
)

// The exit status.
const (
	done        = 0
	refused     = 1
	unreachable = 2
)

const usage = `usage: penctl [-o json] [-t SECONDS] ADDRESS COMMAND...

Sends a command to the control port of pen and prints the reply.

ADDRESS is what pen -C has: HOST:PORT, [IPV6]:PORT, a bare PORT on this machine,
or the /PATH of a Unix socket. It may be left out when the environment variable
PENCTL holds it.

  -o json     print the reply as JSON
  -t SECONDS  give up when pen is silent for so long (30)
  --version   print the version
  --help      print this text; for the commands: penctl ADDRESS help

Exit status: 0 done, 1 refused by pen, 2 pen not reached or wrong usage.
`

// version is set when the program is built.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := run(ctx, os.Args[1:], os.Getenv("PENCTL"), os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is the whole command; it returns the exit status.
func run(ctx context.Context, args []string, preset string, stdout, stderr io.Writer) int {
	q, err := parse(args, preset)
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(stdout, usage)
		return done
	case err != nil:
		fmt.Fprintf(stderr, "penctl: %v\n%s", err, usage)
		return unreachable
	case q.version:
		fmt.Fprintln(stdout, "penctl", versionText())
		return done
	}
	ask := q.plain
	if q.json {
		ask = q.structured
	}
	ok, err := ask(ctx, stdout)
	switch {
	case err != nil:
		fmt.Fprintln(stderr, err)
		return unreachable
	case !ok:
		return refused
	}
	return done
}

// question is what the command line asks for.
type question struct {
	control.Client
	words         []string
	json, version bool
}

func parse(args []string, preset string) (*question, error) {
	q := new(question)
	flags := flag.NewFlagSet("penctl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.BoolVar(&q.version, "version", false, "")
	flags.Func("o", "", q.setFormat)
	flags.Func("t", "", q.setPatience)
	if err := flags.Parse(args); err != nil || q.version {
		return q, err
	}
	q.words = flags.Args()
	// No command contains a colon or a slash, or is a number.
	if preset != "" && (len(q.words) == 0 || !isAddress(q.words[0])) {
		q.words = append([]string{preset}, q.words...)
	}
	if len(q.words) < 2 {
		return nil, errors.New("an address and a command are needed")
	}
	q.Addr, q.words = q.words[0], q.words[1:]
	return q, nil
}

func isAddress(word string) bool {
	return strings.ContainsAny(word, ":/") || strings.Trim(word, "0123456789") == ""
}

func (q *question) setFormat(value string) error {
	if value != "json" && value != "text" {
		return errors.New("expected json or text")
	}
	q.json = value == "json"
	return nil
}

func (q *question) setPatience(value string) error {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || n == 0 {
		return errors.New("expected a number of seconds")
	}
	q.Patience = time.Duration(n) * time.Second
	return nil
}

// plain copies the reply as it comes.
func (q *question) plain(ctx context.Context, w io.Writer) (ok bool, err error) {
	var v control.Verdict
	err = q.Copy(ctx, io.MultiWriter(w, &v), q.words...)
	return !v.Refused(), err
}

// structured prints the reply as one line of JSON.
func (q *question) structured(ctx context.Context, w io.Writer) (ok bool, err error) {
	reply, err := q.Ask(ctx, q.words...)
	if err != nil {
		return false, err
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	if control.Refused(reply) {
		text := strings.TrimPrefix(strings.TrimSuffix(string(reply), "\n"), control.Refusal)
		return false, out.Encode(object{"error": text})
	}
	return true, out.Encode(structure(q.words, string(reply)))
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
