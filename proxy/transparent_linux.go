package proxy

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// transparentOption lets a socket of a family be bound to an address that is not here.
func transparentOption(family int) (level, option int) {
	if family == unix.AF_INET {
		return unix.IPPROTO_IP, unix.IP_TRANSPARENT
	}
	return unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
}

// bindClient gives a socket the client's address, with any port: the client may have
// its own in use with the same server already, past this machine or from another service.
// As for a source, connect chooses one that is free for this server.
func (l *loop) bindClient(fd int32, family int, client netip.Addr) errno {
	if !client.IsValid() || l.addr.setAddr(netip.AddrPortFrom(client, 0)) != family {
		return unix.EAFNOSUPPORT
	}
	level, option := transparentOption(family)
	if err := setFlag(fd, level, option, true); err != 0 {
		return err
	}
	setFlag(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, true)
	return bind(fd, &l.addr)
}

// bindLocal gives a socket for a connection of c its local address, if one is asked
// for: source, or else that of the client. One that can not be had is left out.
func (l *loop) bindLocal(fd int32, family int, c *conn, v *server) {
	switch set := c.front.settings.Load(); {
	case set.Source.IsValid():
		l.bindSource(fd, family, set.Source)
	case set.Transparent:
		if err := l.bindClient(fd, family, c.client); err != 0 {
			c.front.opaqueTo(v, c.client, err)
		}
	}
}

// transparently prepares the socket of a dialer to be bound to an address that is not
// here.
func transparently(network string, raw syscall.RawConn) (err error) {
	family := unix.AF_INET
	if network[len(network)-1] == '6' {
		family = unix.AF_INET6
	}
	level, option := transparentOption(family)
	control := raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), level, option, 1); err == nil {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		}
	})
	if control != nil {
		return control
	}
	return err
}
