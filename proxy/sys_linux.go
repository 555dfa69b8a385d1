package proxy

import (
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the loops. All are made on non-blocking descriptors, so that
// none waits, and go past the scheduler: telling it about each would cost more
// than it gains. Any of them may be interrupted by the signal with which the
// runtime preempts goroutines, and is then repeated.

type errno = syscall.Errno

// retry makes a call until it is not interrupted. What its arguments point to
// lives on the heap or is global; the directive sees to that.
//
//go:uintptrescapes
func retry(trap, a, b, c, d, e, f uintptr) (int, errno) {
	for {
		n, _, err := syscall.RawSyscall6(trap, a, b, c, d, e, f)
		if err == 0 {
			return int(n), 0
		}
		if err != unix.EINTR {
			return -1, err
		}
	}
}

func recv(fd int32, b []byte) (int, errno) {
	return retry(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
}

func send(fd int32, b []byte) (int, errno) {
	return retry(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
}

// splice moves up to n bytes between a pipe and a socket within the kernel.
func splice(from, to int32, n int) (int, errno) {
	return retry(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
}

func shutdown(fd int32) {
	retry(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0, 0, 0, 0)
}

// closeFD closes without a retry: an interrupted close has closed.
func closeFD(fd int32) {
	_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// Option values that are always the same, so that setting them allocates nothing.
var (
	optionOn      int32 = 1
	optionOff     int32
	optionDiscard = unix.Linger{Onoff: 1}
)

// setFlag turns a socket option on or off.
func setFlag(fd int32, level, option int, on bool) errno {
	v := &optionOff
	if on {
		v = &optionOn
	}
	_, err := retry(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(v)), 4, 0)
	return err
}

// socketError returns and clears what went wrong on a socket.
func socketError(fd int32) errno {
	var v int32
	size := uint32(4)
	if _, err := retry(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0); err != 0 {
		return err
	}
	return errno(v)
}

// unsent returns how many bytes the peer has not yet acknowledged.
func unsent(fd int32) int {
	var v int32
	if _, err := retry(unix.SYS_IOCTL, uintptr(fd), unix.TIOCOUTQ, uintptr(unsafe.Pointer(&v)), 0, 0, 0); err != 0 {
		return 0
	}
	return int(v)
}

// resetOnClose makes the close of fd a reset.
func resetOnClose(fd int32) {
	retry(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&optionDiscard)), unsafe.Sizeof(optionDiscard), 0)
}

func newSocket(family int) (int32, errno) {
	fd, err := retry(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0, 0, 0)
	return int32(fd), err
}

// sockaddr is a socket address as the kernel takes and gives it. It is kept in
// the loop, so that no call allocates.
type sockaddr struct {
	raw  unix.RawSockaddrAny
	size uint32
}

// setAddr makes a the address of ap and returns its family.
func (a *sockaddr) setAddr(ap netip.AddrPort) int {
	port := [2]byte{byte(ap.Port() >> 8), byte(ap.Port())}
	if ip := ap.Addr().Unmap(); ip.Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		*sa = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: *(*uint16)(unsafe.Pointer(&port)), Addr: ip.As4()}
		a.size = unix.SizeofSockaddrInet4
		return unix.AF_INET
	}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&a.raw))
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: *(*uint16)(unsafe.Pointer(&port)), Addr: ap.Addr().As16()}
	a.size = unix.SizeofSockaddrInet6
	return unix.AF_INET6
}

// setPath makes a the address of a Unix socket. It tells whether the path fits.
func (a *sockaddr) setPath(path string) bool {
	sa := (*unix.RawSockaddrUnix)(unsafe.Pointer(&a.raw))
	if len(path) >= len(sa.Path) {
		return false
	}
	*sa = unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	for i := range len(path) {
		sa.Path[i] = int8(path[i])
	}
	a.size = uint32(2 + len(path) + 1)
	return true
}

// peer returns the address of a client: unmapped, and invalid for a client on
// a Unix socket. The scope of a link-local address is not part of it.
func (a *sockaddr) peer() (netip.Addr, uint16) {
	switch a.raw.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		return netip.AddrFrom4(sa.Addr), hostPort(&sa.Port)
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&a.raw))
		return netip.AddrFrom16(sa.Addr).Unmap(), hostPort(&sa.Port)
	}
	return netip.Addr{}, 0
}

// hostPort reads a port in network order.
func hostPort(p *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(p))
	return uint16(b[0])<<8 | uint16(b[1])
}

// accept takes the next client of a listener; its address goes to a.
func accept(fd int32, a *sockaddr) (int32, errno) {
	a.size = unix.SizeofSockaddrAny
	a.raw.Addr.Family = unix.AF_UNSPEC
	n, err := retry(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(unsafe.Pointer(&a.size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int32(n), err
}

func connect(fd int32, a *sockaddr) errno {
	_, err := retry(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(a.size), 0, 0, 0)
	return err
}

// getsockname returns where a socket is, getpeername where the other end is.
func getsockname(fd int32, a *sockaddr) errno { return getname(unix.SYS_GETSOCKNAME, fd, a) }
func getpeername(fd int32, a *sockaddr) errno { return getname(unix.SYS_GETPEERNAME, fd, a) }

func getname(call uintptr, fd int32, a *sockaddr) errno {
	a.size = unix.SizeofSockaddrAny
	_, err := retry(call, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(unsafe.Pointer(&a.size)), 0, 0, 0)
	return err
}

func bind(fd int32, a *sockaddr) errno {
	_, err := retry(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(a.size), 0, 0, 0)
	return err
}

// epollAdd registers fd; its events will be like ev.
func epollAdd(epoll, fd int32, ev *unix.EpollEvent) errno {
	_, err := retry(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(ev)), 0, 0)
	return err
}

func epollDel(epoll, fd int32) errno {
	_, err := retry(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_DEL, uintptr(fd), 0, 0, 0)
	return err
}

// epollLook returns the events there are, or that come within a short wait. It keeps the scheduler out of it. Still it holds nobody up: the
// signal by which the runtime asks for the thread ends the wait.
func epollLook(epoll int32, events []unix.EpollEvent, wait time.Duration) (int, errno) {
	n, _, err := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(milliseconds(wait)), 0, 0)
	return waited(n, err)
}

// epollWait returns the events there are, waiting for them for at most wait
// (negative: as long as it takes). It tells the scheduler, so that the thread's
// place can be given to others.
func epollWait(epoll int32, events []unix.EpollEvent, wait time.Duration) (int, errno) {
	n, _, err := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(milliseconds(wait)), 0, 0)
	return waited(n, err)
}

// milliseconds rounds up, so that nobody wakes before his time.
func milliseconds(wait time.Duration) int {
	if wait < 0 {
		return -1
	}
	return int((wait + time.Millisecond - 1) / time.Millisecond)
}

func waited(n uintptr, err errno) (int, errno) {
	if err == unix.EINTR {
		return 0, 0
	}
	return int(n), err
}
