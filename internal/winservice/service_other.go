//go:build !windows

package winservice

import (
	"context"
	"errors"
	"fmt"
)

// Install is for Windows.
func Install(name string, _ []string) error {
	return fmt.Errorf("install the service %s: %w", name, errors.ErrUnsupported)
}

// Remove is for Windows.
func Remove(_ context.Context, name string) error {
	return fmt.Errorf("remove the service %s: %w", name, errors.ErrUnsupported)
}

// Run finds that this process is no service.
func Run(func(ctx context.Context, serving func()) (status int)) error { return ErrNotStarted }
