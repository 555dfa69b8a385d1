//go:build linux

package lab

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Pulse is the moments at which clients were answered at one address. It is the
// same for every family, so that two can be compared.
type Pulse struct {
	to    netip.AddrPort
	mu    sync.Mutex
	beats []time.Time
	fails int
	wg    sync.WaitGroup
}

// How the pulse is taken: threads in turn, each waiting for its own answer.
const (
	pulseThreads = 40
	pulseRound   = pulseThreads * probeEvery
)

// Feel begins to fetch from an address every 5 ms, until ctx ends.
func (l *Lab) Feel(ctx context.Context, to netip.Addr) *Pulse {
	p := &Pulse{to: netip.AddrPortFrom(to, Port)}
	for i := range pulseThreads {
		p.wg.Go(func() { p.run(ctx, l, i) })
	}
	return p
}

func (p *Pulse) run(ctx context.Context, l *Lab, client int) {
	runtime.LockOSThread() // stays locked: the thread ends in the clients' namespace
	if err := moveTo(netnsDir + "/" + l.clients.name); err != nil {
		return // no beat at all will be noticed
	}
	from := ClientAddr(client)
	if p.to.Addr().Is6() {
		from = ClientAddr6(client)
	}
	time.Sleep(time.Duration(client) * probeEvery)
	turn := time.NewTicker(pulseRound)
	defer turn.Stop()
	for ctx.Err() == nil {
		ok := p.beat(from)
		p.mu.Lock()
		if ok {
			p.beats = append(p.beats, time.Now())
		} else {
			p.fails++
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-turn.C:
		}
	}
}

func (p *Pulse) beat(from netip.Addr) bool {
	d := net.Dialer{Timeout: pulseRound, LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	c, err := d.Dial("tcp", p.to.String())
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(pulseRound))
	if _, err := c.Write(request); err != nil {
		return false
	}
	n, _ := c.Read(make([]byte, 1024))
	return n > 0
}

// Wait returns when the last client has ended.
func (p *Pulse) Wait() { p.wg.Wait() }

// Gap is the longest time without an answer between two moments, and how many
// answers there were.
func (p *Pulse) Gap(from, to time.Time) (gap time.Duration, answers int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.SortFunc(p.beats, time.Time.Compare)
	last := from
	for _, at := range p.beats {
		if at.Before(from) || at.After(to) {
			continue
		}
		answers++
		gap, last = max(gap, at.Sub(last)), at
	}
	return max(gap, to.Sub(last)), answers
}
