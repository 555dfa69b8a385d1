//go:build linux

package lab

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// gratuitous sends one gratuitous ARP in the request form. It runs on the node.
func gratuitous(n *Node) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	index, err := linkIndex(fd, "eth0")
	if err != nil {
		return err
	}
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b = append(b, n.mac()...)
	b = append(b, 8, 6, 0, 1, 8, 0, 6, 4, 0, arpRequest)
	b = append(b, n.mac()...)
	b = append(b, VIP.AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(b, VIP.AsSlice()...)
	proto := binary.NativeEndian.Uint16([]byte{8, 6})
	return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index})
}
