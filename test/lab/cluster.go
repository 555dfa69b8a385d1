//go:build linux

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Cluster is pen on all nodes of a lab.
type Cluster struct {
	Config string // the same file on all nodes

	lab  *Lab
	bin  string
	pens []*Process
	bins map[*Node]string // where it is not bin
}

// NewCluster writes the files of a cluster: the key, and the configuration with
// the lines in more at its end. bin is the directory with pen and penctl.
func (l *Lab) NewCluster(bin string, more ...string) (*Cluster, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Config: l.configuration(more), lab: l, bin: bin, pens: make([]*Process, len(l.Nodes))}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	key, err := l.Nodes[0].Run(ctx, filepath.Join(bin, "pen"), "--genkey")
	if err != nil {
		return nil, err
	}
	for _, n := range l.Nodes {
		if err := c.write(n, key, c.Config); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// configuration is the text that makes the lab's nodes a cluster.
func (l *Lab) configuration(more []string) string {
	var peers []string
	for _, n := range l.Nodes {
		peers = append(peers, n.Addr.String())
	}
	lines := []string{
		"cluster shop",
		"cluster_key cluster.key",
		"peers " + strings.Join(peers, " "),
		"vip " + VIP.String() + "/24",
		fmt.Sprintf("listen %d", Port),
	}
	for i, s := range l.Servers {
		lines = append(lines, fmt.Sprintf("server %d address %s port %d", i, s.Addr, Port))
	}
	return strings.Join(append(lines, more...), "\n") + "\n"
}

func (c *Cluster) write(n *Node, key, config string) error {
	if err := os.WriteFile(filepath.Join(n.Dir, "cluster.key"), []byte(key), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.Dir, "pen.cfg"), []byte(config), 0o644)
}

// Start starts pen on the nodes. It says who it runs as, since nobody's control
// port is opened for root by mistake.
func (c *Cluster) Start(nodes ...*Node) error {
	for _, n := range nodes {
		bin := c.bin
		if other := c.bins[n]; other != "" {
			bin = other
		}
		p, err := n.Start(filepath.Join(bin, "pen"), "-f", "-u", "root", "-F", "pen.cfg", "-C", c.Control(n), "--data-dir", filepath.Join(n.Dir, "data"))
		if err != nil {
			return err
		}
		c.pens[n.number] = p
	}
	return nil
}

// Install makes bin the directory with the pen that Start starts on a node from
// now on.
func (c *Cluster) Install(n *Node, bin string) {
	if c.bins == nil {
		c.bins = map[*Node]string{}
	}
	c.bins[n] = bin
}

// Control is where pen takes commands on a node. It is a socket, so that the
// lab's user reaches it from any namespace.
func (c *Cluster) Control(n *Node) string { return filepath.Join(n.Dir, "control") }

// Pen is the process that was started last on a node.
func (c *Cluster) Pen(n *Node) *Process { return c.pens[n.number] }

// Ask gives a command to the control port of a node.
func (c *Cluster) Ask(ctx context.Context, n *Node, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return n.Run(ctx, append([]string{filepath.Join(c.bin, "penctl"), c.Control(n)}, words...)...)
}

// Holder is the node that answers for the virtual address, by the way that a
// request goes. It asks again until ctx ends.
func (l *Lab) Holder(ctx context.Context) (*Node, error) {
	for {
		_, n, err := l.Fetch(MaxClients - 1)
		if err == nil {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("nobody answers for %s: %w", VIP, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
