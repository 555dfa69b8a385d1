package vip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// A Prober looks at the segment of the addresses: whether the gateway answers,
// and whether another machine has an address. It changes nothing. Its methods may
// be called by any goroutine.
type Prober struct {
	targets []target
	addrs   []netip.Addr
	gateway Gateway
	log     *slog.Logger
	kick    chan struct{}

	// Owned by Run.
	segments map[string]*segment
	series   series
	beacon   time.Time
	seen     time.Time // when links and routes were last read
	links    []link
	have     []present
	on       link
	asked    time.Time // when the gateway last was

	mu      sync.Mutex // guards what follows
	effort  Effort
	asking  asking
	ask     netip.Addr       // whom
	at      net.HardwareAddr // where that is, as of the last answer
	why     string           // nobody is asked
	own     []net.HardwareAddr
	claimed time.Time
	by      string
	free    bool
}

// Prober makes one for the addresses of v.
func (v *VIP) Prober(g Gateway) *Prober {
	return &Prober{
		targets: v.targets, addrs: v.addrs, gateway: g, log: v.log,
		kick: make(chan struct{}, 1), segments: map[string]*segment{}, why: "the gateway",
	}
}

// Do says what to do from now on. It never waits.
func (p *Prober) Do(e Effort) {
	p.mu.Lock()
	same := p.effort == e
	p.effort = e
	p.mu.Unlock()
	if !same {
		kick(p.kick)
	}
}

// Look returns what is seen. It never waits.
func (p *Prober) Look() Sight {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Sight{Gateway: p.effort.Gateway && p.asking.good(), Asked: p.why, Claimed: p.claimed, By: p.by, Free: p.free && p.effort.Probe}
	if p.gateway.None {
		s.Gateway, s.Asked = true, "the carrier"
	} else if p.ask.IsValid() {
		s.Asked = "the gateway " + p.ask.String()
	}
	return s
}

// Run looks until ctx ends.
func (p *Prober) Run(ctx context.Context) {
	defer p.close()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		p.mu.Lock()
		e := p.effort
		p.mu.Unlock()
		now := time.Now()
		wait := askEvery
		if e == (Effort{}) {
			p.close()
			wait = time.Hour
		} else {
			p.read(now)
		}
		p.question(e, now)
		p.probes(e, now)
		if e.Probe {
			wait = min(wait, max(time.Until(p.series.next), time.Millisecond))
		}
		tick.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-tick.C:
		}
	}
}

// read takes in links and routes, twice a second at most.
func (p *Prober) read(now time.Time) {
	if now.Sub(p.seen) < 500*time.Millisecond {
		return
	}
	p.seen = now
	links, have, err := look()
	if err != nil {
		p.fault(err)
		return
	}
	p.links, p.have = links, have
	p.open()
	var routes []route
	if !p.gateway.None && !p.gateway.Addr.IsValid() {
		if routes, err = readRoutes(); err != nil {
			p.fault(err)
			return
		}
	}
	on, ask, err := gatewayOf(p.gateway, p.targets, links, routes)
	p.on = on
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own = p.own[:0]
	for _, l := range links {
		p.own = append(p.own, l.MAC)
	}
	if ask != p.ask {
		p.asking = asking{}
	}
	p.ask, p.why = ask, text(err)
}

func (p *Prober) fault(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ask, p.why = netip.Addr{}, err.Error()
}

// open has a segment for each link.
func (p *Prober) open() {
	for _, t := range p.targets {
		i := slices.IndexFunc(p.links, func(l link) bool { return l.Name == t.Link })
		s := p.segments[t.Link]
		if s != nil && (i < 0 || s.link.Index != p.links[i].Index) {
			s.close()
			delete(p.segments, t.Link)
			s = nil
		}
		if s != nil || i < 0 {
			continue
		}
		// The gateway may be of the other family.
		s, err := openSegment(p.links[i], true, true, p.claim)
		if err != nil {
			p.log.Warn("no sockets to look at the network", "iface", t.Link, "err", err)
			continue
		}
		p.segments[t.Link] = s
	}
}

// close wakes nobody any more.
func (p *Prober) close() {
	for name, s := range p.segments {
		s.close()
		delete(p.segments, name)
	}
	p.seen = time.Time{}
}

// claim is told of every claim on a segment.
func (p *Prober) claim(_ string, addr netip.Addr, mac net.HardwareAddr, age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.own, func(m net.HardwareAddr) bool { return equalMAC(m, mac) }) {
		return
	}
	if addr == p.ask {
		p.asking.answered()
		p.at = mac
	}
	if slices.Contains(p.addrs, addr) {
		p.claimed, p.by = time.Now().Add(-age), mac.String()
		kick(p.kick)
	}
}

// question asks the gateway, when it is time: everybody at first, then the machine
// that has answered.
func (p *Prober) question(e Effort, now time.Time) {
	p.mu.Lock()
	ask, at := p.ask, p.at
	if !e.Gateway || !ask.IsValid() {
		p.asking, p.at, p.asked = asking{}, nil, time.Time{}
		p.mu.Unlock()
		return
	}
	if now.Sub(p.asked) < askEvery-askEvery/20 {
		p.mu.Unlock()
		return
	}
	p.asked = now
	p.asking.next()
	if !p.asking.last[2] {
		at = nil
	}
	p.mu.Unlock()
	s := p.segments[p.on.Name]
	if s == nil {
		return
	}
	frame, err := probe(p.on.MAC, ask)
	if ask.Is4() {
		frame, err = arpFrame(p.on.MAC, askFrom(p.on, p.have, ask), ask)
	}
	if err == nil {
		if ask.Is4() && len(at) == len(broadcast) {
			copy(frame, at)
		}
		_ = s.send(frame) // what is not sent is not answered
	}
}

// probes asks for the addresses.
func (p *Prober) probes(e Effort, now time.Time) {
	send := false
	switch {
	case e.Probe:
		send = p.series.due(now)
		if !send && p.series.sent == 0 {
			send = p.series.due(now) // the next series
		}
	default:
		p.series.stop()
		if e.Beacon && now.Sub(p.beacon) >= beaconEvery {
			p.beacon, send = now, true
		}
	}
	p.mu.Lock()
	p.free = p.series.free(now, p.claimed)
	p.mu.Unlock()
	if !send {
		return
	}
	for _, t := range p.targets {
		s := p.segments[t.Link]
		if s == nil {
			continue
		}
		if frame, err := probe(s.link.MAC, t.Addr); err == nil {
			_ = s.send(frame)
		}
	}
}

// readRoutes lists the default routes.
func readRoutes() ([]route, error) {
	var all []route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, err := netlink.RouteList(nil, family)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range found {
			if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
				continue
			}
			hops := []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
			if len(r.MultiPath) > 0 {
				hops = r.MultiPath
			}
			for _, h := range hops {
				if gw, ok := netip.AddrFromSlice(h.Gw); ok {
					all = append(all, route{h.LinkIndex, gw.Unmap(), r.Priority})
				}
			}
		}
	}
	return all, nil
}
