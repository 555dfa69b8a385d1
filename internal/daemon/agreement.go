package daemon

import (
	"context"

	"pen/state"
)

// agreement makes changes of the state: a cluster.Solo for a node that stands
// alone, a cluster.Node for one of several.
type agreement interface {
	Propose(context.Context, state.Command) (state.Result, error)
	View() *state.View
	Watch() <-chan struct{}
	Snapshot() *state.Snapshot
	Chown(uid, gid int) error
	Run(context.Context) error
	Close() error
}
