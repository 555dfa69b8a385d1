//go:build unix

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketMode lets the group in; connecting needs the right to write.
const socketMode = 0o660

// listenUnix makes a Unix socket and listens on it. A socket that nobody
// listens on is replaced; anything else at that path stays, and is an error.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	defer lockDir(filepath.Dir(path))()
	l, err := bindUnix(path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	return bindUnix(path)
}

// bindUnix does by hand what package net does, because the mode must be right
// before anybody can connect, which is before listen. Changing the umask for
// the moment would do too, but it is the whole process's.
func bindUnix(path string) (net.Listener, error) {
	if len(path) >= len(syscall.RawSockaddrUnix{}.Path) {
		return nil, fmt.Errorf("the path of a Unix socket has at most %d bytes, not %d", len(syscall.RawSockaddrUnix{}.Path)-1, len(path))
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close() // FileListener makes its own descriptor
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	l, err := expose(fd, file, path)
	if err != nil {
		os.Remove(path)
	}
	return l, err
}

// expose lets peers connect to a bound socket.
func expose(fd int, file *os.File, path string) (net.Listener, error) {
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, err
	}
	if err := syscall.Listen(fd, MaxPeers); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	return net.FileListener(file)
}

// removeStale removes the socket that an earlier process left behind.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return errors.New("the file exists and is no socket")
	}
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return errors.New("another process listens on it")
	}
	// Only this error means that nobody is there. A full queue, for one, has
	// another.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// lockDir keeps two starting processes from taking each other's socket, bound
// but not listened on yet, for a stale one. Everybody who can read a directory
// can lock it, so waiting has an end, and then goes on without.
func lockDir(dir string) (unlock func()) {
	d, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for range 50 {
		if unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return func() { d.Close() }
}
