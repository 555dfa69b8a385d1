//go:build unix

package daemon

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// hearSignals takes signals from now on, until end. It comes before anything is opened: a
// signal that nobody has asked for ends the process, and who sees a port open may
// send one. TERM and INT are not among them: main ends the context for those.
func hearSignals() (heard <-chan os.Signal, end func()) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	return c, func() { signal.Stop(c) }
}

// signals acts on signals until ctx ends.
func (d *daemon) signals(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-d.heard:
			d.signal(ctx, s)
		}
	}
}

func (d *daemon) signal(ctx context.Context, s os.Signal) {
	switch s {
	case syscall.SIGHUP:
		done := d.reloading()
		d.reopenLogs(ctx)
		if _, err := d.reload(ctx, "SIGHUP"); err != nil {
			d.log.Error("settings not read again; nothing was changed", "err", err)
		}
		done()
	case syscall.SIGUSR1:
		d.tell(ctx)
	case syscall.SIGUSR2:
		// As the original: stop at once and leave a core file, where the system
		// keeps any. Go adds the stacks.
		trace(true)
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
	}
}
