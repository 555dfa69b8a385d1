package vip

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A segment is one interface's piece of network: what we announce there and
// who else claims our addresses.
type segment struct {
	link  link                    // owned by the opener
	conns map[uint16]*packet.Conn // by EtherType
	wg    sync.WaitGroup
	ended chan struct{}
}

// claimFunc is told who claims which address on which interface, and for how long
// the frame had waited.
type claimFunc func(link string, addr netip.Addr, mac net.HardwareAddr, age time.Duration)

// openSegment listens on the interface. claim is called for every frame that
// claims an address, by any node, until close.
func openSegment(l link, four, six bool, claim claimFunc) (*segment, error) {
	s := &segment{link: l, conns: map[uint16]*packet.Conn{}, ended: make(chan struct{})}
	for _, kind := range []struct {
		wanted    bool
		etherType uint16
		filter    []bpf.Instruction
	}{
		{four, etherTypeARP, nil},
		{six, etherTypeIPv6, neighbourDiscovery},
	} {
		if !kind.wanted {
			continue
		}
		config := &packet.Config{}
		if kind.filter != nil {
			raw, err := bpf.Assemble(kind.filter)
			if err != nil {
				panic("our own filter: " + err.Error())
			}
			config.Filter = raw
		}
		c, err := packet.Listen(&net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: l.MAC}, packet.Raw, int(kind.etherType), config)
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns[kind.etherType] = c
		raw, err := stamped(c)
		if err != nil {
			s.close()
			return nil, err
		}
		s.wg.Go(func() { s.listen(raw, l.Name, claim) })
	}
	return s, nil
}

// neighbourDiscovery lets solicitations and advertisements through, so that
// the rest of IPv6 does not wake us.
var neighbourDiscovery = []bpf.Instruction{
	bpf.LoadAbsolute{Off: ethernetLen + 6, Size: 1}, // next header
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmpv6, SkipFalse: 4},
	bpf.LoadAbsolute{Off: ethernetLen + ipv6Len, Size: 1}, // type
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 135, SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 136, SkipTrue: 1},
	bpf.RetConstant{Val: 512},
	bpf.RetConstant{Val: 0},
}

func (s *segment) listen(raw syscall.RawConn, name string, claim claimFunc) {
	b, oob := make([]byte, 512), make([]byte, 256)
	for {
		n, age, err := receive(raw, b, oob)
		if err == nil {
			if addr, mac, ok := claimOf(b[:n]); ok {
				claim(name, addr, mac, age)
			}
			continue
		}
		// The network being down is reported once and ends nothing. Any other error
		// is not ours to understand; what must not happen is a loop without pause.
		pause := time.Duration(0)
		if !errors.Is(err, unix.ENETDOWN) {
			pause = period
		}
		select {
		case <-s.ended:
			return
		case <-time.After(pause):
		}
	}
}

// send puts a frame on the wire. The network's address is in the frame.
func (s *segment) send(frame []byte) error {
	_, err := s.conns[binary.BigEndian.Uint16(frame[12:])].WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	return err
}

// close ends the calls of claim before it returns.
func (s *segment) close() {
	close(s.ended)
	for _, c := range s.conns {
		_ = c.Close() // nothing was written that could be lost
	}
	s.wg.Wait()
}
