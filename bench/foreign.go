//go:build linux

package main

import (
	"context"
	"os"
	"time"
)

// awaitCalm waits until the two cores have little else to do, the kernel's own
// clearing up after the last sample included. After two seconds it gives up: then
// the sample says how much it was disturbed.
func (s *setup) awaitCalm(ctx context.Context) {
	const look = 100 * time.Millisecond
	for range 20 {
		before, err := busyTime(s.loadCPU, s.proxyCPU)
		time.Sleep(look)
		after, err2 := busyTime(s.loadCPU, s.proxyCPU)
		// Hundredths of a second are what the kernel counts in.
		if err != nil || err2 != nil || after-before <= look/10 || ctx.Err() != nil {
			return
		}
	}
}

// foreignWatch finds out how much of the two cores something else used while a
// load ran. A sample that was disturbed is taken again.
type foreignWatch struct {
	st    *stage
	began time.Time
	busy  time.Duration
	known time.Duration
	err   error
}

func newForeignWatch(st *stage) *foreignWatch {
	w := &foreignWatch{st: st, began: time.Now()}
	w.busy, w.known, w.err = w.now()
	return w
}

// now is the CPU time of both cores, and that of our own processes but for the
// load generator, which reports when it ends.
func (w *foreignWatch) now() (busy, known time.Duration, err error) {
	if busy, err = busyTime(w.st.loadCPU, w.st.proxyCPU); err != nil {
		return 0, 0, err
	}
	known, err = cpuTime(append(w.st.pids(), w.st.backend.cmd.Process.Pid, os.Getpid()))
	return busy, known, err
}

// part is the share of others since the watch began, with spent as the CPU time
// of the load generator. It is not to be had where /proc is of another kind.
func (w *foreignWatch) part(spent time.Duration) (float64, bool) {
	busy, known, err := w.now()
	if w.err != nil || err != nil {
		return 0, false
	}
	others := (busy - w.busy) - (known - w.known) - spent
	return max(0, others.Seconds()/(2*time.Since(w.began).Seconds())), true
}
