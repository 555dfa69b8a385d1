//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"pen/test/lab"
)

// kind is a sort of fault.
type kind struct {
	name        string
	weight      int
	least, most time.Duration // how long it lasts; 0: it is over at once
	aimed       bool          // at a node
	atHolder    bool          // at the holder
	alone       bool          // nothing else happens in its round
	first       bool          // it is at most once in a round
	full        bool          // only where no node is a witness
	majority    bool          // only where there are three
	pair        bool          // only where there are two
	anew        bool          // the cluster after it is another one
	// do begins it; what it returns ends it.
	do func(p *play, s strike, n int) (undo func() error, err error)
}

// in tells whether it happens to such a cluster.
func (k *kind) in(c lineup) bool {
	switch c {
	case pair:
		return !k.majority
	case witness:
		return !k.full && !k.pair
	}
	return !k.pair
}

const ms = time.Millisecond

var kinds = []kind{
	{name: "killed", weight: 10, least: 20 * ms, most: 900 * ms, aimed: true, do: func(p *play, _ strike, n int) (func() error, error) {
		return p.end(n, func() { p.Pen(p.Nodes[n]).Signal(syscall.SIGKILL) })
	}},
	{name: "killed with its guard", weight: 8, least: 20 * ms, most: 900 * ms, aimed: true, do: func(p *play, _ strike, n int) (func() error, error) {
		return p.end(n, func() { p.Nodes[n].Signal(syscall.SIGKILL) })
	}},
	{name: "guard killed", weight: 4, atHolder: true, first: true, aimed: true, do: (*play).killGuard},
	{name: "frozen", weight: 8, least: 60 * ms, most: 1500 * ms, aimed: true, do: func(p *play, _ strike, n int) (func() error, error) {
		pen := p.Pen(p.Nodes[n])
		return p.freeze(n, pen.Signal)
	}},
	{name: "frozen with its guard", weight: 8, least: 60 * ms, most: 1500 * ms, aimed: true, do: func(p *play, _ strike, n int) (func() error, error) {
		return p.freeze(n, p.Nodes[n].Signal)
	}},
	{name: "stopped", weight: 8, least: 20 * ms, most: 600 * ms, aimed: true, do: (*play).stop},
	{name: "power lost", weight: 6, least: 50 * ms, most: 1000 * ms, aimed: true, do: (*play).power},
	{name: "data wiped", weight: 6, least: 20 * ms, most: 500 * ms, aimed: true, first: true, majority: true, do: (*play).wipe},
	{name: "all killed", weight: 3, least: 20 * ms, most: 400 * ms, alone: true, do: (*play).killAll},
	{name: "rolling restart", weight: 2, alone: true, do: (*play).roll},
	{name: "formed anew", weight: 3, least: 300 * ms, most: 1500 * ms, alone: true, majority: true, anew: true, do: (*play).formAnew},
	{name: "link down", weight: 6, least: 100 * ms, most: 1200 * ms, aimed: true, do: (*play).unplug},
	{name: "link flapping", weight: 4, least: 200 * ms, most: 800 * ms, aimed: true, do: (*play).flap},
	{name: "alone", weight: 8, least: 100 * ms, most: 1500 * ms, aimed: true, do: func(p *play, s strike, n int) (func() error, error) {
		return p.part(s, both(p.side(n), withClients(p.but(n))))
	}},
	{name: "alone with the clients", weight: 5, least: 100 * ms, most: 1500 * ms, aimed: true, do: func(p *play, s strike, n int) (func() error, error) {
		return p.part(s, both(withClients(p.side(n)), p.but(n)))
	}},
	{name: "apart from one", weight: 6, least: 100 * ms, most: 1500 * ms, aimed: true, do: func(p *play, s strike, n int) (func() error, error) {
		return p.part(s, both(p.side(n), p.side((n+1)%len(p.Nodes))))
	}},
	{name: "all apart", weight: 4, least: 100 * ms, most: 1200 * ms, first: true, do: func(p *play, s strike, _ int) (func() error, error) {
		return p.part(s, p.shattered())
	}},
	{name: "can not hear the others", weight: 5, least: 100 * ms, most: 1500 * ms, aimed: true, do: func(p *play, s strike, n int) (func() error, error) {
		return p.part(s, []lab.Cut{{From: p.but(n), To: p.side(n)}})
	}},
	{name: "can not send to the others", weight: 5, least: 100 * ms, most: 1500 * ms, aimed: true, do: func(p *play, s strike, n int) (func() error, error) {
		return p.part(s, []lab.Cut{{From: p.side(n), To: p.but(n)}})
	}},
	{name: "can not hear anybody", weight: 5, least: 100 * ms, most: 1500 * ms, aimed: true, do: func(p *play, s strike, n int) (func() error, error) {
		return p.part(s, []lab.Cut{{From: withClients(p.but(n)), To: p.side(n)}})
	}},
	{name: "can not send at all", weight: 5, least: 100 * ms, most: 1500 * ms, aimed: true, do: func(p *play, s strike, n int) (func() error, error) {
		return p.part(s, []lab.Cut{{From: p.side(n), To: withClients(p.but(n))}})
	}},
	{name: "can not hear one", weight: 5, least: 100 * ms, most: 1500 * ms, aimed: true, do: func(p *play, s strike, n int) (func() error, error) {
		return p.part(s, []lab.Cut{{From: p.side((n + 1) % len(p.Nodes)), To: p.side(n)}})
	}},
	{name: "transfer", weight: 6, do: (*play).transfer},
	{name: "drained", weight: 4, least: 50 * ms, most: 800 * ms, aimed: true, first: true, full: true, majority: true, do: (*play).drain},
	{name: "address deleted by hand", weight: 4, atHolder: true, first: true, aimed: true, do: (*play).deleteAddress},
	{name: "packet filter flushed", weight: 3, atHolder: true, alone: true, aimed: true, do: (*play).flushFilter},
	{name: "disk stalled", weight: 4, least: 50 * ms, most: 1500 * ms, aimed: true, do: (*play).stall},
	{name: "disk full", weight: 5, least: 50 * ms, most: 1000 * ms, aimed: true, first: true, do: (*play).fill},
	{name: "all frozen", weight: 2, least: 50 * ms, most: 1500 * ms, alone: true, do: (*play).freezeAll},
	{name: "garbage on the cluster port", weight: 3, aimed: true, do: (*play).garbage},
	{name: "file read again", weight: 2, do: (*play).reload},
	{name: "disk stalled for long", weight: 3, least: 4000 * ms, most: 6000 * ms, aimed: true, first: true, do: (*play).stall},
	{name: "disk read-only", weight: 3, least: 100 * ms, most: 4000 * ms, aimed: true, first: true, do: (*play).spoil},
	{name: "interface renamed", weight: 3, least: 50 * ms, most: 1500 * ms, aimed: true, alone: true, do: (*play).rename},
	{name: "interface made again", weight: 3, least: 50 * ms, most: 1500 * ms, aimed: true, alone: true, do: (*play).remake},
	{name: "off the list and on it", weight: 3, least: 50 * ms, most: 1500 * ms, aimed: true, alone: true, full: true, majority: true, do: (*play).unlist},
	{name: "removed", weight: 3, least: 50 * ms, most: 1500 * ms, aimed: true, alone: true, full: true, majority: true, do: (*play).remove},
	{name: "recovered without the others", weight: 4, least: 50 * ms, most: 1500 * ms, atHolder: true, aimed: true, alone: true, full: true, majority: true, do: (*play).recover},
	{name: "claimed by a stranger", weight: 4, majority: true, do: func(p *play, _ strike, _ int) (func() error, error) {
		return nil, p.Claim()
	}},
	{name: "killed for long", weight: 20, least: 7000 * ms, most: 8000 * ms, aimed: true, alone: true, pair: true, do: func(p *play, _ strike, n int) (func() error, error) {
		return p.end(n, func() { p.Nodes[n].Signal(syscall.SIGKILL) })
	}},
	{name: "power lost for long", weight: 20, least: 7000 * ms, most: 8000 * ms, aimed: true, alone: true, pair: true, do: (*play).power},
	{name: "frozen for long", weight: 20, least: 7000 * ms, most: 8000 * ms, aimed: true, alone: true, pair: true, do: func(p *play, _ strike, n int) (func() error, error) {
		return p.freeze(n, p.Nodes[n].Signal)
	}},
	{name: "link down for long", weight: 20, least: 7000 * ms, most: 8000 * ms, aimed: true, alone: true, pair: true, do: (*play).unplug},
	{name: "cluster port cut off", weight: 20, least: 4000 * ms, most: 8000 * ms, alone: true, pair: true, do: (*play).mute},
	{name: "apart for long", weight: 20, least: 4000 * ms, most: 8000 * ms, alone: true, pair: true, do: func(p *play, s strike, _ int) (func() error, error) {
		return p.part(s, p.shattered())
	}},
}

// end ends a node's program at once; it is started again.
func (p *play) end(n int, kill func()) (func() error, error) {
	err := p.world.alter(func() error {
		kill()
		return p.gone(n)
	}, p.down(n))
	return func() error { return p.start(n) }, err
}

// down is a node whose program has ended.
func (p *play) down(n int) func() {
	return func() {
		m := &p.world.nodes[n]
		m.running, m.sure = false, false
		m.life++
	}
}

func (p *play) gone(n int) error {
	if _, ended := p.Pen(p.Nodes[n]).Wait(20 * time.Second); !ended {
		return fmt.Errorf("pen on %s does not end", p.Nodes[n].Name)
	}
	return nil
}

// start starts the program. Until the node was seen to be well nobody counts on it.
func (p *play) start(nodes ...int) error {
	return p.world.alter(func() error {
		for _, n := range nodes {
			if err := p.Start(p.Nodes[n]); err != nil {
				return err
			}
		}
		return nil
	}, func() {
		for _, n := range nodes {
			p.world.nodes[n].running = true
			p.world.nodes[n].life++
		}
	})
}

func (p *play) killGuard(_ strike, n int) (func() error, error) {
	pen := p.Pen(p.Nodes[n])
	guard := pen.Guard()
	if guard == 0 {
		return nil, fmt.Errorf("%s holds the address and has no guard", p.Nodes[n].Name)
	}
	return nil, syscall.Kill(guard, syscall.SIGKILL)
}

func (p *play) freeze(n int, signal func(syscall.Signal)) (func() error, error) {
	stop := func() error { signal(syscall.SIGSTOP); return nil }
	err := p.world.alter(stop, func() {
		p.world.nodes[n].running, p.world.nodes[n].sure = false, false
	})
	return func() error {
		return p.world.alter(func() error { signal(syscall.SIGCONT); return nil }, func() { p.world.nodes[n].running = true })
	}, err
}

// stop asks the program to end, and waits until it has.
func (p *play) stop(_ strike, n int) (func() error, error) {
	err := p.world.alter(func() error { return p.terminate(n) }, p.down(n))
	return func() error { return p.start(n) }, err
}

func (p *play) terminate(n int) error {
	pen := p.Pen(p.Nodes[n])
	pen.Signal(syscall.SIGTERM)
	if err := p.gone(n); err != nil {
		return err
	}
	if status, _ := pen.Wait(0); status != 0 {
		return fmt.Errorf("pen on %s was asked to end and ended with status %d", p.Nodes[n].Name, status)
	}
	return nil
}

func (p *play) power(_ strike, n int) (func() error, error) {
	err := p.world.alter(func() error { return errors.Join(p.Nodes[n].PowerOff(), p.gone(n)) }, p.down(n))
	return func() error {
		return errors.Join(p.world.alter(p.Nodes[n].PowerOn, func() {}), p.start(n))
	}, err
}

func (p *play) wipe(_ strike, n int) (func() error, error) {
	again, err := p.end(n, func() { p.Nodes[n].Signal(syscall.SIGKILL) })
	return again, errors.Join(err, p.Nodes[n].Wipe())
}

func (p *play) all() (all []int) {
	for n := range p.Nodes {
		all = append(all, n)
	}
	return all
}

func (p *play) killAll(_ strike, _ int) (func() error, error) {
	var errs []error
	for _, n := range p.all() {
		p.Pen(p.Nodes[n]).Signal(syscall.SIGKILL)
	}
	for _, n := range p.all() {
		_, err := p.end(n, func() {})
		errs = append(errs, err)
	}
	return func() error { return p.start(p.all()...) }, errors.Join(errs...)
}

func (p *play) roll(_ strike, _ int) (func() error, error) {
	for _, n := range p.all() {
		again, err := p.stop(strike{}, n)
		if err == nil {
			err = again()
		}
		if err == nil {
			err = p.well()
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// formAnew takes everything away from all nodes. They form a new cluster while
// they come one after the other, and while the network is not whole.
func (p *play) formAnew(s strike, _ int) (func() error, error) {
	p.writer.pause()
	err := p.world.alter(func() error {
		var errs []error
		for _, n := range p.Nodes {
			n.Signal(syscall.SIGKILL)
		}
		for _, n := range p.all() {
			errs = append(errs, p.gone(n), p.Nodes[n].Wipe())
		}
		return errors.Join(errs...)
	}, func() {
		for _, n := range p.all() {
			p.down(n)()
		}
	})
	p.forget()
	cuts := [][]lab.Cut{
		nil,
		p.shattered(),
		both(p.side(int(s.draw>>8%3)), p.but(int(s.draw>>8%3))),
		both(p.side(0), p.side(1)),
		{{From: p.side(0), To: p.but(0)}},
		{{From: p.but(0), To: p.side(0)}},
	}
	heal, cutting := p.part(s, cuts[s.draw%uint64(len(cuts))])
	err = errors.Join(err, cutting)
	for i := range p.Nodes {
		n := (i + int(s.draw>>16%3)) % len(p.Nodes)
		err = errors.Join(err, p.start(n))
		time.Sleep(time.Duration(s.draw>>(20+8*i)%200) * ms)
	}
	return heal, err
}

func (p *play) unplug(_ strike, n int) (func() error, error) {
	err := p.world.alter(p.Nodes[n].LinkDown, func() {
		p.world.nodes[n].linked, p.world.nodes[n].sure = false, false
	})
	return func() error {
		return p.world.alter(p.Nodes[n].LinkUp, func() { p.world.nodes[n].linked = true })
	}, err
}

func (p *play) flap(s strike, n int) (func() error, error) {
	for end := time.Now().Add(s.lasts); time.Now().Before(end); time.Sleep(60 * ms) {
		plug, err := p.unplug(s, n)
		if err != nil {
			return nil, err
		}
		time.Sleep(60 * ms)
		if err := plug(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// side is one node, but all others.
func (p *play) side(n int) lab.Side { return lab.Side{Nodes: []*lab.Node{p.Nodes[n]}} }

func (p *play) but(n int) (s lab.Side) {
	for i, o := range p.Nodes {
		if i != n {
			s.Nodes = append(s.Nodes, o)
		}
	}
	return s
}

func withClients(s lab.Side) lab.Side { s.Clients = true; return s }

func both(a, b lab.Side) []lab.Cut { return []lab.Cut{{From: a, To: b}, {From: b, To: a}} }

func (p *play) shattered() (cuts []lab.Cut) {
	for n := range p.Nodes {
		cuts = append(cuts, lab.Cut{From: p.side(n), To: p.but(n)})
	}
	return cuts
}

// part adds cuts to the network, beside those of other faults.
func (p *play) part(s strike, cuts []lab.Cut) (func() error, error) {
	err := p.recut(s.number, cuts)
	return func() error { return p.recut(s.number, nil) }, err
}

// recut makes the network as all faults together want it.
func (p *play) recut(number int, cuts []lab.Cut) error {
	p.cutting.Lock()
	defer p.cutting.Unlock()
	p.cuts[number] = cuts
	var all []lab.Cut
	for _, c := range p.cuts {
		all = append(all, c...)
	}
	return p.world.alter(func() error { return p.Cuts(all) }, func() { p.world.cuts[number] = p.ways(cuts) })
}

func (p *play) ways(cuts []lab.Cut) (all []way) {
	for _, c := range cuts {
		for _, from := range p.indices(c.From) {
			for _, to := range p.indices(c.To) {
				all = append(all, way{from, to})
			}
		}
	}
	return all
}

func (p *play) indices(s lab.Side) (all []int) {
	for _, n := range s.Nodes {
		all = append(all, p.index(n))
	}
	if s.Clients {
		all = append(all, gatewaySide)
	}
	return all
}

// mute lets nothing of the cluster pass between two nodes, but all else.
func (p *play) mute(_ strike, _ int) (func() error, error) {
	err := p.world.alter(func() error { return p.CutPort(p.side(0), p.side(1)) }, func() { p.world.muted = true })
	return func() error { return p.world.alter(p.Heal, func() { p.world.muted = false }) }, err
}

func (p *play) index(n *lab.Node) int {
	for i, o := range p.Nodes {
		if o == n {
			return i
		}
	}
	return -1
}

// transfer may be refused: maybe nobody can take the address just now.
func (p *play) transfer(strike, int) (func() error, error) {
	n := max(p.owner(), 0)
	p.world.note(func() { p.world.keeper = -1 })
	return nil, p.world.alter(func() error {
		p.ask(context.Background(), n, "cluster", "transfer")
		return nil
	}, func() {})
}

func (p *play) drain(_ strike, n int) (func() error, error) {
	who := p.Nodes[n].Addr.String()
	err := p.world.alter(func() error {
		p.ask(context.Background(), n, "cluster", "drain", who)
		return nil
	}, func() { p.world.nodes[n].drained = true })
	return func() error {
		return p.world.alter(func() error { return p.insist("cluster", "undrain", who) }, func() {
			p.world.nodes[n].drained, p.world.nodes[n].sure = false, false
		})
	}, err
}

func (p *play) deleteAddress(_ strike, n int) (func() error, error) {
	_, err := p.Nodes[n].Run(context.Background(), "ip", "addr", "flush", "dev", "eth0", "to", lab.VIP.String())
	if p.episode.dual() {
		_, err6 := p.Nodes[n].Run(context.Background(), "ip", "-6", "addr", "flush", "dev", "eth0", "to", lab.VIP6.String())
		err = errors.Join(err, err6)
	}
	return nil, err
}

func (p *play) flushFilter(_ strike, n int) (func() error, error) {
	_, err := p.Nodes[n].Run(context.Background(), "nft", "flush", "ruleset")
	return nil, err
}

// stall makes a node useless for elections, but not for its connections.
func (p *play) stall(s strike, n int) (func() error, error) {
	err := p.world.alter(func() error { return p.Nodes[n].Stall(s.lasts) }, func() { p.world.nodes[n].sure = false })
	return func() error { return nil }, err
}

func (p *play) fill(_ strike, n int) (func() error, error) {
	err := p.world.alter(p.Nodes[n].Fill, func() { p.world.nodes[n].sure = false })
	return func() error { return p.world.alter(p.Nodes[n].Free, func() {}) }, err
}

func (p *play) freezeAll(strike, int) (func() error, error) {
	var all []func() error
	for _, n := range p.all() {
		thaw, err := p.freeze(n, p.Nodes[n].Signal)
		if err != nil {
			return nil, err
		}
		all = append(all, thaw)
	}
	return func() (err error) {
		for _, thaw := range all {
			err = errors.Join(err, thaw())
		}
		return err
	}, nil
}

// garbage comes to the port of the cluster from somewhere else.
func (p *play) garbage(s strike, n int) (func() error, error) {
	r := rand.New(rand.NewPCG(s.draw, 0))
	var open []net.Conn
	for range 100 {
		c, err := p.Connect(p.Nodes[n].Addr.String()+":7950", 20*ms)
		if err != nil {
			break // nobody is there, or it takes no more
		}
		open = append(open, c)
		junk := make([]byte, 1+r.IntN(2000))
		for i := range junk {
			junk[i] = byte(r.Uint32())
		}
		c.SetWriteDeadline(time.Now().Add(20 * ms))
		c.Write(junk)
	}
	for _, c := range open {
		c.Close()
	}
	return nil, nil
}

// reload may be refused where there is no leader.
func (p *play) reload(s strike, _ int) (func() error, error) {
	p.ask(context.Background(), int(s.draw%uint64(len(p.Nodes))), "reload")
	return nil, nil
}
