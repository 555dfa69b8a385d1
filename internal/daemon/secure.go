package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pen/proxy"
	"pen/state"
)

// leveled makes a command that a state of the present level can take. A node that
// stands alone raises the level when it needs to. In a cluster that is for the leader,
// when all nodes know the level.
func (d *daemon) leveled(c state.Command) (state.Command, error) {
	need, now := state.Needs(c.Ops), d.state.View().Level()
	switch {
	case need <= now:
		return c, nil
	case d.member != nil:
		return c, fmt.Errorf("state level %d is needed, and the state is at %d: not all nodes are new enough, or known to be; see the word cluster", need, now)
	}
	c.Ops = slices.Insert(slices.Clone(c.Ops), 0, state.Op(state.SetLevel{Level: need}))
	return c, nil
}

// learned takes what the data plane has learned into the state.
func (d *daemon) learned(ctx context.Context, c state.Command) (state.Result, error) {
	c, err := d.leveled(c)
	if err != nil {
		return state.Result{}, err
	}
	return d.state.Propose(ctx, c)
}

// certificates tells which files of v are no good: a reload reads them, whether
// their names have changed or not.
func (d *daemon) certificates(v *state.View) error {
	if !d.serves() {
		return nil
	}
	var errs []error
	for _, s := range v.Services {
		if err := proxy.CheckTLS(s); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}
