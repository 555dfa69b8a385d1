package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// open makes the listeners, all or none.
func (s *Server) open(ctx context.Context) error {
	if s.address.Path == "" {
		listeners, err := listenTCP(ctx, s.address.TCP)
		s.listeners = listeners
		return err
	}
	l, err := listenUnix(ctx, s.address.Path)
	if err != nil {
		return err
	}
	s.listeners = []net.Listener{l}
	s.socket, err = os.Lstat(s.address.Path)
	if err != nil {
		l.Close()
	}
	return err
}

// ListenTCP listens for something else by the rules of the control port: the same
// forms of an address but for a path, and loopback only unless restricted. What
// waits there is named in errors.
func ListenTCP(ctx context.Context, what, text string, restricted bool) ([]net.Listener, error) {
	a, err := resolve(ctx, what, text)
	if err != nil {
		return nil, err
	}
	if a.Path != "" {
		return nil, fmt.Errorf("%s %s: expected [HOST:]PORT", what, text)
	}
	if err := a.Guard(restricted); err != nil {
		return nil, err
	}
	listeners, err := listenTCP(ctx, a.TCP)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, text, err)
	}
	return listeners, nil
}

// listenTCP listens on each address. Of several, those that this machine does
// not have are left out. With port 0 all get the same port.
func listenTCP(ctx context.Context, addrs []netip.AddrPort) ([]net.Listener, error) {
	const attempts = 10 // a free port of the one family may be taken in the other
	for try := 1; ; try++ {
		listeners, err := listenOnce(ctx, addrs)
		if err == nil || addrs[0].Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) || try == attempts {
			return listeners, err
		}
	}
}

func listenOnce(ctx context.Context, addrs []netip.AddrPort) ([]net.Listener, error) {
	var (
		made   []net.Listener
		absent error
		port   = addrs[0].Port()
		config net.ListenConfig
	)
	for _, a := range addrs {
		l, err := config.Listen(ctx, network(a.Addr()), netip.AddrPortFrom(a.Addr(), port).String())
		switch {
		case err == nil:
			made = append(made, l)
			port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		case errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT):
			absent = err
		default:
			for _, l := range made {
				l.Close()
			}
			return nil, err
		}
	}
	if len(made) == 0 {
		return nil, absent
	}
	return made, nil
}

// network keeps the families apart, but for "every address".
func network(a netip.Addr) string {
	switch {
	case a.Is4():
		return "tcp4"
	case a.IsUnspecified():
		return "tcp"
	}
	return "tcp6"
}
