package proxy

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pen/state"
)

// idlers are connections to the servers of a service that are kept open for no
// client: they hold a line, or the idle server behind it, awake. As with the original
// they are chosen in turn, whatever else chooses servers, count as connections in
// every figure and limit, and are never given to a client: what a server has said to
// one is thrown away, and a client could not be told.
//
// They are relayed by goroutines on every system.
type idlers struct {
	news chan struct{} // asks the keeper for a look; room for one
	open atomic.Int64  // to how many the server has answered

	mu  sync.Mutex // guards the rest
	all []*netConn // the oldest first
}

// idlerPause is how long the keeper waits before it replaces what has ended: a server
// that ends each of them at once is not asked all the time.
const idlerPause = time.Second

// look asks the keeper to look whether as many are there as should be.
func (i *idlers) look() {
	select {
	case i.news <- struct{}{}:
	default:
	}
}

// keepIdlers keeps as many as the settings want, until ctx ends. Lowering is at once.
func (p *Proxy) keepIdlers(ctx context.Context, f *front) {
	e := p.engine.relays()
	select {
	case <-e.ready:
	case <-ctx.Done():
		return
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	early := true
	for {
		missing := f.trimIdlers(p.idlersOf(f))
		if missing > 0 && !early {
			e.addIdlers(ctx, f, missing)
			pause.Reset(idlerPause)
			early = true
		}
		select {
		case <-ctx.Done():
			f.trimIdlers(0)
			return
		case <-f.idlers.news:
		case <-pause.C:
			early = false
		}
	}
}

// idlersOf is how many a service should have now: none on a node that stands by, or
// where nobody can come in, and no more than half the places.
func (p *Proxy) idlersOf(f *front) int {
	set := f.settings.Load()
	if set.Idlers <= 0 || set.Protocol != state.TCP || len(f.open()) == 0 || !p.serving() {
		return 0
	}
	return min(set.Idlers, set.ConnMax/2)
}

// lookAtIdlers has every keeper look.
func (p *Proxy) lookAtIdlers() {
	for _, f := range *p.fronts.Load() {
		f.idlers.look()
	}
}

// trimIdlers closes what is too much, the latest first, and those whose server is not
// one any more. It returns how many are missing.
func (f *front) trimIdlers(want int) (missing int) {
	plan := f.plan.Load()
	var surplus []*netConn
	f.idlers.mu.Lock()
	f.idlers.all = slices.DeleteFunc(f.idlers.all, func(c *netConn) bool {
		if c.seated(plan) {
			return false
		}
		surplus = append(surplus, c)
		return true
	})
	if n := len(f.idlers.all); n > want {
		surplus = append(surplus, f.idlers.all[want:]...)
		clear(f.idlers.all[want:])
		f.idlers.all = f.idlers.all[:want]
	}
	missing = want - len(f.idlers.all)
	f.idlers.mu.Unlock()
	for _, c := range surplus {
		c.close()
	}
	return missing
}

// seated tells whether the server that c is at still has its seat.
func (c *netConn) seated(p *plan) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return true // between two attempts
	}
	seat := p.seat(c.server.index)
	return seat != nil && seat.server == c.server && seat.usable
}

// addIdlers begins so many, as long as there are places, descriptors and servers. The
// other half of pending_max is for clients.
func (e *netEngine) addIdlers(ctx context.Context, f *front, n int) {
	most := int64(max(1, f.settings.Load().PendingMax/2))
	for range n {
		if f.pending.Load() >= most || !e.addIdler(ctx, f) {
			return
		}
	}
}

// addIdler begins one. False: not now.
func (e *netEngine) addIdler(ctx context.Context, f *front) bool {
	if !e.reserve(f) {
		return false
	}
	now := e.opts.Clock.At(time.Now())
	t := f.beginIdler(now)
	tg, ok := f.next(&t, noClient, now)
	if !ok {
		e.refund(f)
		return false
	}
	slot, _ := f.slots.take()
	ctx, cancel := context.WithCancel(ctx)
	c := &netConn{engine: e, front: f, slot: slot, cancel: cancel, trial: t, idler: true, server: tg.server}
	c.ended[ofClient] = true
	if e.began != nil {
		e.began()
	}
	f.idlers.mu.Lock()
	f.idlers.all = append(f.idlers.all, c)
	f.idlers.mu.Unlock()
	if !e.launch(c, func() { c.idle(ctx, tg) }) {
		f.abandon(tg.server)
		c.end()
		return false
	}
	return true
}

// launch adds a connection that no listener has accepted, and serves it. False: the
// engine does not serve.
func (e *netEngine) launch(c *netConn, serve func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil || e.standing {
		return false
	}
	e.conns[c] = true
	e.work.Go(serve)
	return true
}

// idle connects and waits for the end. What the server says is counted, and no more.
func (c *netConn) idle(ctx context.Context, tg target) {
	defer c.end()
	if !c.connect(ctx, tg, true) {
		return
	}
	f := c.front
	f.idlers.open.Add(1)
	defer f.idlers.open.Add(-1)
	c.mu.Lock()
	conn := c.side[ofServer]
	c.mu.Unlock()
	c.discard(conn)
}

func (c *netConn) discard(conn net.Conn) {
	buf := make([]byte, 512)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			c.note(ofServer, buf[:n])
		}
		c.read[ofServer].Add(uint64(n))
		if err != nil {
			return
		}
	}
}

// forgotten takes an idler off the list when it has ended.
func (i *idlers) forgotten(c *netConn) {
	i.mu.Lock()
	i.all = slices.DeleteFunc(i.all, func(other *netConn) bool { return other == c })
	i.mu.Unlock()
	i.look()
}
