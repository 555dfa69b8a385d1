//go:build linux

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Datagrams lets every server answer datagrams to a port with its name, until stop
// is called.
func (l *Lab) Datagrams(port uint16) (stop func(), err error) {
	var wg sync.WaitGroup
	var open []*net.UDPConn
	stop = func() {
		for _, c := range open {
			c.Close()
		}
		wg.Wait()
	}
	err = l.web.do(func() error {
		for _, s := range l.Servers {
			c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.Addr, port)))
			if err != nil {
				return fmt.Errorf("server %s: %w", s.Name, err)
			}
			open = append(open, c)
			wg.Go(func() { answerDatagrams(c, s.Name) })
		}
		return nil
	})
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

func answerDatagrams(c *net.UDPConn, name string) {
	var b [1500]byte
	for {
		_, from, err := c.ReadFromUDPAddrPort(b[:])
		if err != nil {
			return
		}
		_, _ = c.WriteToUDPAddrPort([]byte(name), from)
	}
}

// Packets is a client's socket that exchanges datagrams with the virtual address
// alone. The caller closes it.
func (l *Lab) Packets(client int, port uint16) (c *net.UDPConn, err error) {
	err = l.clients.do(func() error {
		from := &net.UDPAddr{IP: ClientAddr(client).AsSlice()}
		c, err = net.DialUDP("udp4", from, net.UDPAddrFromAddrPort(netip.AddrPortFrom(VIP, port)))
		return err
	})
	return c, err
}
