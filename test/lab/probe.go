//go:build linux

package lab

import (
	"bytes"
	"errors"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// outcome is how a probe ended.
type outcome uint8

const (
	pending  outcome = iota
	answered         // by a server
	refused          // no connection: refused
	silent           // no connection: nobody answered
	reset            // connected, and then reset or closed without an answer
	mute             // connected, and then nothing
	broken           // anything else: no route, for instance
)

// probe is one client's request, on a connection of its own.
type probe struct {
	start, end   time.Duration // since the watch began
	outcome      outcome
	client       uint8
	server, node int8 // who has answered; -1: nobody that we know
}

// probePatience is shorter than the second after which a SYN is sent again: a
// SYN that was lost counts as lost.
const probePatience = 900 * time.Millisecond

// maxFlying is how many probes can be under way at 5 ms each, with room.
const maxFlying = 256

// request is all that a client says.
var request = []byte("GET / HTTP/1.0\r\n\r\n")

// prober is the clients: one loop on one thread, so that what it measures is not
// the waiting for a thread.
type prober struct {
	w       *Watch
	poll    int
	timer   int
	clients int
	next    int // client
	flights []*flight
	byFD    map[int]*flight
	names   map[string]int8
	nodes   map[string]int8
}

// flight is a probe under way.
type flight struct {
	probe
	fd        int
	connected bool
	got       []byte
}

func newProber(w *Watch, clients int) (*prober, error) {
	p := &prober{w: w, poll: -1, timer: -1, clients: clients, byFD: map[int]*flight{}, names: map[string]int8{}, nodes: map[string]int8{}}
	for i, s := range w.lab.Servers {
		p.names[s.Name] = int8(i)
	}
	for i := range w.lab.Nodes {
		p.nodes[host(back, firstNode+i).String()] = int8(i)
	}
	var err error
	if p.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if p.timer, err = ticker(probeEvery); err == nil {
		err = unix.EpollCtl(p.poll, unix.EPOLL_CTL_ADD, p.timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.timer)})
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *prober) close() {
	for _, f := range p.flights {
		unix.Close(f.fd)
	}
	unix.Close(p.timer)
	unix.Close(p.poll)
}

func (p *prober) run() {
	defer p.close()
	runtime.LockOSThread() // stays locked: the thread ends in the clients' namespace
	if err := moveTo(netnsDir + "/" + p.w.lab.clients.name); err != nil {
		p.w.fail("clients", err)
		return
	}
	events := make([]unix.EpollEvent, 64)
	for !p.w.stopped() {
		n, err := unix.EpollWait(p.poll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			p.w.fail("clients", err)
			return
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == p.timer {
				p.tick()
			} else if f := p.byFD[int(e.Fd)]; f != nil {
				p.proceed(f)
			}
		}
	}
}

// tick ends who has waited too long and begins the next probe.
func (p *prober) tick() {
	if n := ticks(p.timer); n > 1 {
		p.w.late(time.Duration(n-1) * probeEvery)
	}
	now := p.w.now()
	for len(p.flights) > 0 && now-p.flights[0].start > probePatience {
		f := p.flights[0]
		if f.connected {
			p.land(f, mute)
		} else {
			p.land(f, silent)
		}
	}
	if len(p.flights) < maxFlying && !p.w.resting.Load() {
		p.begin(now)
	}
}

func (p *prober) begin(now time.Duration) {
	f := &flight{probe: probe{start: now, client: uint8(p.next), server: -1, node: -1}, fd: -1}
	p.next = (p.next + 1) % p.clients
	p.flights = append(p.flights, f)
	switch err := p.connect(f); {
	case err == nil, errors.Is(err, unix.EINPROGRESS):
	case errors.Is(err, unix.ECONNREFUSED):
		p.land(f, refused)
	default:
		p.land(f, broken)
	}
}

func (p *prober) connect(f *flight) (err error) {
	if f.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	// The port is chosen when it is known who the other side is.
	if err := unix.SetsockoptInt(f.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	if err := unix.Bind(f.fd, &unix.SockaddrInet4{Addr: ClientAddr(int(f.client)).As4()}); err != nil {
		return err
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(f.fd)}
	if err := unix.EpollCtl(p.poll, unix.EPOLL_CTL_ADD, f.fd, &event); err != nil {
		return err
	}
	p.byFD[f.fd] = f
	return unix.Connect(f.fd, &unix.SockaddrInet4{Port: Port, Addr: VIP.As4()})
}

// ClientAddr is the address of the client number n, from 0.
func ClientAddr(n int) netip.Addr { return host(clients, 1+n) }

// proceed does what can be done on a connection.
func (p *prober) proceed(f *flight) {
	if !f.connected && !p.greet(f) {
		return
	}
	var b [1024]byte
	for {
		n, err := unix.Read(f.fd, b[:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0 || len(f.got) > len(b):
			p.land(f, reset)
			return
		default:
			f.got = append(f.got, b[:n]...)
			if p.understand(f) {
				p.land(f, answered)
				return
			}
		}
	}
}

// greet sends the request once the connection is there.
func (p *prober) greet(f *flight) bool {
	code, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		p.land(f, broken)
	case unix.Errno(code) == unix.ECONNREFUSED:
		p.land(f, refused)
	case unix.Errno(code) == unix.ECONNRESET:
		p.land(f, reset)
	case code != 0:
		p.land(f, broken)
	default:
		switch _, err := unix.Write(f.fd, request); {
		case err == nil:
			f.connected = true
			return true
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOTCONN): // still connecting
		default:
			p.land(f, reset)
		}
	}
	return false
}

// understand looks for the whole answer.
func (p *prober) understand(f *flight) bool {
	_, body, ok := bytes.Cut(f.got, []byte("\r\n\r\n"))
	if !ok || !bytes.HasSuffix(body, []byte("\n")) {
		return false
	}
	name, from, _ := bytes.Cut(bytes.TrimSpace(body), []byte(" "))
	f.server, f.node = index(p.names, name), index(p.nodes, from)
	return true
}

func index(known map[string]int8, name []byte) int8 {
	if i, ok := known[string(name)]; ok {
		return i
	}
	return -1
}

// land ends a probe.
func (p *prober) land(f *flight, o outcome) {
	f.outcome, f.end = o, p.w.now()
	delete(p.byFD, f.fd)
	unix.Close(f.fd)
	for i, other := range p.flights {
		if other == f {
			p.flights = append(p.flights[:i], p.flights[i+1:]...)
			break
		}
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if len(p.w.probes) == maxProbes {
		p.w.lost++
		return
	}
	p.w.probes = append(p.w.probes, f.probe)
}
