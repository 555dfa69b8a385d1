package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

// tellTale counts how often it is written to, and tells when a read has to wait.
type tellTale struct {
	net.Conn
	writes atomic.Int64
	waits  func() // nil: nobody wants to know
}

func (c *tellTale) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// SyscallConn is for reading without waiting.
func (c *tellTale) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	return watchedRaw{raw, c}, err
}

type watchedRaw struct {
	syscall.RawConn
	of *tellTale
}

func (r watchedRaw) Read(f func(uintptr) bool) error {
	return r.RawConn.Read(func(fd uintptr) bool {
		done := f(fd)
		if !done && r.of.waits != nil {
			r.of.waits()
		}
		return done
	})
}

// wired is the server's half of a TLS connection on a wire, after the handshake, and
// the client's; below is the bare one of the server.
func wired(t *testing.T, below func(net.Conn) net.Conn) (server, client *tls.Conn, bare *tellTale) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	root := authority(t, "root", nil)
	leaf := root.leaf("localhost").both()
	cert, err := tls.X509KeyPair(leaf, leaf)
	if err != nil {
		t.Fatal(err)
	}
	client = tls.Client(below(conn), &tls.Config{RootCAs: root.pool(), ServerName: "localhost"})
	bare = &tellTale{Conn: accepted}
	w := newWire(bare, make(reckoning, 1))
	server = tls.Server(w, &tls.Config{Certificates: []tls.Certificate{cert}})
	t.Cleanup(func() { client.Close(); accepted.Close() })
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	w.turns.begin()
	err = server.Handshake()
	w.turns.end()
	w.shaken()
	if err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return server, client, bare
}

func asIs(c net.Conn) net.Conn { return c }

// Records that are written together leave with one call, the small ones at the
// beginning of a stream, too.
func TestTLSRecordsLeaveTogether(t *testing.T) {
	server, client, bare := wired(t, asIs)
	data := make([]byte, 100<<10)
	_, _ = rand.Read(data)
	got := make(chan []byte)
	go func() {
		b := make([]byte, len(data))
		_, _ = io.ReadFull(client, b)
		got <- b
	}()
	before := bare.writes.Load()
	if n, err := writeTo(server, data); n != len(data) || err != nil {
		t.Fatalf("wrote %d, %v, want %d", n, err, len(data))
	}
	if writes := bare.writes.Load() - before; writes != 1 {
		t.Errorf("%d writes, want 1", writes)
	}
	if !bytes.Equal(<-got, data) {
		t.Error("other bytes came")
	}
}

// dripping writes byte by byte.
type dripping struct{ net.Conn }

func (c dripping) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// Records that come in pieces come whole, and the end comes once.
func TestTLSRecordsComeInPieces(t *testing.T) {
	server, client, _ := wired(t, func(c net.Conn) net.Conn { return dripping{c} })
	data := make([]byte, 40<<10)
	_, _ = rand.Read(data)
	go func() {
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+len(rest)/3)
			_, _ = client.Write(rest[:n])
			rest = rest[n:]
		}
		_ = client.CloseWrite()
	}()
	in := newIntake(server, false)
	var got []byte
	for {
		b, err := in.read()
		got = append(got, b...)
		in.release()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, want the %d that were sent", len(got), len(data))
	}
	if cutOff(server) {
		t.Error("the end was announced, and yet it counts as cut off")
	}
}

// Small records that wait together are taken together.
func TestTLSRecordsAreTakenTogether(t *testing.T) {
	server, client, _ := wired(t, asIs)
	for range 50 {
		if _, err := client.Write([]byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	in := newIntake(server, false)
	reads := 0
	for got := 0; got < 500; reads++ {
		b, err := in.read()
		if err != nil {
			t.Fatal(err)
		}
		got += len(b)
		in.release()
	}
	if reads > 25 {
		t.Errorf("%d reads of 50 records that wait", reads)
	}
}

// Who waits has no buffer, with TLS and without.
func TestNobodyHoldsABufferWhileHeWaits(t *testing.T) {
	server, client, bare := wired(t, asIs)
	for _, side := range []net.Conn{server, bare} { // in this order: the second spoils the first
		t.Run(fmt.Sprintf("%T", side), func(t *testing.T) {
			bare.waits = nil
			in := newIntake(side, false)
			waited := 0
			bare.waits = func() {
				if waited++; in.buf != nil {
					t.Error("a buffer is held")
				}
				_, _ = client.Write([]byte("!"))
			}
			b, err := in.read()
			if err != nil || len(b) == 0 || waited != 1 {
				t.Errorf("got %d bytes, %v after %d waits, want some after 1", len(b), err, waited)
			}
			in.release()
		})
	}
}
