//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"pen/internal/control"
)

// Registers are settings that do nothing to the clients: any value above
// firstValue is so large that it never counts. The control port answers a change
// of one with its value, so that an end without a word is not taken for a yes.
var keys = []string{
	"timeout", "tracking",
	"service regs tracking", "service regs blacklist",
}

// barrier is a register that is written only to know that a node is up to date.
const (
	barrier    = "service regs timeout"
	firstValue = 100_000
)

// hands is how many write at once.
const hands = 3

// writer changes and reads settings through all nodes.
type writer struct {
	p     *play
	value atomic.Int64 // the last that was written; each is written once

	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex // guards the rest
	history *history
	local   map[place][]int // what one node has shown of a register, in order
	wrong   []string
	counts  writes
}

// place is a register on a node, for as long as its process lives.
type place struct{ node, life, key int }

// writes are counted.
type writes struct{ done, refused, unknown, reads, local int }

func newWriter(p *play) *writer {
	w := &writer{p: p, stop: func() {}}
	w.value.Store(firstValue)
	return w
}

// open begins a history, when the cluster is well and nobody writes.
func (w *writer) open() error {
	values := make([]int, len(keys))
	for key := range keys {
		e, ok := w.behind(0, key)
		if !ok {
			return fmt.Errorf("%q can not be read on a cluster that is well", keys[key])
		}
		values[key] = e.value
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history, w.local = &history{began: time.Now(), values: values}, map[place][]int{}
	return nil
}

// start lets them write, until pause.
func (w *writer) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	for range hands {
		w.wg.Go(func() { w.run(ctx) })
	}
}

// pause returns when nobody writes any more.
func (w *writer) pause() {
	w.stop()
	w.wg.Wait()
}

// close ends a history, on a cluster that is well, and says what is wrong in it.
func (w *writer) close() []string {
	w.pause()
	values := make([]int, len(keys))
	for key := range keys {
		n := key % len(w.p.Nodes)
		e, ok := w.behind(n, key)
		for end := time.Now().Add(equalTime); !ok && time.Now().Before(end); e, ok = w.behind(n, key) {
			time.Sleep(50 * ms) // the machine may have paused, and the lease with it
		}
		if !ok {
			return []string{fmt.Sprintf("%q can not be changed on %s of a cluster that is well", barrier, w.p.Nodes[n].Name)}
		}
		values[key] = e.value
		w.keep(e)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	wrong := append(w.wrong, w.history.check(keys)...)
	w.wrong, w.history = nil, w.history.next(values, time.Now())
	w.local = map[place][]int{}
	return wrong
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		n, key := rand.IntN(len(w.p.Nodes)), rand.IntN(len(keys))
		switch rand.IntN(6) {
		case 0, 1, 2:
			w.keep(w.write(n, key))
		case 3, 4:
			if e, ok := w.behind(n, key); ok {
				w.keep(e)
			}
		default:
			w.look(n, key)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(10+rand.IntN(40)) * ms):
		}
	}
}

func (w *writer) keep(e entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !e.write:
		w.counts.reads++
	case e.outcome == done:
		w.counts.done++
	case e.outcome == refused:
		w.counts.refused++
	default:
		w.counts.unknown++
	}
	w.history.entries = append(w.history.entries, e)
}

// write changes a register through a node.
func (w *writer) write(n, key int) entry {
	e := entry{key: key, write: true, value: int(w.value.Add(1)), called: time.Now()}
	_, e.outcome = w.tell(n, fmt.Sprintf("%s %d", keys[key], e.value))
	e.ending = time.Now()
	return e
}

// behind reads a register of a node that has just answered a change, which was
// begun after the read: so it knows all that was in force before.
func (w *writer) behind(n, key int) (entry, bool) {
	e := entry{key: key, called: time.Now()}
	life := w.p.world.life(n)
	if _, told := w.tell(n, fmt.Sprintf("%s %d", barrier, w.value.Add(1))); told != done {
		return e, false
	}
	value, ok := w.tell(n, keys[key])
	e.value, e.ending = value, time.Now()
	// A process that has begun anew meanwhile does not know what the other one did.
	return e, ok == done && w.p.world.life(n) == life
}

// look reads a register as a node has it. It may be old, but never goes back.
func (w *writer) look(n, key int) {
	life := w.p.world.life(n)
	value, ok := w.tell(n, keys[key])
	if ok != done || w.p.world.life(n) != life {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.local++
	at := place{n, life, key}
	seen := w.local[at]
	if len(seen) > 0 && seen[len(seen)-1] == value {
		return
	}
	for _, v := range seen {
		if v == value {
			w.wrong = append(w.wrong, fmt.Sprintf("%q on %s went back to %d, after %v", keys[key], w.p.Nodes[n].Name, value, seen))
		}
	}
	w.local[at] = append(seen, value)
}

// tell gives a node a line, which it answers with a number.
func (w *writer) tell(n int, line string) (value int, o outcome) {
	reply, err := control.Client{Addr: w.p.Control(w.p.Nodes[n]), Patience: 4 * time.Second}.Ask(context.Background(), line)
	text := strings.TrimSpace(string(reply))
	switch {
	case err != nil && neverSent(err):
		return 0, refused
	case err != nil || text == "":
		return 0, unknown
	case strings.HasSuffix(text, "the change was not applied"), strings.HasPrefix(text, "error: no quorum (fallback): nothing was changed"):
		return 0, refused
	case strings.Contains(text, "this node does not have it yet"):
		return 0, unknown
	case control.Refused(reply):
		return 0, unknown
	}
	if value, err = strconv.Atoi(text); err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wrong = append(w.wrong, fmt.Sprintf("%s answered %q with %q", w.p.Nodes[n].Name, line, text))
		return 0, unknown
	}
	return value, done
}

// neverSent tells that nobody was there to hear it.
func neverSent(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}
