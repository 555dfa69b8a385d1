//go:build unix

package control

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func listen(path string) (*Server, error) {
	return Listen(context.Background(), path, Options{Handler: echo})
}

func TestSocketMode(t *testing.T) {
	for _, mask := range []int{0, 0o22, 0o77} {
		old := syscall.Umask(mask)
		s := start(t, filepath.Join(t.TempDir(), "ctl"), Options{})
		syscall.Umask(old)
		info, err := os.Lstat(s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != os.ModeSocket|0o660 {
			t.Errorf("umask %03o: got %v", mask, info.Mode())
		}
	}
}

func TestSocketIsRemovedAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctl")
	s, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestSocketOfAnotherProcessStaysAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctl")
	s, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error("removed a socket that was not ours")
	}
}

// leave makes a socket file that nobody listens on.
func leave(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctl")
	leave(t, path)
	s := start(t, path, Options{})
	if got := tell(t, s, "mode\n"); got != "<mode>\n" {
		t.Errorf("got %q", got)
	}
}

func TestLiveSocketIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctl")
	first := start(t, path, Options{})
	if s, err := listen(path); err == nil {
		s.Close()
		t.Fatal("took the socket of a living process")
	} else if !strings.Contains(err.Error(), "another process listens on it") {
		t.Error(err)
	}
	if got := tell(t, first, "mode\n"); got != "<mode>\n" {
		t.Errorf("first server: got %q", got)
	}
}

// A full queue is no sign of death.
func TestSocketWithFullQueueIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctl")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if c, err := net.Dial("unix", path); err == nil {
			defer c.Close()
		}
	}
	if s, err := listen(path); err == nil {
		s.Close()
		t.Error("took the socket of a busy process")
	}
}

func TestOtherFilesAreNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	leave(t, dir+"/stale")
	for name, make := range map[string]func(string) error{
		"file":      func(p string) error { return os.WriteFile(p, []byte("precious"), 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"fifo":      func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"symlink":   func(p string) error { return os.Symlink("stale", p) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if s, err := listen(path); err == nil {
			s.Close()
			t.Errorf("%s: replaced", name)
		} else if !strings.Contains(err.Error(), "no socket") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTwoStartersGetOneSocket(t *testing.T) {
	for range 50 {
		path := filepath.Join(t.TempDir(), "ctl")
		leave(t, path)
		var won atomic.Pointer[Server]
		var winners atomic.Int64
		var starters sync.WaitGroup
		for range 4 {
			starters.Go(func() {
				if s, err := listen(path); err == nil {
					winners.Add(1)
					won.Store(s)
				}
			})
		}
		starters.Wait()
		if n := winners.Load(); n != 1 {
			t.Fatalf("%d winners", n)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("the winner's socket is gone: %v", err)
		}
		c.Close()
		won.Load().Close()
	}
}

func TestLongSocketPath(t *testing.T) {
	_, err := listen("/tmp/" + strings.Repeat("x", 200))
	if err == nil || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
}

func TestSocketIsHandedOver(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file away")
	}
	s := start(t, filepath.Join(t.TempDir(), "ctl"), Options{})
	if err := s.Chown(12345, 54321); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if st.Uid != 12345 || st.Gid != 54321 || info.Mode().Perm() != 0o660 {
		t.Errorf("got %d:%d %v", st.Uid, st.Gid, info.Mode())
	}
}
