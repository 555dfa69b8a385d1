//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

// roleVariable makes this program a child of itself: it holds the role.
const roleVariable = "PEN_BENCH_ROLE"

// The roles.
const (
	roleBackend = "backend"
	roleLoad    = "load"
)

// runRole is the whole of a child: one job from in, one answer to out, and the
// end when in ends.
func runRole(role string, in io.Reader, out io.Writer) error {
	debug.SetGCPercent(-1) // the loops take no memory; nothing shall disturb them
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch role {
	case roleBackend:
		var job backendJob
		if err := decoder.Decode(&job); err != nil {
			return fmt.Errorf("read the job: %w", err)
		}
		go endWith(in, cancel)
		return serveBackend(ctx, job, encoder)
	case roleLoad:
		var job loadJob
		if err := decoder.Decode(&job); err != nil {
			return fmt.Errorf("read the job: %w", err)
		}
		go endWith(in, cancel)
		return serveLoad(ctx, job, encoder)
	}
	return fmt.Errorf("%s=%s: no such role", roleVariable, role)
}

// endWith calls cancel when nothing more can come: the parent has closed its
// end, or is no more.
func endWith(in io.Reader, cancel func()) {
	_, _ = io.Copy(io.Discard, in)
	cancel()
}

func serveBackend(ctx context.Context, job backendJob, out *json.Encoder) error {
	b, err := newBackend(job)
	if err != nil {
		return out.Encode(ready{Error: err.Error()})
	}
	if err := out.Encode(ready{}); err != nil {
		return err
	}
	return b.run(ctx)
}

func serveLoad(ctx context.Context, job loadJob, out *json.Encoder) error {
	l, err := newGenerator(job)
	if err != nil {
		return out.Encode(outcome{Error: err.Error()})
	}
	defer l.close()
	done, err := l.run(ctx)
	if err != nil {
		done.Error = err.Error()
	}
	if err := out.Encode(done); err != nil {
		return err
	}
	if job.Mode.holds() {
		<-ctx.Done()
	}
	return nil
}

// generator plays clients.
type generator interface {
	run(ctx context.Context) (outcome, error)
	close()
}

func newGenerator(job loadJob) (generator, error) {
	if job.Mode.secure() {
		debug.SetGCPercent(400) // package tls takes memory all the time
		return newSecureLoad(job), nil
	}
	return newLoad(job)
}

// child tells whether this process is one, and does its work.
func child() (ok bool, err error) {
	role := os.Getenv(roleVariable)
	if role == "" {
		return false, nil
	}
	return true, runRole(role, os.Stdin, os.Stdout)
}
