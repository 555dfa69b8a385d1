//go:build !unix

package daemon

import "context"

// signals has nothing to wait for: this system has no signals of the kind.
func (d *daemon) signals(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
