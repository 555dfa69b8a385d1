package control

import (
	"context"
	"errors"
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
