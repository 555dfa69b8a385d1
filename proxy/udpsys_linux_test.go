package proxy

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// datagramPair is a socket and who sends to it.
func datagramPair(t *testing.T) (fd int32, from *net.UDPConn) {
	t.Helper()
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n) })
	if err := unix.Bind(n, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(n)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
	from, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { from.Close() })
	return int32(n), from
}

func sendMany(t *testing.T, from *net.UDPConn, n int) {
	t.Helper()
	for i := range n {
		if _, err := from.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
}

// However many headers the calls before have used, and for what, each datagram
// comes with its sender's address where that is wanted.
func TestEachDatagramHasItsSender(t *testing.T) {
	fd, from := datagramPair(t)
	want := from.LocalAddr().(*net.UDPAddr).AddrPort()
	p := newPackets()
	for _, step := range []struct {
		sent  int
		named bool
	}{{3, true}, {0, true}, {batchSize, true}, {5, false}, {2, true}, {batchSize, false}, {batchSize, true}, {1, true}} {
		sendMany(t, from, step.sent)
		clear(p.names[:])
		n, err := p.receive(fd, step.named)
		if step.sent == 0 {
			if err != unix.EAGAIN {
				t.Errorf("nothing sent: got %d, %v, want EAGAIN", n, err)
			}
			continue
		}
		if err != 0 || n != step.sent {
			t.Fatalf("got %d datagrams, %v, want %d", n, err, step.sent)
		}
		for i := range n {
			if d := p.data(i); len(d) != 1 || d[0] != byte(i) {
				t.Errorf("%+v: datagram %d: got %v, want %d", step, i, d, i)
			}
			addr, port, _ := p.sender(i)
			if got := netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), port); step.named && got != want {
				t.Errorf("%+v: datagram %d: from %s, want %s", step, i, got, want)
			}
			if size := p.in[i].head.Namelen; step.named && size != unix.SizeofSockaddrInet4 {
				t.Errorf("%+v: datagram %d: an address of %d bytes, want %d", step, i, size, unix.SizeofSockaddrInet4)
			}
		}
	}
}

// Who answers with one datagram has it taken by the cheaper call, and who sends a
// stream has it taken by the batch.
func TestFlowTakesAsManyAsComeTogether(t *testing.T) {
	fd, from := datagramPair(t)
	p, fl := newPackets(), &flow{}
	take := func() int {
		t.Helper()
		n, err := fl.take(p, fd)
		if err != 0 {
			t.Fatal(err)
		}
		return n
	}
	sendMany(t, from, singly+batchSize)
	for i := range singly {
		if n := take(); n != 1 || p.data(0)[0] != byte(i) {
			t.Fatalf("%d: got %d datagrams, the first %v, want one, %d", i, n, p.data(0), i)
		}
	}
	if n := take(); n != batchSize {
		t.Errorf("a stream: got %d datagrams, want %d", n, batchSize)
	}
	sendMany(t, from, 2)
	if n := take(); n != 2 {
		t.Errorf("a stream goes on: got %d datagrams, want 2", n)
	}
	sendMany(t, from, 1)
	take()
	sendMany(t, from, 2)
	if n := take(); n != 1 {
		t.Errorf("after one that came alone: got %d datagrams, want 1", n)
	}
}
