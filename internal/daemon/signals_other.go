//go:build !unix

package daemon

import (
	"context"
	"os"
)

// hearSignals hears nothing: this system has no signals of the kind.
func hearSignals() (heard <-chan os.Signal, end func()) { return nil, func() {} }

// signals has nothing to wait for.
func (d *daemon) signals(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
