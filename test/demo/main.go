//go:build linux

// Demo shows a cluster at work on one machine: three nodes with one address, a
// client and three web servers in network namespaces, and a node that is killed
// before your eyes. It leaves all of it running to play with until Ctrl-C.
//
//	make demo
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pen/test/lab"
)

func main() {
	bin := flag.String("bin", "bin", "the directory with pen and penctl")
	once := flag.Bool("once", false, "end when all has been shown")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := show(ctx, os.Stdout, *bin, *once)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is the network with what is shown in it.
type demo struct {
	*lab.Lab
	*lab.Cluster
	out  io.Writer
	bin  string
	once bool
}

// show is the whole demonstration. It ends well when ctx ends.
func show(ctx context.Context, out io.Writer, bin string, once bool) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: sudo make demo")
	}
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	l, err := lab.New(lab.Config{})
	if err != nil {
		return err
	}
	defer func() {
		closing := l.Close()
		if closing == nil {
			fmt.Fprintln(out, "\nEverything is removed.")
		}
		err = errors.Join(err, closing)
	}()
	c, err := l.NewCluster(bin)
	if err != nil {
		return err
	}
	d := demo{l, c, out, bin, once}
	if err := d.play(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func (d demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d demo) play(ctx context.Context) error {
	d.say("Three nodes, %s to %s, with one file:\n", d.Nodes[0].Addr, d.Nodes[len(d.Nodes)-1].Addr)
	d.say("    %s", strings.ReplaceAll(strings.TrimSpace(d.Config), "\n", "\n    "))
	began := time.Now()
	if err := d.Start(d.Nodes...); err != nil {
		return err
	}
	holder, err := d.holder(ctx)
	if err != nil {
		return err
	}
	d.say("\n%s answers for %s, %d ms after the start of all three.", holder.Name, lab.VIP, time.Since(began).Milliseconds())
	for _, step := range []func(context.Context) error{d.table, d.visit, d.kill, d.table, d.back} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if d.once {
		return nil
	}
	d.hints()
	<-ctx.Done()
	return nil
}

// holder waits for a node that answers. If there is none, what the nodes have
// said is the reason.
func (d demo) holder(ctx context.Context) (*lab.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	n, err := d.Holder(ctx)
	if err != nil {
		for _, n := range d.Nodes {
			err = fmt.Errorf("%w\n%s said:\n%s", err, n.Name, d.Pen(n).Log())
		}
	}
	return n, err
}

// table shows the cluster as the first living node sees it.
func (d demo) table(ctx context.Context) error {
	var err error
	for _, n := range d.Nodes {
		if _, ended := d.Pen(n).Wait(0); ended {
			continue
		}
		var text string
		if text, err = d.Ask(ctx, n, "cluster"); err == nil {
			d.say("\n%s# penctl CONTROL cluster\n%s", n.Name, strings.TrimSpace(text))
			return nil
		}
	}
	return err
}

// visitors is how many clients are shown by name.
const visitors = 3

func (d demo) visit(context.Context) error {
	d.say("")
	for i := range visitors {
		server, node, err := d.Fetch(i)
		if err != nil {
			return err
		}
		d.say("client %s is answered by %s, through %s", lab.ClientAddr(i), server, node.Name)
	}
	return nil
}

// kill is what all of this is for.
func (d demo) kill(ctx context.Context) error {
	const clients = 200
	holder, err := d.holder(ctx)
	if err != nil {
		return err
	}
	w, err := d.Watch(clients)
	if err != nil {
		return err
	}
	defer w.Stop()
	d.say("\n%d clients come, one every 5 ms. %s holds the address, and is killed now (kill -9 %d) ...", clients, holder.Name, d.Pen(holder).Pid)
	if err := sleep(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	from := time.Now()
	d.Pen(holder).Signal(syscall.SIGKILL)
	r := w.Report(from, from.Add(2*time.Second))
	if r.First < 0 {
		return fmt.Errorf("nobody has answered since: %s", r)
	}
	d.say("\nFor %d ms nobody was answered. Of %d clients %d kept their server.", r.Gap.Milliseconds(), r.Clients, r.Clients-r.Moved)
	d.say("At no moment did two nodes answer for the address: %v seen.", r.Overlap)
	return d.visit(ctx)
}

// back starts the killed node again.
func (d demo) back(ctx context.Context) error {
	for _, n := range d.Nodes {
		if _, ended := d.Pen(n).Wait(0); ended {
			d.say("\n%s is started again, and stands by.", n.Name)
			if err := d.Start(n); err != nil {
				return err
			}
		}
	}
	return sleep(ctx, 2*time.Second)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (d demo) hints() {
	n := d.Nodes[0]
	ctl := filepath.Join(d.bin, "penctl") + " " + d.Control(n)
	d.say(`
All of it goes on until Ctrl-C. In another terminal, as root:

    # a client, as often as you like; --interface makes it another one (10.0.2.1 to 10.0.2.250)
    ip netns exec %s curl --interface %s http://%s/

    # the cluster as %s sees it; somebody else takes the address
    %s cluster
    %s cluster transfer

    # kill the process of a node, or pull its cable
    kill -9 PID        # %s
    ip netns exec %s ip link set eth0 down

    # look into a node; its files are in %s
    ip netns exec %s ip address show eth0
`, d.ClientNamespace(), lab.ClientAddr(0), lab.VIP, n.Name, ctl, ctl, d.pids(), n.Namespace, n.Dir, n.Namespace)
}

func (d demo) pids() string {
	var all []string
	for _, n := range d.Nodes {
		all = append(all, fmt.Sprintf("%s: %d", n.Name, d.Pen(n).Pid))
	}
	return strings.Join(all, ", ")
}
