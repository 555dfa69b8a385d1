//go:build !unix

package daemon

import "log/slog"

// newSupervisor finds nobody: this system has no such service manager.
func newSupervisor(*slog.Logger) *supervisor { return nil }
