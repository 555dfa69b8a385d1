//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"pen/cluster"
	"pen/proxy"
	"pen/state"
)

// newcomers is what connections took while clients came that nobody knew.
type newcomers struct {
	Rate     float64       `json:"rate"` // clients a second that were replicated
	Batch    time.Duration `json:"batch_ns"`
	Quiet    []float64     `json:"quiet_us"`   // p99 of each part without them
	Crowded  []float64     `json:"crowded_us"` // and with them
	Requests int           `json:"requests"`
}

// Clients come at this rate, in batches at the pace of the data plane's own.
const (
	newRate   = 50_000
	newPause  = 20 * time.Millisecond
	newParts  = 5 // of each kind, in turn
	visitPace = 2 * time.Millisecond
)

// newcomersFor replicates new clients between three nodes of package cluster in this
// process, with their logs on disk and TLS between them, and lets connections go
// through a proxy that stands on the leader. A machine that makes 50,000 real
// connections a second would have no time left for anything else, so the clients are
// given to the leader in the form in which the data plane gives them.
func newcomersFor(ctx context.Context, d time.Duration, progress io.Writer) (res *newcomers, err error) {
	dir, err := os.MkdirTemp("", "pen-newcomers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	nodes, err := threeNodes(ctx, dir, &wg)
	if err != nil {
		return nil, err
	}
	leader, err := leaderOf(ctx, nodes)
	if err != nil {
		return nil, err
	}
	door, err := front(ctx, leader, &wg)
	if err != nil {
		return nil, err
	}
	c := crowd{leader: leader}
	res = &newcomers{}
	if _, err := visit(ctx, door, d/newParts/4); err != nil { // everything is warm then
		return nil, err
	}
	for part := range newParts {
		quiet, err := visit(ctx, door, d/newParts/2)
		if err != nil {
			return nil, err
		}
		crowded, err := c.visit(ctx, door, d/newParts/2)
		if err != nil {
			return nil, err
		}
		res.Quiet, res.Crowded = append(res.Quiet, p99(quiet)), append(res.Crowded, p99(crowded))
		res.Requests += len(quiet) + len(crowded)
		fmt.Fprintf(progress, "part %d: p99 %.0f us alone, %.0f us beside %d clients\n", part+1, p99(quiet), p99(crowded), c.sent)
	}
	res.Rate, res.Batch = float64(c.sent)/c.spent.Seconds(), c.took/time.Duration(max(c.batches, 1))
	return res, nil
}

func threeNodes(ctx context.Context, dir string, wg *sync.WaitGroup) (nodes []*cluster.Node, err error) {
	key := cluster.GenerateKey()
	var peers []cluster.Peer
	for i := range 3 {
		peers = append(peers, cluster.Peer{Addr: netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("127.0.50.%d", 1+i)), 7950)})
	}
	for i, p := range peers {
		n, err := cluster.Open(cluster.Config{
			Name: "newcomers", Key: key, Peers: peers, Self: p.Addr, Node: fmt.Sprint("pen", i+1),
			Dir: filepath.Join(dir, fmt.Sprint(i)), Heartbeat: 500 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
		n.SetEligible(true, "")
		wg.Go(func() {
			_ = n.Run(ctx) // its end is seen by who proposes
			_ = n.Close()
		})
	}
	return nodes, nil
}

func leaderOf(ctx context.Context, nodes []*cluster.Node) (*cluster.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		for _, n := range nodes {
			if l := n.Lease(); l.Valid && l.Current {
				return n, nil
			}
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("nobody leads: %w", err)
		}
	}
}

// front is a proxy on the node, with a server behind it that sends a line.
func front(ctx context.Context, n *cluster.Node, wg *sync.WaitGroup) (door string, err error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	wg.Go(func() { greet(ln) })
	context.AfterFunc(ctx, func() { ln.Close() })
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	bind := state.Listen{Text: "127.0.0.1:0", Addr: netip.MustParseAddrPort("127.0.0.1:0")}
	res, err := n.Propose(ctx, state.Command{Time: state.At(time.Now()), Ops: []state.Op{
		state.Set{Option: state.OptClientsMax, Value: state.Int(1 << 20)},
		state.Set{Option: state.OptListen, Value: state.Bind(bind)},
		state.SetServer{Fields: state.FieldAddress | state.FieldPort, Server: state.Server{
			Address: state.Address{Host: at.Addr().String(), IP: at.Addr()}, Port: at.Port(),
		}},
	}})
	if err = errors.Join(err, res.Err); err != nil {
		return "", err
	}
	p := proxy.New(proxy.Options{Propose: n.Propose})
	if err := p.Configure(n.View()); err != nil {
		return "", err
	}
	wg.Go(func() { _ = p.Run(ctx) }) // its end is seen by who connects
	wg.Go(func() { follow(ctx, n, p) })
	return p.Address(""), nil
}

// follow gives the proxy each new view, as the daemon does.
func follow(ctx context.Context, n *cluster.Node, p *proxy.Proxy) {
	for {
		changed := n.Watch()
		_ = p.Configure(n.View()) // the listener does not change
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func greet(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte("here\n"))
		c.Close()
	}
}

// visit connects at a steady pace and returns how long each took until the
// server's line was there, in microseconds.
func visit(ctx context.Context, door string, d time.Duration) (took []float64, err error) {
	pace := time.NewTicker(visitPace)
	defer pace.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		began := time.Now()
		c, err := net.DialTimeout("tcp4", door, time.Second)
		if err != nil {
			return nil, err
		}
		_ = c.SetDeadline(began.Add(time.Second))
		_, err = io.ReadAll(c)
		c.Close()
		if err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(began).Microseconds()))
	}
	return took, nil
}

// crowd is clients that nobody has seen before.
type crowd struct {
	leader  *cluster.Node
	sent    int // clients
	batches int
	took    time.Duration // by the batches together
	spent   time.Duration
}

// visit measures like the function, while new clients are replicated.
func (c *crowd) visit(ctx context.Context, door string, d time.Duration) (took []float64, err error) {
	coming, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.come(coming) }()
	began := time.Now()
	took, err = visit(ctx, door, d)
	stop()
	err = errors.Join(err, <-ended)
	c.spent += time.Since(began)
	return took, err
}

// come proposes a batch every 20 ms, one at a time.
func (c *crowd) come(ctx context.Context) error {
	pace := time.NewTicker(newPause)
	defer pace.Stop()
	began, before := time.Now(), c.sent
	for {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil
		}
		due := before + int(time.Since(began).Seconds()*newRate) - c.sent
		batch := make([]state.Visit, 0, due)
		for range min(due, 4096) {
			var a [4]byte
			binary.BigEndian.PutUint32(a[:], 0x0b000000+uint32(c.sent))
			batch = append(batch, state.Visit{Client: netip.AddrFrom4(a)})
			c.sent++
		}
		at := time.Now()
		res, err := c.leader.Propose(context.WithoutCancel(ctx), state.Command{
			Time: state.At(at), Ops: []state.Op{state.Visits{Service: c.leader.View().Services[0].ID, Clients: batch}},
		})
		if err := errors.Join(err, res.Err); err != nil {
			return err
		}
		c.batches++
		c.took += time.Since(at)
	}
}

func p99(took []float64) float64 {
	sorted := slices.Sorted(slices.Values(took))
	if len(sorted) == 0 {
		return 0
	}
	return rank(sorted, 0.99)
}

// String is the section of the document; empty if nothing was measured.
func (r *newcomers) String() string {
	if r == nil {
		return ""
	}
	quiet, crowded := rank(slices.Sorted(slices.Values(r.Quiet)), 0.5), rank(slices.Sorted(slices.Values(r.Crowded)), 0.5)
	more, verdict := 100*(crowded/quiet-1), "yes"
	if more > 10 {
		verdict = "**no**"
	}
	return fmt.Sprintf("\n### New clients\n\nThree nodes in one process of this machine, with TLS between them and logs that sync, replicate clients that nobody has seen; "+
		"they are given to the leader in batches as the data plane gives them, since a machine of this size can not make as many connections. "+
		"Beside that, connections go through a proxy on the leader, one every %v, from the connect to the server's line: "+
		"%d in %d parts with the new clients and %d without, in turn; the median of the parts' p99. A batch was agreed on in %.1f ms on average.\n\n"+
		"| what | goal | reached | |\n| --- | ---: | ---: | --- |\n| new clients a second | >= %d | %.0f | |\n| p99 alone, us | | %.0f | |\n| p99 beside them, us | <= +10 %% | %.0f (%+.0f %%) | %s |\n",
		visitPace, r.Requests, len(r.Crowded), len(r.Quiet), ms(r.Batch), newRate, r.Rate, quiet, crowded, more, verdict)
}
