//go:build linux

package rig

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports used in every block. They lie below the range that the kernel takes
// ports of outgoing connections from.
const (
	lockPort    = 20001
	ListenPort  = 8080
	ControlPort = 8888
)

// Block is the 254 loopback addresses that begin with Prefix.
type Block struct {
	Prefix string // "127.77.3."
}

// NewBlock reserves a block until the test ends. A lock socket keeps other
// tests, and other runs of the tests, away from it.
func NewBlock(t testing.TB) Block {
	t.Helper()
	for range 1000 {
		b := Block{fmt.Sprintf("127.%d.%d.", 100+rand.IntN(150), 1+rand.IntN(250))}
		lock, err := net.ListenPacket("udp4", b.Addr(254, lockPort))
		if err == nil {
			t.Cleanup(func() { lock.Close() })
			return b
		}
	}
	t.Fatal("no block of loopback addresses is free")
	return Block{}
}

// Host returns the address number n of the block.
func (b Block) Host(n int) string { return b.Prefix + strconv.Itoa(n) }

// Addr returns the address number n with a port.
func (b Block) Addr(n, port int) string {
	return net.JoinHostPort(b.Host(n), strconv.Itoa(port))
}

// Listen is where the block's pen serves its clients.
func (b Block) Listen() string { return b.Addr(1, ListenPort) }

// Control is where the block's pen takes commands.
func (b Block) Control() string { return b.Addr(1, ControlPort) }

// NewPort reserves a TCP port that is free on every local address, for what can
// not be told an address. Only tests keep away from it, until this one ends.
func NewPort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 21000 + rand.IntN(9000)
		lock, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if probe, err := net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			probe.Close()
			t.Cleanup(func() { lock.Close() })
			return port
		}
		lock.Close()
	}
	t.Fatal("no port is free")
	return 0
}
