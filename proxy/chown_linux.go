package proxy

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Chown gives the open listeners to another user. Call it before the process
// becomes that user: the kernel lets sockets share a port, which a listener that
// moves to an overlapping address needs for a moment, only if one user owns both.
// The files of Unix sockets stay as they are.
func (p *Proxy) Chown(uid, gid int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, ln := range p.listeners() {
		if ln.path != "" {
			continue
		}
		for _, fd := range ln.sockets() {
			if err := unix.Fchown(int(fd), uid, gid); err != nil {
				errs = append(errs, fmt.Errorf("give listener %s to user %d: %w", ln, uid, err))
			}
		}
	}
	return errors.Join(errs...)
}
