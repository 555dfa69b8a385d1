//go:build linux

package main

import (
	"syscall"

	"pen/test/lab"
)

// fault is what befalls the holder of the virtual address.
type fault struct {
	Name string
	What string
	do   func(c programs, n *lab.Node) error
	// undo is what comes before the programs of the node are started again.
	undo func(n *lab.Node) error
}

func faults() []fault {
	nothing := func(*lab.Node) error { return nil }
	return []fault{
		{"killed", "SIGKILL of the proxy's process: pen, or haproxy", func(c programs, n *lab.Node) error {
			c.proxy(n).Signal(syscall.SIGKILL)
			return nil
		}, nothing},
		{"all killed", "SIGKILL of all processes of the node at once: pen and its guard, or keepalived and haproxy", func(_ programs, n *lab.Node) error {
			n.Signal(syscall.SIGKILL)
			return nil
		}, nothing},
		{"power lost", "the node is gone from the network without a word", func(_ programs, n *lab.Node) error {
			return n.PowerOff()
		}, (*lab.Node).PowerOn},
		{"frozen", "SIGSTOP of all processes of the node", func(_ programs, n *lab.Node) error {
			n.Signal(syscall.SIGSTOP)
			return nil
		}, func(n *lab.Node) error {
			n.Signal(syscall.SIGCONT)
			return nil
		}},
		{"link down", "the cable is pulled out of the node", func(_ programs, n *lab.Node) error {
			return n.LinkDown()
		}, (*lab.Node).LinkUp},
		{"planned", "SIGTERM: pen, or keepalived and then haproxy", func(c programs, n *lab.Node) error {
			return c.retire(n)
		}, nothing},
	}
}
