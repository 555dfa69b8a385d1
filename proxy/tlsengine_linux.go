package proxy

import (
	"context"
	"net"
	"os"
	"time"
)

// A client who talks TLS is accepted by a loop and served by goroutines: there the
// cryptography dominates. The engine owns both. Places, slots, descriptors and
// connections are counted once, for all.

// newSecure returns the half of the engine that ends TLS.
func newSecure(e *engine) *netEngine {
	s := newNetEngine(e.log, e.opts)
	s.inUse = &e.inUse
	s.freedOne = e.freed
	s.ended = e.closed
	return s
}

// freed looks after the clients who wait for a place at f, after a goroutine has
// given one back: the first loop takes in as many as there are places for.
func (e *engine) freed(f *front) {
	for _, ln := range f.open() {
		if !ln.suspended.Load() {
			continue
		}
		if loops := e.running(); len(loops) > 0 {
			loops[0].post(func(l *loop) { l.kick(f) })
		}
		return
	}
}

// systemTimes are those of a socket with SO_KEEPALIVE alone. Package net can not
// leave a socket as it is that was made elsewhere.
var systemTimes = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Hour, Interval: 75 * time.Second, Count: 9}

// handOver gives a client to the goroutines. His place is taken, as in welcome.
func (l *loop) handOver(ctx context.Context, f *front, fd int32) {
	e := l.engine
	e.conns.Add(1)
	conn, err := connOf(fd)
	if err != nil {
		f.lost.Add(1)
		l.refund(f)
		e.closed()
		l.kick(f)
		return
	}
	e.secure.welcome(ctx, f, conn)
}

// connOf makes a connection of package net out of a descriptor, which it takes.
func connOf(fd int32) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "client")
	defer file.Close()
	conn, err := net.FileConn(file)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(systemTimes)
	}
	return conn, err
}
