package proxy

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize    = 32       // datagrams in one call
	datagramSize = 64 << 10 // more than a datagram can have
)

// message is struct mmsghdr.
type message struct {
	head unix.Msghdr
	n    uint32 // bytes
}

// control is room for one control message that names a local address.
type control [5]uint64

// packets is where a loop receives datagrams and sends them from. What is received
// stays as it is until the next call.
type packets struct {
	in    [batchSize]message
	out   [batchSize]message
	iovs  [batchSize]unix.Iovec // whole buffers
	parts [batchSize]unix.Iovec // what is in them
	names [batchSize]unix.RawSockaddrInet6
	extra [batchSize]control
	from  control // of what is sent
	bufs  []byte
	named bool // the headers to receive with are for names
	used  int  // so many of them, from the first, were used since they were set
}

func newPackets() *packets {
	p := &packets{bufs: make([]byte, batchSize*datagramSize), used: batchSize}
	for i := range batchSize {
		buf := &p.bufs[i*datagramSize]
		p.iovs[i].Base, p.parts[i].Base = buf, buf
		p.iovs[i].SetLen(datagramSize)
		p.in[i].head.Iov, p.out[i].head.Iov = &p.iovs[i], &p.parts[i]
		p.in[i].head.SetIovlen(1)
		p.out[i].head.SetIovlen(1)
	}
	return p
}

// receive takes datagrams, with the addresses of those who sent them if named.
// The kernel writes into the headers that it uses, and only those are set anew.
func (p *packets) receive(fd int32, named bool) (int, errno) {
	if p.named != named {
		p.named, p.used = named, batchSize
	}
	for i := range p.in[:p.used] {
		h := &p.in[i].head
		h.Name, h.Namelen, h.Control = nil, 0, nil
		h.SetControllen(0)
		if named {
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(&p.names[i])), unix.SizeofSockaddrInet6
			h.Control = (*byte)(unsafe.Pointer(&p.extra[i]))
			h.SetControllen(int(unsafe.Sizeof(p.extra[i])))
		}
	}
	n, err := retry(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&p.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	p.used = min(max(n, 0)+1, batchSize) // the call that found nothing more may have written, too
	return n, err
}

// receiveOne takes one datagram. Where there is rarely another one this is the
// cheaper call: receive asks the kernel once more than there are.
func (p *packets) receiveOne(fd int32) errno {
	n, err := recv(fd, p.bufs[:datagramSize])
	if err == 0 {
		p.in[0].n = uint32(n)
	}
	return err
}

// data returns datagram i of those received.
func (p *packets) data(i int) []byte {
	return p.bufs[i*datagramSize:][:p.in[i].n]
}

// reply sends the first n datagrams received to a client, from a local address
// if one is given, and returns how many bytes went out. What can not be sent is
// dropped, as a network does.
func (p *packets) reply(fd int32, n int, to *unix.RawSockaddrInet6, size uint32, extra int) (bytes uint64, dropped int) {
	if n == 1 && extra == 0 {
		sent, err := sendTo(fd, p.data(0), to, size)
		if err != 0 {
			return 0, 1
		}
		return uint64(sent), 0
	}
	for i := range n {
		h := &p.out[i].head
		p.parts[i].SetLen(int(p.in[i].n))
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(to)), size
		h.Control = nil
		if extra > 0 {
			h.Control = (*byte)(unsafe.Pointer(&p.from))
		}
		h.SetControllen(extra)
	}
	for at := 0; at < n; {
		sent, err := retry(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&p.out[at])), uintptr(n-at), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if err != 0 {
			dropped, at = dropped+1, at+1
			continue
		}
		for _, m := range p.out[at:][:sent] {
			bytes += uint64(m.n)
		}
		at += sent
	}
	return bytes, dropped
}

// sendTo sends a datagram to an address.
func sendTo(fd int32, b []byte, to *unix.RawSockaddrInet6, size uint32) (int, errno) {
	return retry(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(to)), uintptr(size))
}

// local returns the address that datagram i was sent to: in the form of IPv6, and
// zero if the kernel did not say.
func (p *packets) local(i int) (addr [16]byte) {
	h := &p.in[i].head
	c := (*unix.Cmsghdr)(unsafe.Pointer(&p.extra[i]))
	if int(h.Controllen) < unix.SizeofCmsghdr {
		return addr
	}
	data := unsafe.Add(unsafe.Pointer(c), unix.CmsgLen(0))
	switch {
	case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO:
		return mapped((*unix.Inet4Pktinfo)(data).Spec_dst)
	case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO:
		return (*unix.Inet6Pktinfo)(data).Addr
	}
	return addr
}

// leaveFrom lets replies leave from a local address, and returns how much there is
// to be told to the kernel about it.
func (p *packets) leaveFrom(local [16]byte, domain int) int {
	if local == ([16]byte{}) {
		return 0
	}
	p.from = control{}
	c := (*unix.Cmsghdr)(unsafe.Pointer(&p.from))
	data := unsafe.Add(unsafe.Pointer(c), unix.CmsgLen(0))
	if domain == unix.AF_INET {
		c.Level, c.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		c.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		(*unix.Inet4Pktinfo)(data).Spec_dst = [4]byte(local[12:])
		return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	}
	c.Level, c.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	c.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	(*unix.Inet6Pktinfo)(data).Addr = local
	return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
}

// mapped is an IPv4 address in the form of IPv6.
func mapped(a [4]byte) (b [16]byte) {
	b[10], b[11] = 0xff, 0xff
	copy(b[12:], a[:])
	return b
}

// sender returns who sent datagram i.
func (p *packets) sender(i int) (addr [16]byte, port uint16, scope uint32) {
	name := &p.names[i]
	if name.Family == unix.AF_INET {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return mapped(sa.Addr), hostPort(&sa.Port), 0
	}
	return name.Addr, hostPort(&name.Port), name.Scope_id
}
