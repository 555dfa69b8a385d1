//go:build linux

package rig

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Backend is a server behind pen. It answers every line with its name and the
// line, but for some requests: "peer" is answered with the address that the
// connection came from, "send N" with N bytes, "close" with the end, and "later"
// with its name, but not before the other side has sent its end of stream.
type Backend struct {
	Name, Addr string

	t    testing.TB
	mu   sync.Mutex // guards the rest
	ln   net.Listener
	mute []int // descriptors that make the port a black hole
	open map[net.Conn]struct{}
	most int
	wg   sync.WaitGroup
}

// NewBackend starts a server at addr, a TCP address or the path of a socket.
func NewBackend(t testing.TB, name, addr string) *Backend {
	t.Helper()
	b := &Backend{Name: name, Addr: addr, t: t, open: map[net.Conn]struct{}{}}
	t.Cleanup(b.Stop)
	b.Start()
	return b
}

func (b *Backend) network() string {
	if strings.HasPrefix(b.Addr, "/") {
		return "unix"
	}
	return "tcp"
}

// Start makes a stopped or mute server answer again.
func (b *Backend) Start() {
	b.t.Helper()
	b.Stop()
	lc := net.ListenConfig{Control: reuseAddr}
	ln, err := lc.Listen(context.Background(), b.network(), b.Addr)
	if err != nil {
		b.t.Fatalf("backend %s: %v", b.Name, err)
	}
	b.mu.Lock()
	b.ln = ln
	b.mu.Unlock()
	b.wg.Go(func() { b.serve(ln) })
}

// Stop refuses new connections and ends those that are open.
func (b *Backend) Stop() {
	b.Refuse()
	b.mu.Lock()
	for c := range b.open {
		c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// Refuse closes the listener only: open connections go on.
func (b *Backend) Refuse() {
	b.mu.Lock()
	ln, mute := b.ln, b.mute
	b.ln, b.mute = nil, nil
	b.mu.Unlock()
	if ln != nil {
		deafen(ln)
		ln.Close()
	}
	for _, fd := range mute {
		unix.Shutdown(fd, unix.SHUT_RDWR)
		unix.Close(fd)
	}
}

// deafen ends listening at once. A close alone ends it when the last copy of
// the descriptor is gone, and a child that another test forks just now has one
// until it has executed its program.
func deafen(ln net.Listener) {
	if c, ok := ln.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
		}
	}
}

// Mute makes the port answer nothing at all: the queue of a listener that
// nobody accepts from is filled, so that the kernel drops every further SYN.
func (b *Backend) Mute() {
	b.t.Helper()
	b.Stop()
	fds, err := blackHole(b.Addr)
	if err != nil {
		b.t.Fatalf("mute backend %s: %v", b.Name, err)
	}
	b.mu.Lock()
	b.mute = fds
	b.mu.Unlock()
}

// Open returns how many connections are open now.
func (b *Backend) Open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// Most returns how many connections were ever open at once.
func (b *Backend) Most() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most
}

func (b *Backend) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.open[c] = struct{}{}
		b.most = max(b.most, len(b.open))
		b.mu.Unlock()
		b.wg.Go(func() { b.answer(c) })
	}
}

func (b *Backend) answer(c net.Conn) {
	defer func() {
		c.Close()
		b.mu.Lock()
		delete(b.open, c)
		b.mu.Unlock()
	}()
	late := ""
	for in := bufio.NewScanner(c); in.Scan(); {
		word, arg, _ := strings.Cut(in.Text(), " ")
		var err error
		switch word {
		case "peer":
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, err = fmt.Fprintln(c, host)
		case "later":
			late = b.Name + " at last\n"
		case "close":
			return
		case "send":
			n, _ := strconv.ParseInt(arg, 10, 64)
			_, err = io.CopyN(c, zeros{}, n)
		default:
			_, err = fmt.Fprintf(c, "%s %s\n", b.Name, in.Text())
		}
		if err != nil {
			return
		}
	}
	io.WriteString(c, late)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func reuseAddr(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
}

func blackHole(addr string) ([]int, error) {
	ap, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	sa := &unix.SockaddrInet4{Port: ap.Port, Addr: [4]byte(ap.IP.To4())}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, sa); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return nil, err
	}
	fds := []int{fd}
	for range 3 { // one fits in the queue of length 0, the others stay outside
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		if err := unix.Connect(c, sa); err != nil && err != unix.EINPROGRESS {
			return nil, err
		}
		fds = append(fds, c)
	}
	time.Sleep(5 * time.Millisecond) // the hand-shake on loopback
	return fds, nil
}
