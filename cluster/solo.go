// Package cluster lets nodes agree on one state. So far there is agreement with
// oneself.
package cluster

import (
	"context"
	"log/slog"
	"sync"

	"pen/state"
)

// Solo is agreement with oneself.
type Solo struct {
	mu sync.Mutex
	m  *state.Machine
}

// OpenSolo opens the state kept in dir; empty keeps it in memory only.
func OpenSolo(dir string, log *slog.Logger) (*Solo, error) {
	return &Solo{m: state.New()}, nil
}

// Propose applies a command.
func (s *Solo) Propose(ctx context.Context, c state.Command) (state.Result, error) {
	if err := ctx.Err(); err != nil {
		return state.Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m.Apply(c), nil
}

func (s *Solo) View() *state.View             { return s.m.View() }
func (s *Solo) Watch() <-chan struct{}        { return s.m.Watch() }
func (s *Solo) Fresh() bool                   { return true }
func (s *Solo) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (s *Solo) Close() error                  { return nil }
