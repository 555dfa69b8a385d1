//go:build linux

package direct

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"pen/test/rig"
)

// BenchmarkDatagramsSentOn floods pen with datagrams of 64 bytes and reports what it has sent
// on: packets in a second, the processor time of each, and how many were lost because
// the flood was faster.
func BenchmarkDatagramsSentOn(b *testing.B) {
	s := newSegment(b, "p")
	n := s.pen("p", alone...)
	n.reaches(2)
	var c net.PacketConn
	var err error
	s.inside("c", func() { c, err = net.ListenPacket("udp4", client4(0)+":0") })
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address4), 9)) // nobody listens there
	batch := make([]ipv4.Message, 64)
	for i := range batch {
		batch[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 64)}, Addr: to}
	}
	out := ipv4.NewPacketConn(c)
	before, busy, began := n.counter("direct_packets", "service", "dns"), n.cpu(), time.Now()
	sent := 0
	for b.Loop() {
		for at := 0; at < len(batch); {
			m, err := out.WriteBatch(batch[at:], 0)
			if err != nil {
				at++ // the answer to an earlier one
				continue
			}
			at += m
		}
		sent += len(batch)
	}
	took := time.Since(began)
	packets := n.counter("direct_packets", "service", "dns") - before
	b.ReportMetric(float64(packets)/took.Seconds(), "packets/s")
	b.ReportMetric(float64((n.cpu()-busy).Nanoseconds())/float64(packets), "cpu-ns/packet")
	b.ReportMetric(100*float64(sent-packets)/float64(sent), "%lost")
}

// BenchmarkUpload sends to a server in frames as large as the kernel makes them.
func BenchmarkUpload(b *testing.B) {
	s := newSegment(b, "p")
	n := s.pen("p", alone...)
	n.reaches(2)
	c, err := s.dial(client4(0), fmt.Sprintf("%s:%d", address4, port))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	line := append(make([]byte, 1<<20-1), '\n')
	answer := make([]byte, 100)
	b.SetBytes(int64(len(line)))
	busy, before := n.cpu(), n.counter("direct_packets")
	for b.Loop() {
		c.SetDeadline(time.Now().Add(rig.Patience))
		if _, err := c.Write(line); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
	gigabytes := float64(b.N) / 1024
	b.ReportMetric((n.cpu()-busy).Seconds()/gigabytes, "cpu-s/GiB")
	b.ReportMetric(float64(n.counter("direct_packets")-before)/float64(b.N), "frames/op")
}

// cpu is the processor time that pen has used.
func (n *node) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.process.Pid()))
	if err != nil {
		n.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var user, system int64
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	const tick = time.Second / 100
	return time.Duration(user+system) * tick
}
