//go:build !linux

package direct

import (
	"context"
	"errors"
	"fmt"
)

// A Forwarder can not exist on this system.
type Forwarder struct{}

// New returns one that forwards nothing.
func New(Options) *Forwarder { return &Forwarder{} }

// Check returns an error that is errors.ErrUnsupported.
func Check(Service) error {
	return fmt.Errorf("direct server return needs the packet sockets of Linux: %w", errors.ErrUnsupported)
}

// Configure does nothing.
func (*Forwarder) Configure([]Service) {}

// Err returns nil.
func (*Forwarder) Err() error { return nil }

// Counters tells that there is no such service.
func (*Forwarder) Counters(string) (Counters, bool) { return Counters{}, false }

// Totals are all zero.
func (*Forwarder) Totals() Totals { return Totals{} }

// Run waits until ctx ends.
func (*Forwarder) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
