//go:build linux

package rig

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// NameServer answers every question for A with the addresses that it has now; with
// none there is no such name.
type NameServer struct {
	mu    sync.Mutex
	addrs []netip.Addr
	asked int
}

// NewNameServer answers on conn until the test ends, and closes it.
func NewNameServer(t testing.TB, conn net.PacketConn) *NameServer {
	n := &NameServer{}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 512)
		for {
			size, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			n.answer(&m)
			if reply, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return n
}

func (n *NameServer) answer(m *dnsmessage.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if len(n.addrs) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range n.addrs {
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: a.As4()},
			})
		}
	}
}

// Say changes the name's addresses.
func (n *NameServer) Say(hosts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = nil
	for _, h := range hosts {
		n.addrs = append(n.addrs, netip.MustParseAddr(h))
	}
}

// Asked is how many questions there were.
func (n *NameServer) Asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}
