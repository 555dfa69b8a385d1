//go:build !linux

package daemon

import (
	"pen/internal/config"
	"pen/state"
)

// capabilities are Linux's; elsewhere only root has any power.
type capabilities []capability

type capability struct{}

// String is empty.
func (capabilities) String() string { return "" }

func needed(*config.Local, *state.View) capabilities { return nil }

func (capabilities) survive() error { return nil }

func (capabilities) only() error { return nil }

func disinherit() error { return nil }

// guardable is for systems with virtual addresses.
func guardable() error { return nil }
