//go:build linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 keeps the names of network namespaces.
const netnsDir = "/run/netns"

// A cell is a thread in a named network namespace. What is opened or started on
// it belongs to the namespace.
type cell struct {
	name  string
	id    namespaceID
	work  chan func()
	ended chan struct{}
}

// namespaceID is what two processes in one namespace have in common.
type namespaceID struct{ dev, ino uint64 }

func identify(path string) (namespaceID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return namespaceID{}, fmt.Errorf("look at %s: %w", path, err)
	}
	return namespaceID{st.Dev, st.Ino}, nil
}

// enter makes a cell for an existing namespace.
func enter(name string) (*cell, error) {
	path := filepath.Join(netnsDir, name)
	id, err := identify(path)
	if err != nil {
		return nil, err
	}
	c := &cell{name: name, id: id, work: make(chan func()), ended: make(chan struct{})}
	begun := make(chan error)
	go c.serve(path, begun)
	if err := <-begun; err != nil {
		<-c.ended
		return nil, fmt.Errorf("enter %s: %w", path, err)
	}
	return c, nil
}

// serve is the thread. It is never unlocked, so it ends with this function and
// nothing else runs in the wrong namespace. Children are killed when it ends.
func (c *cell) serve(path string, begun chan<- error) {
	defer close(c.ended)
	runtime.LockOSThread()
	if err := moveTo(path); err != nil {
		begun <- err
		return
	}
	begun <- nil
	for f := range c.work {
		f()
	}
}

// moveTo moves this thread to a namespace.
func moveTo(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

// do runs f in the namespace. It must not be called from within.
func (c *cell) do(f func() error) error {
	result := make(chan error, 1)
	c.work <- func() { result <- f() }
	return <-result
}

func (c *cell) close() {
	close(c.work)
	<-c.ended
}

// pids are the processes in the namespace, the youngest first: a child that
// looks after its parent must not see it die before its own turn comes.
func (c *cell) pids() []int {
	return inhabitants(c.id)
}

func inhabitants(id namespaceID) (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range names {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if got, err := identify(dir + "/ns/net"); err == nil && got == id && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	slices.Reverse(pids)
	return pids
}

func signalAll(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, s) // it may have ended by itself
	}
}
