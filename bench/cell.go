//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// cell is a place for one proxy with its backend and its clients: a thread in a
// network namespace of its own. What is started in it inherits the namespace,
// and the CPU that the thread is moved to for that moment; it is killed when
// the thread ends, so nothing outlives its cell.
//
// A fresh namespace has no connections in TIME_WAIT, all its ports, and no
// packet filter. Without the privilege to make one the namespace of this
// process serves, and private says so.
type cell struct {
	work    chan func()
	ended   chan struct{}
	private bool
}

// newCell makes a cell. The caller closes it.
func newCell() (*cell, error) {
	c := &cell{work: make(chan func()), ended: make(chan struct{})}
	begun := make(chan error)
	go c.serve(begun)
	if err := <-begun; err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// serve is the thread of the cell. It is never unlocked, so it ends with this
// function, and its namespace and its children with it.
func (c *cell) serve(begun chan<- error) {
	defer close(c.ended)
	runtime.LockOSThread()
	var err error
	c.private, err = enterNamespace()
	begun <- err
	for f := range c.work {
		f()
	}
}

// do runs f on the thread of the cell.
func (c *cell) do(f func() error) error {
	result := make(chan error)
	c.work <- func() { result <- f() }
	return <-result
}

// close ends the thread and kills what is left in the cell.
func (c *cell) close() {
	close(c.work)
	<-c.ended
}

// enterNamespace moves this thread to a new network namespace with loopback up.
func enterNamespace() (private bool, err error) {
	switch err := unix.Unshare(unix.CLONE_NEWNET); {
	case errors.Is(err, unix.EPERM):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("new network namespace: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return false, fmt.Errorf("set loopback up: %w", err)
	}
	return true, tune()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// tune makes room for many connections, and keeps the kernel from remembering
// peers, which would cost more with a million of them than with a thousand.
func tune() error {
	for name, value := range map[string]string{
		"ipv4/ip_local_port_range": "2048 65535",
		"ipv4/tcp_no_metrics_save": "1",
	} {
		// The kernel looks at the namespace of the thread that opens the file.
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}
