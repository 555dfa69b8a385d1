package direct

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Frames are received in batches, each with what the kernel says about it in a virtio
// header before it: that its checksum is not computed yet, as with frames from a
// machine's own containers, or that it stands for many segments (GRO, GSO) and is
// larger than the network allows. Sent out again with the same header the kernel, or
// the card, does what has to be done.
//
// A ring shared with the kernel (TPACKET_V3) would save the copies, but hands frames over
// when a block is full or after a millisecond, which every round trip would pay for. Frames
// are not sent past the queues of the interface (PACKET_QDISC_BYPASS): that drops what
// has to be cut into segments first.
const (
	batch     = 32
	headLen   = 10 // struct virtio_net_hdr
	frameRoom = headLen + ethernetLen + 64<<10
	replyRoom = headLen + 128
)

// message is struct mmsghdr.
type message struct {
	head unix.Msghdr
	n    uint32
}

// socket sends and receives the frames of one interface.
type socket struct {
	file *os.File
	raw  syscall.RawConn
	link int

	in      [batch]message
	parts   [batch]unix.Iovec
	out     [batch]message
	pieces  [batch]unix.Iovec
	names   [batch]unix.RawSockaddrLinklayer
	bufs    []byte
	replies [batch][replyRoom]byte
}

// openSocket opens a packet socket through which nothing comes before its filter is there.
func openSocket(link int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil, fmt.Errorf("packet socket: %w", ErrCapability)
	}
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	s := &socket{file: os.NewFile(uintptr(fd), "packets"), link: link, bufs: make([]byte, batch*frameRoom)}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.close()
		return nil, err
	}
	if err := s.prepare(fd); err != nil {
		s.close()
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	for i := range batch {
		s.parts[i].Base = &s.bufs[i*frameRoom]
		s.parts[i].SetLen(frameRoom)
		s.in[i].head.Iov, s.out[i].head.Iov = &s.parts[i], &s.pieces[i]
		s.in[i].head.SetIovlen(1)
		s.out[i].head.SetIovlen(1)
		s.out[i].head.Name, s.out[i].head.Namelen = (*byte)(unsafe.Pointer(&s.names[i])), unix.SizeofSockaddrLinklayer
		s.names[i] = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(link)}
	}
	return s, nil
}

func (s *socket) prepare(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fmt.Errorf("headers about offloads: %w", err)
	}
	// Since Linux 4.20; before it the filter does it, at a price.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	// Bursts wait here while this process does not run. The larger size needs a privilege
	// that we may not have.
	const waiting = 4 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, waiting) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, waiting)
	}
	return nil
}

// bind begins to receive what the filter lets through.
func (s *socket) bind() error {
	return s.control(func(fd int) error {
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swapped(unix.ETH_P_ALL), Ifindex: s.link})
	})
}

// filter replaces the filter, without a moment in which there is none.
func (s *socket) filter(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("filter of the packet socket: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return s.control(func(fd int) error {
		err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
		if err != nil {
			return fmt.Errorf("filter of the packet socket: %w", err)
		}
		return nil
	})
}

// join makes the interface receive what is for the groups in which the addresses are
// asked for, or for all groups.
func (s *socket) join(addrs []netip.Addr, all bool) error {
	return s.control(func(fd int) error {
		if all {
			return add(fd, unix.PacketMreq{Ifindex: int32(s.link), Type: unix.PACKET_MR_ALLMULTI})
		}
		for _, a := range addrs {
			if a.Is4() {
				continue
			}
			m := unix.PacketMreq{Ifindex: int32(s.link), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
			group := groupMAC(solicitedNode(a))
			copy(m.Address[:], group[:])
			if err := add(fd, m); err != nil {
				return err
			}
		}
		return nil
	})
}

func add(fd int, m unix.PacketMreq) error {
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
		return fmt.Errorf("join the group in which an address is asked for: %w", err)
	}
	return nil
}

func (s *socket) control(do func(fd int) error) error {
	var failed error
	err := s.raw.Control(func(fd uintptr) { failed = do(int(fd)) })
	return errors.Join(err, failed)
}

// receive waits for frames and returns how many there are.
func (s *socket) receive() (n int, err error) {
	var errno unix.Errno
	ended := s.raw.Read(func(fd uintptr) bool {
		for {
			var r uintptr
			r, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.in[0])), batch, unix.MSG_DONTWAIT, 0, 0)
			if n = int(r); errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})
	if ended != nil {
		return 0, ended
	}
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}

// frame returns the header and frame i of those received; nil if it was longer than there
// is room.
func (s *socket) frame(i int) []byte {
	m := &s.in[i]
	if m.head.Flags&unix.MSG_TRUNC != 0 || m.n < headLen+ethernetLen {
		return nil
	}
	return s.bufs[i*frameRoom:][:m.n]
}

// put makes b, a header and a frame, the n-th to send.
func (s *socket) put(n int, b []byte) {
	s.pieces[n].Base = &b[0]
	s.pieces[n].SetLen(len(b))
	// In the order of the network, as the kernel wants it.
	s.names[n].Protocol = *(*uint16)(unsafe.Pointer(&b[headLen+12]))
}

// flush sends the first n, and returns how many could not be.
func (s *socket) flush(n int) (failed int) {
	err := s.control(func(fd int) error {
		for at := 0; at < n; {
			r, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.out[at])), uintptr(n-at), unix.MSG_DONTWAIT, 0, 0)
			switch {
			case errno == unix.EINTR:
			case errno != 0:
				failed++
				at++ // what a network can not take it drops
			default:
				at += int(r)
			}
		}
		return nil
	})
	if err != nil {
		return n
	}
	return failed
}

// send puts one frame of our own on the wire. It may be called beside the rest.
func (s *socket) send(frame []byte) error {
	b := make([]byte, headLen, headLen+len(frame))
	b = append(b, frame...)
	to := unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(s.link), Protocol: *(*uint16)(unsafe.Pointer(&frame[12]))}
	return s.control(func(fd int) error {
		_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&to)), unix.SizeofSockaddrLinklayer)
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// overflows returns how many frames the kernel has dropped since it was last asked.
func (s *socket) overflows() uint64 {
	n := uint64(0)
	_ = s.control(func(fd int) error {
		if st, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = uint64(st.Drops)
		}
		return nil
	})
	return n
}

func (s *socket) close() { _ = s.file.Close() } // nothing was written that could be lost

// swapped is a number in the order of the network.
func swapped(n uint16) uint16 {
	b := [2]byte{byte(n >> 8), byte(n)}
	return *(*uint16)(unsafe.Pointer(&b[0]))
}

// onlyChecksum leaves of a header what may be said to the kernel again.
func onlyChecksum(head []byte) {
	const needsChecksum = 1
	head[0] &= needsChecksum
}
