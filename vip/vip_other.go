//go:build !linux

package vip

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Release returns errors.ErrUnsupported: nothing can have been left.
func Release(Config) (int, error) {
	return 0, fmt.Errorf("release a virtual address: %w", errors.ErrUnsupported)
}

// A VIP can not exist on this system.
type VIP struct{}

// Check returns errors.ErrUnsupported, or what is wrong with the addresses.
func Check(cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	return fmt.Errorf("hold a virtual address: %w", errors.ErrUnsupported)
}

// CheckGateway returns nil: nobody is asked.
func CheckGateway(Config, Gateway) error { return nil }

// New returns what Check returns.
func New(cfg Config) (*VIP, error) { return nil, Check(cfg) }

// Run returns errors.ErrUnsupported.
func (*VIP) Run(context.Context) error { return errors.ErrUnsupported }

// Want does nothing.
func (*VIP) Want(Want) {}

// Deafen does nothing.
func (*VIP) Deafen([]Port) {}

// Passing tells that nothing may pass.
func (*VIP) Passing() (packets, answers bool) { return false, false }

// Announce does nothing.
func (*VIP) Announce() {}

// State returns that nothing is held.
func (*VIP) State() State { return State{Clear: true, Err: errors.ErrUnsupported} }

// Changed returns a channel that is never closed.
func (*VIP) Changed() <-chan struct{} { return nil }

// GuardConns closes the connections.
func (*VIP) GuardConns(conns []*os.File, _ func(term uint64) []byte) {
	for _, c := range conns {
		c.Close()
	}
}

// IsGuard returns false: there is no guard on this system.
func IsGuard() bool { return false }

// RunGuard returns 1.
func RunGuard() int { return 1 }

// A Prober can not exist on this system.
type Prober struct{}

// Prober returns nil.
func (*VIP) Prober(Gateway) *Prober { return nil }

// Do does nothing.
func (*Prober) Do(Effort) {}

// Look sees nothing.
func (*Prober) Look() Sight { return Sight{} }

// Run returns when ctx ends.
func (*Prober) Run(ctx context.Context) { <-ctx.Done() }
