package proxy

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"pen/state"
)

// listener is a listening socket and the service that it feeds.
type listener struct {
	place
	fd   int32
	id   int32 // in events
	name string
	file os.FileInfo // of a Unix socket, to know it again

	virtual bool // the address may be elsewhere

	socks    []int32 // for datagrams: a socket for each loop, of which fd is the first
	floods   []flood // likewise
	domain   int     // of those
	anywhere bool    // they take datagrams to any address of this machine

	front     atomic.Pointer[front] // nil: accepts nobody
	suspended atomic.Bool           // is in no epoll set though it serves
	retired   atomic.Bool           // is about to be closed
	pause     atomic.Int64          // the last pause for lack of descriptors
	warned    pace                  // of pauses

	mu       sync.Mutex // guards which epoll sets it is in
	armed    bool
	ignoring bool // the kernel drops what new clients send
	backlog  int
	noDelay  bool
}

// String returns where the listener really is.
func (ln *listener) String() string { return ln.name }

// open opens a listener that accepts nobody yet. The others are those that this
// process has already: one of them may be in the way, see bind.
func (e *engine) open(at place, set *state.Settings, others map[place]*listener) (*listener, error) {
	ln := &listener{place: at, fd: -1, backlog: set.Backlog, noDelay: set.NoDelay}
	ln.virtual = at.path == "" && e.opts.virtual(at.addr.Addr())
	standing := e.standing.Load()
	bind := ln.bind
	if at.udp {
		bind = func(rivals []*listener, standing bool) error { return ln.bindUDP(e.width(), rivals, standing) }
	}
	err := bind(nil, standing)
	if errors.Is(err, unix.EADDRINUSE) && at.path == "" {
		e.clear(at.addr.Port())
		err = bind(rivalsOf(at, others), standing)
	}
	if err != nil {
		return nil, err
	}
	e.inUse.Add(int64(len(ln.sockets()) - 1)) // the first is of the reserve
	e.mu.Lock()
	e.lastID++
	ln.id = e.lastID
	e.publish(func(all map[int32]*listener) { all[ln.id] = ln })
	e.mu.Unlock()
	ln.align(e)
	return ln, nil
}

// bind makes the socket and listens. Rivals are listeners of ours that overlap
// with it, as 0.0.0.0:80 does with 10.0.0.1:80. The kernel lets both have the
// port while both agree to share it, which is for a moment and with ourselves
// alone: nobody else can come between. On a node that stands by nobody is
// answered, from the first moment on.
func (ln *listener) bind(rivals []*listener, standing bool) (err error) {
	domain := unix.AF_UNIX
	if ln.path == "" {
		domain = unix.AF_INET6
		if ln.addr.Addr().Is4() {
			domain = unix.AF_INET
		}
	} else if err = clearStale(ln.path); err != nil {
		return err
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	ln.fd = int32(fd)
	if domain == unix.AF_UNIX {
		return ln.bindPath(fd)
	}
	setFlag(ln.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, true)
	// What clients' sockets should have, they inherit at no cost.
	setFlag(ln.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, true)
	setFlag(ln.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, ln.noDelay)
	if domain == unix.AF_INET6 {
		only := 1
		if ln.addr.Addr().IsUnspecified() || ln.addr.Addr().Is4In6() {
			only = 0
		}
		if err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return err
		}
	}
	if ln.virtual {
		if err = bindAnywhere(fd, domain); err != nil {
			return err
		}
	}
	defer share(ln.fd, rivals)()
	if err = unix.Bind(fd, socketAddress(ln.addr)); err != nil {
		return err
	}
	ln.ignoring = false
	_ = ln.ignore(standing) // align tries again, and says so
	if err = unix.Listen(fd, ln.backlog); err != nil {
		return err
	}
	ln.name = localAddress(fd).String()
	return nil
}

// bindAnywhere lets fd be bound to an address that is not on this machine. It has
// to be before the bind: when the address arrives, there is no time for it.
func bindAnywhere(fd, domain int) error {
	if domain == unix.AF_INET {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
}

func (ln *listener) bindPath(fd int) error {
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: ln.path}); err != nil {
		return err
	}
	ln.name = ln.path
	ln.file, _ = os.Lstat(ln.path)
	if err := unix.Listen(fd, ln.backlog); err != nil {
		ln.unlink()
		return err
	}
	return nil
}

// clearStale removes a socket that a process left behind. One that somebody
// listens on, and a file that is no socket, are left alone.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil // whatever is wrong, bind will say it
	}
	if info.Mode().Type() != fs.ModeSocket {
		return unix.EADDRINUSE
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); !errors.Is(err, unix.ECONNREFUSED) {
		return unix.EADDRINUSE
	}
	return os.Remove(path)
}

// unlink removes the file of a Unix socket, if it still is the file that the
// listener made.
func (ln *listener) unlink() {
	if ln.file == nil {
		return
	}
	if now, err := os.Lstat(ln.path); err == nil && os.SameFile(now, ln.file) {
		os.Remove(ln.path)
	}
}

// rivalsOf returns the listeners of ours on the same port.
func rivalsOf(at place, all map[place]*listener) (rivals []*listener) {
	for other, ln := range all {
		if other.path == "" && other.udp == at.udp && other.addr.Port() == at.addr.Port() {
			rivals = append(rivals, ln)
		}
	}
	return rivals
}

// share lets fd have the port of the rivals until the function that it returns
// is called.
func share(fd int32, rivals []*listener) (stop func()) {
	set := func(on bool) {
		for _, r := range rivals {
			setFlag(r.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, on)
		}
		if len(rivals) > 0 {
			setFlag(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, on)
		}
	}
	set(true)
	return func() { set(false) }
}

func socketAddress(ap netip.AddrPort) unix.Sockaddr {
	if ap.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16(), ZoneId: zoneID(ap.Addr().Zone())}
}

func localAddress(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// serve lets f have the clients of ln from now on, with f's settings for
// listeners.
func (e *engine) serve(ln *listener, f *front) {
	set := f.settings.Load()
	ln.mu.Lock()
	if ln.backlog != set.Backlog && !ln.udp {
		ln.backlog = set.Backlog
		if err := unix.Listen(int(ln.fd), set.Backlog); err != nil {
			e.log.Warn("changing the backlog", "listener", ln.name, "err", err)
		}
	}
	if ln.noDelay != set.NoDelay && ln.path == "" && !ln.udp {
		ln.noDelay = set.NoDelay
		setFlag(ln.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, set.NoDelay)
	}
	ln.mu.Unlock()
	ln.front.Store(f)
	ln.resume(e) // there may be more places than before
	ln.arm(e)
}

// arm puts ln into the epoll set of every loop.
func (ln *listener) arm(e *engine) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	loops := e.running()
	if ln.armed || ln.suspended.Load() || ln.retired.Load() || ln.front.Load() == nil || len(loops) == 0 {
		return
	}
	if e.standing.Load() && ln.ignoring {
		return
	}
	ln.armed = true
	for _, l := range loops {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: listenerEvent, Pad: ln.id}
		if err := epollAdd(l.epoll, ln.socket(l), &ev); err != 0 {
			e.log.Error("watch listener", "listener", ln.name, "err", err)
		}
	}
}

// suspend takes ln out of every epoll set until resume.
func (ln *listener) suspend(e *engine) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.suspended.Store(true)
	ln.disarm(e)
}

func (ln *listener) disarm(e *engine) {
	if !ln.armed {
		return
	}
	ln.armed = false
	for _, l := range e.running() {
		epollDel(l.epoll, ln.socket(l))
	}
}

// resume ends a suspension.
func (ln *listener) resume(e *engine) {
	if ln.suspended.CompareAndSwap(true, false) {
		ln.arm(e)
	}
}

// retire closes a listener. Clients that are in its backlog already are taken
// in first; where there is no place for them, the listener stays for a while, see
// leaver. It does not wait for that.
func (e *engine) retire(ln *listener) {
	f := ln.front.Load()
	ln.mu.Lock()
	ln.retired.Store(true)
	ln.disarm(e)
	_ = ln.ignore(true) // who connects after the last accept and before the close would be reset
	ln.mu.Unlock()
	e.mu.Lock()
	e.publish(func(all map[int32]*listener) { delete(all, ln.id) })
	e.mu.Unlock()
	// A loop may be about to use the descriptor. When each has come by here, none
	// is, and the last of them closes it.
	loops := e.running()
	var left atomic.Int32
	left.Store(int32(len(loops)) + 1)
	bye := func(l *loop) {
		if l != nil && ln.udp {
			l.endFlows(ln)
		}
		if left.Add(-1) > 0 {
			return
		}
		if l != nil && f != nil && !ln.udp && l.acceptRest(ln, f) {
			l.leave(ln, f)
			return
		}
		ln.unlink()
		for _, fd := range ln.sockets() {
			closeFD(fd)
		}
		e.give(int64(len(ln.sockets()) - 1))
	}
	bye(nil)
	for _, l := range loops {
		if !l.post(bye) {
			bye(nil)
		}
	}
}

// zoneID returns the number of an IPv6 zone.
func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}
