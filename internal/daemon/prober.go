package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// What a prober is asked. The first comes with the address to connect to.
const (
	askProbe     = "probe "
	askProbeRead = "probe-read"
	askProbeStop = "probe-stop"
)

const (
	probeEvery    = 5 * time.Millisecond
	probePatience = 250 * time.Millisecond // what takes longer is lost: its client waits a second
	probeMost     = 20 * time.Second       // then it ends by itself
	probesAtOnce  = 2 * int(probePatience/probeEvery)
	probeFirst    = time.Second // for the first answers
)

// probed is what a prober has seen since it was last asked.
type probed struct {
	Connects int     `json:"connects"`
	Lost     int     `json:"lost"`
	GapMS    float64 `json:"gap_ms"` // the longest time between two answers
	Err      string  `json:"err,omitempty"`
}

// prober connects to the address again and again while a rehearsal wants it, as
// clients do. One rehearsal at a time.
type prober struct {
	may  func(netip.AddrPort) bool // whether to connect there
	dial func(ctx context.Context, to string) (net.Conn, error)
	want chan netip.AddrPort

	mu     sync.Mutex // guards what follows
	busy   bool
	stop   context.CancelFunc
	seen   probed
	last   time.Time     // when an answer came last; zero: none yet
	gap    time.Duration // the longest since it was last asked
	steady chan struct{} // closed after some answers
	count  int
}

// steadyAfter answers it is clear that probing works.
const steadyAfter = 10

func newProber(may func(netip.AddrPort) bool) *prober {
	dial := func(ctx context.Context, to string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", to)
	}
	return &prober{may: may, dial: dial, want: make(chan netip.AddrPort)}
}

// run does the probing until ctx ends.
func (p *prober) run(ctx context.Context) {
	for {
		select {
		case to := <-p.want:
			p.probe(ctx, to)
		case <-ctx.Done():
			return
		}
	}
}

// answer is the prober's part of what other nodes ask.
func (p *prober) answer(ctx context.Context, what string) ([]byte, error) {
	to, start := strings.CutPrefix(what, askProbe)
	switch {
	case start:
		return nil, p.start(ctx, to)
	case what == askProbeRead:
		return p.read(time.Now())
	case what == askProbeStop:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.stop != nil {
			p.stop()
		}
		return nil, nil
	}
	return nil, fmt.Errorf("%.40q is not understood", what)
}

// start begins, and returns when answers come.
func (p *prober) start(ctx context.Context, text string) error {
	to, err := netip.ParseAddrPort(text)
	if err != nil {
		return err
	}
	if !p.may(to) {
		return fmt.Errorf("%s is no virtual address of this node", to)
	}
	steady := make(chan struct{})
	p.mu.Lock()
	if p.busy {
		p.mu.Unlock()
		return errors.New("another rehearsal is under way")
	}
	p.busy, p.seen, p.last, p.gap, p.count, p.steady = true, probed{}, time.Time{}, 0, 0, steady
	p.mu.Unlock()
	select {
	case p.want <- to:
	case <-ctx.Done():
		p.mu.Lock()
		p.busy = false
		p.mu.Unlock()
		return ctx.Err()
	}
	select {
	case <-steady:
		return nil
	case <-time.After(probeFirst):
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		p.stop()
	}
	return fmt.Errorf("%s does not answer: %s", to, p.seen.Err)
}

// read tells what was seen since the last time.
func (p *prober) read(now time.Time) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.busy {
		return nil, errors.New("there was no rehearsal, or it has taken too long")
	}
	s := p.seen
	gap := max(p.gap, now.Sub(p.last))
	s.GapMS = float64(gap.Microseconds()) / 1000
	p.seen, p.gap = probed{}, 0
	return json.Marshal(s)
}

func (p *prober) probe(ctx context.Context, to netip.AddrPort) {
	ctx, stop := context.WithTimeout(ctx, probeMost)
	defer stop()
	p.mu.Lock()
	p.stop = stop
	p.mu.Unlock()
	var all sync.WaitGroup
	defer func() {
		stop()
		all.Wait()
		p.mu.Lock()
		p.busy, p.stop = false, nil
		p.mu.Unlock()
	}()
	room := make(chan struct{}, probesAtOnce)
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case room <- struct{}{}:
			all.Go(func() {
				p.connect(ctx, to)
				<-room
			})
		default: // so many wait that one more tells nothing
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *prober) connect(ctx context.Context, to netip.AddrPort) {
	try, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	c, err := p.dial(try, to.String())
	if err == nil {
		defer c.Close()
	}
	if ctx.Err() != nil {
		return // the end, which is nobody's fault
	}
	p.note(time.Now(), err)
}

// note counts a connect that was answered or lost.
func (p *prober) note(now time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.Connects++
	if err != nil {
		p.seen.Lost++
		if p.seen.Err == "" {
			p.seen.Err = err.Error()
		}
		return
	}
	if !p.last.IsZero() {
		p.gap = max(p.gap, now.Sub(p.last))
	}
	p.last = now
	if p.count++; p.count == steadyAfter {
		close(p.steady)
	}
}

// isVirtual tells whether an address is one that this node may come to hold.
func (m *member) isVirtual(a netip.AddrPort) bool {
	return slices.Contains(virtual(m.local.Load()), a.Addr())
}
