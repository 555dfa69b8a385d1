package state

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	// MaxRequests is how many requests are remembered.
	MaxRequests = 1024
	// MaxNodes is how many nodes can be set at once.
	MaxNodes = 64
)

// RequestID names a change that somebody asked for, however often it is proposed.
type RequestID [16]byte

// Request makes a command happen once: with it as the first operation, a
// command whose ID is remembered changes nothing and gives the result that it
// gave the first time. The last MaxRequests are remembered.
type Request struct{ ID RequestID }

// SetNode changes what the state knows of a node of the cluster. A node is drained
// until it is set again, whether it is there or not.
type SetNode struct {
	Node    string // its id
	Drained bool
}

func (Request) op() opcode { return opRequest }
func (SetNode) op() opcode { return opSetNode }

func (o Request) String() string { return fmt.Sprintf("request %x", o.ID[:4]) }

func (o SetNode) String() string {
	if o.Drained {
		return "drain " + plain(o.Node)
	}
	return "undrain " + plain(o.Node)
}

// outcome is what became of a request.
type outcome struct {
	id    RequestID
	index uint64
	err   string // empty: it was applied
}

// Drained tells whether a node shall not hold the address.
func (v *View) Drained(node string) bool {
	_, found := slices.BinarySearch(v.drained, node)
	return found
}

// request returns the ID that makes a command happen once.
func (c Command) request() (RequestID, bool) {
	if len(c.Ops) == 0 {
		return RequestID{}, false
	}
	r, ok := c.Ops[0].(Request)
	return r.ID, ok
}

// outcome returns what became of a request that is remembered.
func (v *View) outcome(id RequestID) (Result, bool) {
	for i := len(v.requests) - 1; i >= 0; i-- {
		if o := v.requests[i]; o.id == id {
			r := Result{Index: o.index}
			if o.err != "" {
				r.Err = errors.New(o.err)
			}
			return r, true
		}
	}
	return Result{}, false
}

// remember notes what became of a command, if it wants that. The array behind
// the outcomes is shared with earlier views, which do not see beyond their length;
// so most of the time nothing is copied.
func (v *View) remember(c Command, r Result) {
	id, ok := c.request()
	if !ok {
		return
	}
	o := outcome{id: id, index: r.Index}
	if r.Err != nil {
		o.err = strings.ToValidUTF8(r.Err.Error(), "?")
		o.err = o.err[:min(len(o.err), MaxText)]
	}
	v.requests = append(v.requests, o)
	if len(v.requests) > MaxRequests {
		v.requests = v.requests[len(v.requests)-MaxRequests:]
	}
}

func (d *draft) setNode(o SetNode) error {
	if o.Node == "" {
		return errors.New("it has no name")
	}
	if err := checkName(o.Node); err != nil {
		return err
	}
	i, found := slices.BinarySearch(d.view.drained, o.Node)
	switch {
	case found == o.Drained:
		return nil
	case !o.Drained:
		if d.view.drained = slices.Delete(slices.Clone(d.view.drained), i, i+1); len(d.view.drained) == 0 {
			d.view.drained = nil // as in a state that never had any
		}
	case len(d.view.drained) == MaxNodes:
		return fmt.Errorf("%d drained nodes are the most", MaxNodes)
	default:
		d.view.drained = slices.Insert(slices.Clone(d.view.drained), i, o.Node)
	}
	d.changed = true
	return nil
}

func (o *outcome) code(c *coder) {
	if c.reading {
		copy(o.id[:], c.take(len(o.id)))
	} else {
		c.buf = append(c.buf, o.id[:]...)
	}
	c.uint64(&o.index, 1<<64-1)
	c.text(&o.err)
}
