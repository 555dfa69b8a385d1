//go:build !unix

package control

import (
	"context"
	"net"
)

// listenUnix leaves modes and stale sockets to the system.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err == nil {
		l.(*net.UnixListener).SetUnlinkOnClose(false) // Close of Server does it
	}
	return l, err
}
