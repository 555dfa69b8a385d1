package proxy

import "golang.org/x/sys/unix"

// receiveBuffer is what a listener of datagrams asks the kernel for: 4 MiB are some
// 5000 small ones, which is 25 ms of a flood.
const receiveBuffer = 4 << 20

// sockets returns the descriptors of the listener.
func (ln *listener) sockets() []int32 {
	if ln.udp {
		return ln.socks
	}
	return []int32{ln.fd}
}

// socket returns the descriptor that a loop watches.
func (ln *listener) socket(l *loop) int32 {
	if ln.udp {
		return ln.socks[l.index]
	}
	return ln.fd
}

// bindUDP makes a socket for each of n loops. The kernel gives all datagrams of a
// client's port to the same one. The first is bound alone, so that a port that
// somebody else has is noticed, also a second pen; only then it is shared. Rivals
// are as for bind.
func (ln *listener) bindUDP(n int, rivals []*listener, standing bool) (err error) {
	ln.domain = unix.AF_INET6
	if ln.addr.Addr().Is4() {
		ln.domain = unix.AF_INET
	}
	ln.anywhere = ln.addr.Addr().IsUnspecified()
	ln.socks, ln.floods = nil, make([]flood, n)
	defer func() {
		if err != nil {
			for _, fd := range ln.socks {
				closeFD(fd)
			}
			ln.socks = nil
		}
	}()
	at := socketAddress(ln.addr)
	for i := range n {
		fd, err := unix.Socket(ln.domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		ln.socks = append(ln.socks, int32(fd))
		if err := ln.prepareUDP(fd, standing); err != nil {
			return err
		}
		if i > 0 || len(rivals) > 0 {
			setFlag(int32(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, true)
		}
		if err := unix.Bind(fd, at); err != nil {
			return err
		}
		if i == 0 {
			setFlag(int32(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, true)
			if at, err = unix.Getsockname(fd); err != nil { // the port may have been the kernel's choice
				return err
			}
		}
	}
	ln.fd, ln.ignoring = ln.socks[0], standing
	ln.name = localAddress(int(ln.fd)).String()
	return nil
}

// prepareUDP sets what a socket must have before it is bound. On a node that
// stands by, nothing may come in from the first moment on.
func (ln *listener) prepareUDP(fd int, standing bool) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // as much as there is
	}
	if ln.domain == unix.AF_INET6 {
		only := 1
		if ln.addr.Addr().IsUnspecified() || ln.addr.Addr().Is4In6() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return err
		}
	}
	if ln.virtual {
		if err := bindAnywhere(fd, ln.domain); err != nil {
			return err
		}
	}
	if ln.anywhere { // a reply must leave from where the client sent to
		level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
		if ln.domain == unix.AF_INET6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		}
		if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
			return err
		}
	}
	if standing {
		return filterAll(fd, true)
	}
	return nil
}
