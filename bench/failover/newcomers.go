//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
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
	newParts  = 20 // of each kind, in turn
	visitPace = 2 * time.Millisecond
)

// newcomersFor replicates new clients between three nodes of package cluster, with
// their logs on disk and TLS between them, and lets connections go through a proxy
// that stands on the leader. Each node is a process. The leader has a processor to
// itself, as its own machine would be, for its proxy and its replication together. On
// the other one the two other nodes run when nobody else wants to, and the clients
// before everybody else, since they would be other machines. A machine that makes
// 50,000 real connections a second would have no time left for anything else, so the
// clients are given to the leader in the form in which the data plane gives them.
func newcomersFor(ctx context.Context, d time.Duration, progress io.Writer) (res *newcomers, err error) {
	dir, err := os.MkdirTemp("", "pen-newcomers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	on, err := share()
	if err != nil {
		return nil, err
	}
	end, err := goFirst(on)
	if err != nil {
		return nil, err
	}
	defer end()
	ctx, stop := context.WithCancel(ctx)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		stop()
		return nil, err
	}
	defer ln.Close()
	go greet(ln)
	if err := writeKey(filepath.Join(dir, keyFile)); err != nil {
		stop()
		return nil, err
	}
	var nodes []*nodeProcess
	for i := range 3 {
		n, err := startNode(ctx, nodeOrders{Index: i, Dir: filepath.Join(dir, fmt.Sprint(i)), Server: ln.Addr().(*net.TCPAddr).AddrPort()}, on)
		if err != nil {
			stop()
			return nil, err
		}
		defer n.Wait() // after stop, which kills it
		nodes = append(nodes, n)
	}
	defer stop()
	leader := nodes[0]
	var door string
	if err := leader.out.Decode(&door); err != nil {
		return nil, fmt.Errorf("the leading node: %w", err)
	}
	return compare(ctx, leader, door, d, progress)
}

// compare measures with new clients and without, in turn.
func compare(ctx context.Context, leader *nodeProcess, door string, d time.Duration, progress io.Writer) (*newcomers, error) {
	if _, err := visit(ctx, door, d/newParts/4); err != nil { // everything is warm then
		return nil, err
	}
	res := &newcomers{}
	var sum crowd
	for part := range newParts {
		quiet, err := visit(ctx, door, d/newParts/2)
		if err != nil {
			return nil, err
		}
		if err := leader.in.Encode(true); err != nil {
			return nil, err
		}
		crowded, err := visit(ctx, door, d/newParts/2)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(leader.in.Encode(false), leader.out.Decode(&sum)); err != nil {
			return nil, fmt.Errorf("the leading node: %w", err)
		}
		if sum.Err != "" {
			return nil, errors.New(sum.Err)
		}
		res.Quiet, res.Crowded = append(res.Quiet, p99(quiet)), append(res.Crowded, p99(crowded))
		res.Requests += len(quiet) + len(crowded)
		fmt.Fprintf(progress, "part %d: p99 %.0f us alone, %.0f us beside new clients, %d so far\n", part+1, p99(quiet), p99(crowded), sum.Sent)
	}
	res.Rate, res.Batch = float64(sum.Sent)/sum.Spent.Seconds(), sum.Took/time.Duration(max(sum.Batches, 1))
	return res, nil
}

// division is who has which processors of this machine, as taskset(1) takes them.
type division struct {
	leader, others string
	before, now    unix.CPUSet // of this process
}

// share gives the first processor to the leader and the others to everybody else.
func share() (p division, err error) {
	if err := unix.SchedGetaffinity(0, &p.before); err != nil {
		return p, err
	}
	var others []string
	for cpu := range 8 * int(unsafe.Sizeof(p.before)) {
		switch {
		case !p.before.IsSet(cpu):
		case p.leader == "":
			p.leader = strconv.Itoa(cpu)
		default:
			p.now.Set(cpu)
			others = append(others, strconv.Itoa(cpu))
		}
	}
	if len(others) == 0 {
		return p, errors.New("new clients are measured with a processor for the leader and another for the rest: here is only one")
	}
	p.others = strings.Join(others, ",")
	return p, nil
}

// goFirst lets this process, which is the clients and the server, run whenever it
// wants to, as other machines would: what it measures is then the node's doing.
// The function it returns ends that.
func goFirst(on division) (end func(), err error) {
	if err := schedule(unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 1}, &on.now); err != nil {
		return nil, fmt.Errorf("let the clients run first (needs root): %w", err)
	}
	return func() { _ = schedule(unix.SchedAttr{Policy: unix.SCHED_NORMAL}, &on.before) }, nil
}

// schedule changes all threads of this process; those that are made later take after
// them.
func schedule(attr unix.SchedAttr, on *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	attr.Size = unix.SizeofSchedAttr
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := errors.Join(unix.SchedSetAttr(id, &attr, 0), unix.SchedSetaffinity(id, on)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// greet is a server that sends a line.
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

func p99(took []float64) float64 {
	sorted := slices.Sorted(slices.Values(took))
	if len(sorted) == 0 {
		return 0
	}
	return rank(sorted, 0.99)
}

// growth is the median of what new clients make of the p99, from each quiet part to
// the crowded one right after it: so a machine that becomes slower or faster meanwhile
// does not count.
func (r *newcomers) growth() float64 {
	var all []float64
	for i, quiet := range r.Quiet {
		all = append(all, r.Crowded[i]/quiet)
	}
	return rank(slices.Sorted(slices.Values(all)), 0.5)
}

// String is the section of the document; empty if nothing was measured.
func (r *newcomers) String() string {
	if r == nil {
		return ""
	}
	quiet, crowded := rank(slices.Sorted(slices.Values(r.Quiet)), 0.5), rank(slices.Sorted(slices.Values(r.Crowded)), 0.5)
	more, verdict := 100*(r.growth()-1), "yes"
	if more > 10 {
		verdict = "**no**"
	}
	return fmt.Sprintf("\n### New clients\n\nThree nodes, each a process of this machine, with TLS between them and logs that sync, replicate clients that nobody has seen; "+
		"they are given to the leader in batches as the data plane gives them, since a machine of this size can not make as many connections. "+
		"The leader, with its proxy and its replication, has one processor to itself. On the other the clients and the server run before everybody else, and the two other nodes when nobody else wants to, since they would be other machines. "+
		"Beside that, connections go through a proxy on the leader, one every %v, from the connect to the server's line: "+
		"%d in %d parts with the new clients and %d without, in turn; the medians of the parts' p99, and of the growth from each part to the next. A batch was agreed on in %.1f ms on average.\n\n"+
		"| what | goal | reached | |\n| --- | ---: | ---: | --- |\n| new clients a second | >= %d | %.0f | |\n| p99 alone, us | | %.0f | |\n| p99 beside them, us | <= +10 %% | %.0f (%+.0f %%) | %s |\n",
		visitPace, r.Requests, len(r.Crowded), len(r.Quiet), ms(r.Batch), newRate, r.Rate, quiet, crowded, more, verdict)
}
