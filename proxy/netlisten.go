package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"pen/state"
)

// netListener is a listening socket and the service that it feeds.
type netListener struct {
	place
	net.Listener
	front   atomic.Pointer[front] // nil: accepts nobody
	free    chan struct{}         // gets something when there may be a place again
	retired atomic.Bool
	warned  pace // of pauses

	started bool // guarded by netEngine.mu
}

// String returns where the listener really is.
func (ln *netListener) String() string {
	if ln.path != "" {
		return ln.path
	}
	return ln.Addr().String()
}

// open opens a listener that accepts nobody yet.
func (e *netEngine) open(at place, _ *state.Settings, _ map[place]*netListener) (*netListener, error) {
	if at.path == "" && e.opts.virtual(at.addr.Addr()) {
		return nil, fmt.Errorf("a virtual address, which may be on another machine: %w", errors.ErrUnsupported)
	}
	network, address := "unix", at.path
	if at.path == "" {
		network, address = "tcp", at.addr.String()
		// Only the unspecified IPv6 address takes clients of both kinds.
		if a := at.addr.Addr(); a.Is4() {
			network = "tcp4"
		} else if !a.IsUnspecified() && !a.Is4In6() {
			network = "tcp6"
		}
	} else if err := clearDead(at.path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{KeepAliveConfig: systemKeepalive}
	var l net.Listener
	var err error
	if at.udp {
		l, err = openUDP(network, at.addr)
	} else {
		l, err = config.Listen(context.Background(), network, address)
	}
	if err != nil {
		return nil, plainError(err)
	}
	ln := &netListener{place: at, Listener: l, free: make(chan struct{}, 1)}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listeners[ln] = true
	return ln, nil
}

// plainError takes away what the caller says better.
func plainError(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		err = e.Err
	}
	return err
}

// clearDead removes a socket that a process left behind. One that somebody
// listens on, and a file that is no socket, are left alone.
func clearDead(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil // whatever is wrong, bind will say it
	}
	if info.Mode().Type() != fs.ModeSocket {
		return syscall.EADDRINUSE
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return syscall.EADDRINUSE
	}
	return os.Remove(path)
}

// serve lets f have the clients of ln from now on.
func (e *netEngine) serve(ln *netListener, f *front) {
	ln.front.Store(f)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.start(ln)
	ln.nudge() // there may be more places than before
}

// start starts to accept, if everything is there for it. The caller holds mu.
func (e *netEngine) start(ln *netListener) {
	if e.ctx == nil || ln.started || ln.front.Load() == nil || !e.listeners[ln] {
		return
	}
	ln.started = true
	ctx := e.ctx
	if ln.udp {
		e.work.Go(func() { e.receiveAll(ctx, ln) })
		return
	}
	e.work.Go(func() { e.acceptAll(ctx, ln) })
}

// retire closes a listener. Clients that are in its backlog already are taken
// in first, as far as there are places. It does not wait for that.
func (e *netEngine) retire(ln *netListener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ln.retired.Store(true)
	delete(e.listeners, ln)
	if !ln.started {
		ln.Close()
		return
	}
	e.leaving++
	// An accept whose deadline has passed does not even look into the backlog.
	ln.halt(time.Now().Add(10 * time.Millisecond))
	ln.nudge()
}

// halt makes accept return at the given time.
func (ln *netListener) halt(at time.Time) {
	if p, ok := ln.Listener.(*netPackets); ok {
		_ = p.SetReadDeadline(at) // replies may still go out
		return
	}
	if l, ok := ln.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = l.SetDeadline(at)
	}
}

// nudge makes the accept loop look for a place again.
func (ln *netListener) nudge() {
	select {
	case ln.free <- struct{}{}:
	default:
	}
}

// freed tells everybody who waits for a place that there may be one at f.
func (e *netEngine) freed(f *front) {
	if e.freedOne != nil {
		e.freedOne(f)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for ln := range e.listeners {
		ln.nudge()
	}
}

// acceptAll takes clients in until ctx ends or ln is retired. Without a place it
// waits for one and leaves the clients in the backlog.
func (e *netEngine) acceptAll(ctx context.Context, ln *netListener) {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		f := ln.front.Load()
		if !e.reserve(f) {
			if ln.retired.Load() {
				break
			}
			select {
			case <-ln.free:
			case <-ctx.Done():
			}
			continue
		}
		conn, err := ln.Accept()
		if err == nil && e.turnsAway() {
			e.refund(f)
			f.cut.Add(1)
			resetConn(conn)
			continue
		}
		if err == nil {
			pause = 0
			e.welcome(ctx, f, conn)
			continue
		}
		e.refund(f)
		if ln.retired.Load() || ctx.Err() != nil {
			break
		}
		if errors.Is(err, syscall.ECONNABORTED) {
			continue // that client is gone
		}
		if pause == 0 {
			f.pauses.Add(1)
			if ln.warned.due(time.Now(), pauseWarning) {
				e.log.Warn("accepting pauses", "listener", ln.String(), "err", err)
			}
		}
		pause = min(max(2*pause, 5*time.Millisecond), 100*time.Millisecond)
		sleep(ctx, pause)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	ln.started = false
	if ln.retired.Load() {
		ln.Close()
		e.leaving--
		e.tellEmpty()
	}
}

// reserve takes all that a connection needs before it is accepted.
func (e *netEngine) reserve(f *front) bool {
	set := f.settings.Load()
	if f.pending.Load() >= int64(set.PendingMax) || !e.take(netFiles) {
		return false
	}
	if f.places.Add(1) > int64(set.ConnMax) {
		f.places.Add(-1)
		e.give(netFiles)
		return false
	}
	return true
}

// refund gives back what reserve took.
func (e *netEngine) refund(f *front) {
	f.places.Add(-1)
	e.give(netFiles)
}

// peerOf returns the client's address and port; nothing for a Unix socket.
func peerOf(conn net.Conn) (netip.Addr, uint16) {
	if a, ok := conn.RemoteAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		ap := a.AddrPort()
		return ap.Addr().Unmap(), ap.Port()
	}
	return netip.Addr{}, 0
}
