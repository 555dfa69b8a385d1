//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
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

// serveTLSHere is the same with a proxy in front that ends TLS.
func serveTLSHere(t *testing.T, mode backendMode) netip.AddrPort {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bench.pem")
	if err := writeCertificate(file); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	behind := serveHere(t, mode)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go relayTo(c, behind)
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

// relayTo connects a client with a backend until one of them ends.
func relayTo(c net.Conn, addr netip.AddrPort) {
	defer c.Close()
	b, err := net.Dial("tcp", addr.String())
	if err != nil {
		return
	}
	defer b.Close()
	go func() {
		_, _ = io.Copy(b, c)
		b.Close()
	}()
	_, _ = io.Copy(c, b)
}

func loadHere(t *testing.T, job loadJob) (outcome, error) {
	t.Helper()
	l, err := newGenerator(job)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	return l.run(t.Context())
}

func TestEachLoadGetsSomethingDone(t *testing.T) {
	for _, c := range loadCases {
		t.Run(c.Name, func(t *testing.T) {
			serve := serveHere
			if c.Load.secure() {
				serve = serveTLSHere
			}
			done, err := loadHere(t, loadJob{
				Mode: c.Load, Target: serve(t, c.Backend), Conns: min(c.Conns, 8),
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

func TestHoldTLSKeepsAllOpen(t *testing.T) {
	l := newSecureLoad(loadJob{Mode: holdTLS, Target: serveTLSHere(t, echo), Conns: 20, Time: 30 * time.Second})
	defer l.close()
	done, err := l.run(t.Context())
	if err != nil || done.Ops != 20 || len(l.held) != 20 {
		t.Errorf("got %d connections, %d open, %v, want 20 of both", done.Ops, len(l.held), err)
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
