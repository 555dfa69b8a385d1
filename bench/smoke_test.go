//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serveHere runs a backend in this process and returns its address.
func serveHere(t *testing.T, mode backendMode) netip.AddrPort {
	t.Helper()
	addr := netip.MustParseAddrPort("127.0.0.1:0")
	b, err := newBackend(backendJob{Mode: mode, Listen: []netip.AddrPort{addr}})
	if err != nil {
		t.Fatal(err)
	}
	addr, err = localAddr(b.listeners[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return addr
}

func loadHere(t *testing.T, job loadJob) (outcome, error) {
	t.Helper()
	l, err := newLoad(job)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	return l.run(t.Context())
}

func TestEachLoadGetsSomethingDone(t *testing.T) {
	for _, c := range loadCases {
		t.Run(c.Name, func(t *testing.T) {
			done, err := loadHere(t, loadJob{
				Mode: c.Load, Target: serveHere(t, c.Backend), Conns: min(c.Conns, 8),
				FirstClient: firstClient, Clients: 4, Warm: 20 * time.Millisecond, Time: 80 * time.Millisecond,
				Watch: []int{os.Getpid()},
			})
			if err != nil {
				t.Fatal(err)
			}
			if done.Failures > 0 {
				t.Errorf("%d failures, the first: %s", done.Failures, done.First)
			}
			s, err := figures(done, c.bulk())
			if err != nil {
				t.Fatal(err)
			}
			if s[cpuEach] <= 0 || s[rate] <= 0 {
				t.Errorf("got %v, want CPU time and a rate", s)
			}
		})
	}
}

func TestHoldOpensAllAndEnds(t *testing.T) {
	const conns = 200 // more than are opened at once
	done, err := loadHere(t, loadJob{
		Mode: hold, Target: serveHere(t, echo), Conns: conns, Time: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if done.Ops != conns || done.Failures != 0 {
		t.Errorf("got %d connections and %d failures, want %d and 0", done.Ops, done.Failures, conns)
	}
}

func TestEachClientTakesItsTurn(t *testing.T) {
	l, err := newLoad(loadJob{Target: listenAddr, FirstClient: netip.MustParseAddr("127.1.0.255"), Clients: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	for i, want := range []string{"127.1.0.255", "127.1.1.0", "127.1.0.255"} {
		if got := netip.AddrFrom4(l.client()).String(); got != want {
			t.Errorf("connection %d: got %s, want %s", i, got, want)
		}
	}
}

func TestNobodyThereIsAnErrorSoon(t *testing.T) {
	// Port 1 of loopback: nobody listens there.
	_, err := loadHere(t, loadJob{
		Mode: connects, Target: netip.MustParseAddrPort("127.0.0.1:1"), Conns: 4, Time: 10 * time.Second,
	})
	if err == nil {
		t.Fatal("got no error, want one")
	}
}

// The whole way but for the proxy: a cell, children, their jobs and answers.
func TestMeasureWithoutProxy(t *testing.T) {
	load, proxy, err := twoCPUs()
	if err != nil {
		t.Skip(err)
	}
	s := &setup{loadCPU: load, proxyCPU: proxy, time: 100 * time.Millisecond, log: t.Output(), dir: t.TempDir()}
	c, err := newCell()
	if err != nil {
		t.Fatal(err)
	}
	private := c.private
	c.close()
	if !private {
		t.Skip("no privilege for a network namespace: the ports may be in use")
	}
	got, err := s.measure(t.Context(), loadCases[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	if got[rate] <= 0 || got[p50] <= 0 || got[p99] < got[p50] {
		t.Errorf("got %v, want a rate and latencies in order", got)
	}
	if _, ok := got[cpuEach]; ok {
		t.Errorf("got CPU time of a proxy that was not there: %v", got)
	}
}

// localAddr is the address that a socket has.
func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	in, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("getsockname: not IPv4 but %T", sa)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)), nil
}
