//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// outcome is what a writer was told.
type outcome uint8

const (
	done    outcome = iota // it is in force
	refused                // it was not applied, and will not be
	unknown                // it may have been, or may yet be
)

// entry is a write, or a read behind a change of one's own: one that a node answers
// from a state in which a change is that was begun within the read.
type entry struct {
	key            int
	write          bool
	value          int // written, or read
	called, ending time.Time
	outcome        outcome
}

// history is what was done to the registers since a moment at which nobody wrote.
type history struct {
	began   time.Time
	values  []int // of the registers, at the beginning
	entries []entry
	loose   []entry // writes from before whose end is not known
}

// looseTime is how long a change may come late: it is given up by pen after two
// seconds, and then by each process that was frozen when it thaws.
const looseTime = 10 * time.Second

// register is what a key is: it has the value that was written last.
var register = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, in, out any) (bool, any) {
		e := in.(entry)
		if e.write {
			return true, e.value
		}
		return out.(int) == state.(int), state
	},
	DescribeOperation: func(in, _ any) string {
		e := in.(entry)
		if e.write {
			return fmt.Sprintf("write %d", e.value)
		}
		return fmt.Sprintf("read %d", e.value)
	},
}

// check says of which registers the history can not be put in an order in which
// each read has the value that was written last.
func (h *history) check(names []string) (wrong []string) {
	for key := range h.values {
		ops := h.operations(key)
		switch porcupine.CheckOperationsTimeout(register, ops, 10*time.Second) {
		case porcupine.Ok:
		case porcupine.Unknown:
			wrong = append(wrong, fmt.Sprintf("the history of %q is too tangled to be checked: %d operations", names[key], len(ops)))
		default:
			wrong = append(wrong, fmt.Sprintf("the changes of %q are not linearizable:\n%s", names[key], h.story(key)))
		}
	}
	return wrong
}

// operations leaves out what can be anywhere: a change of unknown end that nobody
// has seen may as well come after everything. Each of them would double the search.
func (h *history) operations(key int) (ops []porcupine.Operation) {
	seen := map[int]bool{}
	for _, e := range h.entries {
		seen[e.value] = seen[e.value] || !e.write && e.key == key
	}
	first := entry{key: key, write: true, value: h.values[key]}
	ops = append(ops, porcupine.Operation{Input: first, Output: 0, Call: -2, Return: -1})
	for i, e := range slices.Concat(h.loose, h.entries) {
		if e.key != key || e.outcome == refused || e.outcome == unknown && !seen[e.value] {
			continue
		}
		op := porcupine.Operation{ClientId: i, Input: e, Output: e.value, Call: max(0, int64(e.called.Sub(h.began))), Return: int64(e.ending.Sub(h.began))}
		if e.outcome == unknown {
			op.Return = math.MaxInt64
		}
		ops = append(ops, op)
	}
	return ops
}

// story is the history of a register for people.
func (h *history) story(key int) string {
	text := fmt.Sprintf("  %s it is %d\n", clock(h.began), h.values[key])
	for _, e := range slices.Concat(h.loose, h.entries) {
		if e.key == key {
			text += fmt.Sprintf("  %s - %s %s, %s\n", clock(e.called), clock(e.ending), register.DescribeOperation(e, nil),
				[...]string{"done", "refused", "unknown"}[e.outcome])
		}
	}
	return text
}

// next is the history that follows, at a moment at which nobody writes and the
// registers have these values.
func (h *history) next(values []int, now time.Time) *history {
	n := &history{began: now, values: values}
	for _, e := range slices.Concat(h.loose, h.entries) {
		if e.outcome == unknown && now.Sub(e.ending) < looseTime && e.value != values[e.key] {
			n.loose = append(n.loose, e)
		}
	}
	return n
}
