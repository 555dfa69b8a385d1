//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"pen/cluster"
	"pen/proxy"
	"pen/state"
)

// nodeEnv tells this program that it is a node for newcomersFor, and which.
const nodeEnv = "PEN_FAILOVER_NODE"

// nodeOrders are what a node needs to know.
type nodeOrders struct {
	Index  int
	Dir    string         // beside the file with the key
	Server netip.AddrPort // behind the proxy
}

// nodeProcess is a node seen from outside. The first says where its proxy listens;
// then it takes true to let new clients come, and false to end that, which it
// answers with a crowd.
type nodeProcess struct {
	*exec.Cmd
	in  *json.Encoder
	out *json.Decoder
}

// startNode starts one on the processor that is its own. It is killed when ctx ends.
func startNode(ctx context.Context, o nodeOrders, on division) (*nodeProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	argv := []string{"taskset", "--cpu-list", on.leader, "chrt", "--other", "0", self}
	if o.Index > 0 {
		argv = []string{"taskset", "--cpu-list", on.others, "chrt", "--idle", "0", self}
	}
	n := &nodeProcess{Cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	n.Env = append(os.Environ(), nodeEnv+"="+string(text))
	n.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	n.Stderr = os.Stderr
	in, err := n.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := n.StdoutPipe()
	if err != nil {
		return nil, err
	}
	n.in, n.out = json.NewEncoder(in), json.NewDecoder(out)
	return n, n.Start()
}

// node is the life of such a process, until its input ends.
func node(in io.Reader, out io.Writer) error {
	var o nodeOrders
	if err := json.Unmarshal([]byte(os.Getenv(nodeEnv)), &o); err != nil {
		return fmt.Errorf("%s: %w", nodeEnv, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	n, err := openNode(o)
	if err != nil {
		return err
	}
	wg.Go(func() {
		_ = n.Run(ctx) // its end is seen by who proposes
		_ = n.Close()
	})
	if o.Index > 0 {
		n.SetEligible(false, "another machine")
		_, err = io.Copy(io.Discard, in)
		return err
	}
	n.SetEligible(true, "")
	return lead(ctx, n, o.Server, json.NewDecoder(in), json.NewEncoder(out), &wg)
}

// keyFile is where the nodes have their key from.
const keyFile = "key"

func writeKey(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = cluster.GenerateKey().WriteTo(f)
	return errors.Join(err, f.Close())
}

func openNode(o nodeOrders) (*cluster.Node, error) {
	key, err := cluster.ReadKey(filepath.Join(filepath.Dir(o.Dir), keyFile))
	if err != nil {
		return nil, err
	}
	var peers []cluster.Peer
	for i := range 3 {
		peers = append(peers, cluster.Peer{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 50, byte(1 + i)}), 7950)})
	}
	return cluster.Open(cluster.Config{
		Name: "newcomers", Key: key, Peers: peers, Self: peers[o.Index].Addr, Node: filepath.Base(o.Dir),
		Dir: o.Dir, Heartbeat: time.Second, Log: slog.New(slog.DiscardHandler),
	})
}

// lead is the first node, which leads and has the proxy.
func lead(ctx context.Context, n *cluster.Node, server netip.AddrPort, in *json.Decoder, out *json.Encoder, wg *sync.WaitGroup) error {
	if err := awaitLease(ctx, n); err != nil {
		return err
	}
	door, err := front(ctx, n, server, wg)
	if err != nil {
		return err
	}
	if err := out.Encode(door); err != nil {
		return err
	}
	c := crowd{leader: n}
	for {
		var come bool
		if err := in.Decode(&come); err != nil {
			return nil // nobody is there any more
		}
		coming, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		began := time.Now()
		go func() { ended <- c.come(coming) }()
		err := in.Decode(&come)
		stop()
		if failed := <-ended; failed != nil {
			c.Err = failed.Error()
		}
		c.Spent += time.Since(began)
		if err := errors.Join(err, out.Encode(c)); err != nil {
			return err
		}
	}
}

func awaitLease(ctx context.Context, n *cluster.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		if l := n.Lease(); l.Valid && l.Current {
			return nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("the first node does not lead: %w", err)
		}
	}
}

// front is a proxy on the node.
func front(ctx context.Context, n *cluster.Node, server netip.AddrPort, wg *sync.WaitGroup) (door string, err error) {
	res, err := n.Propose(ctx, state.Command{Time: state.At(time.Now()), Ops: []state.Op{
		state.Set{Option: state.OptClientsMax, Value: state.Int(1 << 20)},
		state.Set{Option: state.OptListen, Value: state.Bind(state.Listen{Text: "127.0.0.1:0", Addr: netip.MustParseAddrPort("127.0.0.1:0")})},
		state.SetServer{Fields: state.FieldAddress | state.FieldPort, Server: state.Server{
			Address: state.Address{Host: server.Addr().String(), IP: server.Addr()}, Port: server.Port(),
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

// crowd is clients that nobody has seen before.
type crowd struct {
	Sent    int // clients
	Batches int
	Took    time.Duration // by the batches together
	Spent   time.Duration
	Err     string

	leader *cluster.Node
}

// batchMost is how many clients a batch has at most, as in the data plane.
const batchMost = 4096

// come proposes a batch every 20 ms, one at a time.
func (c *crowd) come(ctx context.Context) error {
	pace := time.NewTicker(newPause)
	defer pace.Stop()
	began, before := time.Now(), c.Sent
	service := c.leader.View().Services[0].ID
	batch := make([]state.Visit, 0, batchMost)
	for {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil
		}
		due := before + int(time.Since(began).Seconds()*newRate) - c.Sent
		batch = batch[:0]
		for range min(due, batchMost) {
			batch = append(batch, state.Visit{Client: newClient(c.Sent)})
			c.Sent++
		}
		at := time.Now()
		res, err := c.leader.Propose(context.WithoutCancel(ctx), state.Command{
			Time: state.At(at), Ops: []state.Op{state.Visits{Service: service, Clients: batch}},
		})
		if err := errors.Join(err, res.Err); err != nil {
			return err
		}
		c.Batches++
		c.Took += time.Since(at)
	}
}

// newClient is the client of that number, from 11.0.0.0 on.
func newClient(number int) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 11<<24+uint32(number))
	return netip.AddrFrom4(a)
}
