//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// addressChange is the virtual address appearing on a node or going.
type addressChange struct {
	at   time.Duration
	node int
	has  bool
}

// listener hears from a node's kernel about addresses.
type listener struct {
	w    *Watch
	node int
	fd   int
}

func (w *Watch) listeners() (all []*listener, err error) {
	for i, n := range w.lab.Nodes {
		k := &listener{w: w, node: i, fd: -1}
		if err = n.cell.do(k.open); err != nil {
			for _, k := range append(all, k) {
				unix.Close(k.fd)
			}
			return nil, fmt.Errorf("addresses of %s: %w", n.Name, err)
		}
		all = append(all, k)
	}
	return all, nil
}

// open listens first and then asks for what is there, so that nothing is missed.
func (k *listener) open() (err error) {
	if k.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE); err != nil {
		return err
	}
	if err := unix.Bind(k.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV4_IFADDR}); err != nil {
		return err
	}
	wake := unix.NsecToTimeval(int64(100 * time.Millisecond))
	if err := unix.SetsockoptTimeval(k.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wake); err != nil {
		return err
	}
	return k.dump()
}

func (k *listener) dump() error {
	// A header, the request for a dump, and the family.
	ask := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg)
	ask[0] = byte(len(ask))
	ask[4] = unix.RTM_GETADDR
	ask[6], ask[7] = unix.NLM_F_REQUEST, unix.NLM_F_DUMP>>8
	ask[unix.SizeofNlMsghdr] = unix.AF_INET
	return unix.Sendto(k.fd, ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func (k *listener) run() {
	defer unix.Close(k.fd)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := make([]byte, 64<<10)
	for !k.w.stopped() {
		n, _, err := unix.Recvfrom(k.fd, b, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			err = k.dump()
			fallthrough
		case err != nil:
			if err != nil {
				k.w.fail("addresses of "+k.w.lab.Nodes[k.node].Name, err)
				return
			}
		default:
			k.read(b[:n])
		}
	}
}

func (k *listener) read(b []byte) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return // the kernel writes whole ones
	}
	for _, m := range messages {
		has := m.Header.Type == unix.RTM_NEWADDR
		if (has || m.Header.Type == unix.RTM_DELADDR) && isVIP(&m) {
			k.w.addressed(addressChange{k.w.now(), k.node, has})
		}
	}
}

func isVIP(m *syscall.NetlinkMessage) bool {
	attributes, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return false
	}
	for _, a := range attributes {
		addr, ok := netip.AddrFromSlice(a.Value)
		if a.Attr.Type == unix.IFA_LOCAL && ok && addr == VIP {
			return true
		}
	}
	return false
}

// addressed keeps changes only: a lifetime that is renewed is none.
func (w *Watch) addressed(c addressChange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.addresses) - 1; i >= 0; i-- {
		if w.addresses[i].node == c.node {
			if w.addresses[i].has == c.has {
				return
			}
			break
		}
	}
	if len(w.addresses) == maxSpoken {
		w.lost++
		return
	}
	w.addresses = append(w.addresses, c)
}
