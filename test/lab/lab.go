//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Port is the port of the service, on the virtual address and on the servers.
const Port = 80

// Where everybody is. Clients stand behind a router, as most do: nodes know one
// neighbour for all of them.
var (
	VIP     = netip.MustParseAddr("10.0.0.10")
	front   = netip.MustParsePrefix("10.0.0.0/24")
	back    = netip.MustParsePrefix("10.0.1.0/24")
	clients = netip.MustParsePrefix("10.0.2.0/24")
)

const (
	firstNode  = 11  // pen1 is 10.0.0.11 and 10.0.1.11
	routerHost = 100 // the clients' router, 10.0.0.100
	askerHost  = 128 // who asks who has the virtual address: 10.0.0.128 and the next ones
	maxNodes   = 8   // answers are bits
	maxServers = 8
)

// MaxClients is how many clients there are room for.
const MaxClients = 250

// Config is the size of a lab.
type Config struct {
	Nodes   int // 0: 3
	Servers int // 0: 3
}

// Lab is the network. It is made by New.
type Lab struct {
	Nodes   []*Node
	Servers []*Server
	Dir     string // removed by Close

	prefix   string // of the namespaces' names
	dual     bool   // the front network has IPv6, too
	lock     *os.File
	sw       *cell // the bridges
	clients  *cell
	observer *cell
	web      *cell

	mu        sync.Mutex // guards the rest
	processes []*Process
	watches   []*Watch
}

// Node is a machine of the cluster.
type Node struct {
	Name      string // pen1
	Namespace string // for ip netns exec
	Addr      netip.Addr
	Dir       string // where its programs run

	lab    *Lab
	cell   *cell
	number int // from 0
}

// labs tells the labs of one process apart.
var labs atomic.Int32

// New builds the network. The caller closes it.
func New(c Config) (*Lab, error) {
	if c.Nodes == 0 {
		c.Nodes = 3
	}
	if c.Servers == 0 {
		c.Servers = 3
	}
	if c.Nodes < 1 || c.Nodes > maxNodes || c.Servers < 1 || c.Servers > maxServers {
		return nil, fmt.Errorf("a lab of %d nodes and %d servers: 1 to %d nodes and 1 to %d servers are possible",
			c.Nodes, c.Servers, maxNodes, maxServers)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root; run it as root (sudo)")
	}
	if err := sweep(); err != nil {
		return nil, err
	}
	l := &Lab{prefix: fmt.Sprintf("pen%d-%d-", os.Getpid(), labs.Add(1))}
	if err := l.build(c); err != nil {
		return nil, errors.Join(fmt.Errorf("build the lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build(c Config) (err error) {
	if l.lock, err = take(l.prefix); err != nil {
		return err
	}
	if l.Dir, err = os.MkdirTemp("", dirPattern); err != nil {
		return err
	}
	if _, err := l.lock.WriteString(l.Dir); err != nil {
		return err
	}
	// Programs may run as another user.
	if err := os.Chmod(l.Dir, 0o755); err != nil {
		return err
	}
	for i := range c.Nodes {
		if err := l.addNode(i); err != nil {
			return err
		}
	}
	for name, to := range map[string]**cell{"switch": &l.sw, "client": &l.clients, "observer": &l.observer, "web": &l.web} {
		if *to, err = l.addCell(name); err != nil {
			return err
		}
	}
	if err := l.wire(c.Servers); err != nil {
		return err
	}
	for i := range c.Servers {
		s := &Server{Name: fmt.Sprintf("web%d", i+1), Addr: host(back, 1+i), lab: l}
		l.Servers = append(l.Servers, s)
		if err := s.Start(); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) addNode(i int) error {
	n := &Node{Name: fmt.Sprintf("pen%d", i+1), Addr: host(front, firstNode+i), lab: l, number: i}
	n.Dir = filepath.Join(l.Dir, n.Name)
	if err := os.Mkdir(n.Dir, 0o755); err != nil {
		return err
	}
	c, err := l.addCell(n.Name)
	if err != nil {
		return err
	}
	n.cell, n.Namespace = c, c.name
	l.Nodes = append(l.Nodes, n)
	return c.do(n.christen)
}

// christen gives the machine its name, which its programs may tell.
func (n *Node) christen() error {
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("a host name for %s: %w", n.Name, err)
	}
	return unix.Sethostname([]byte(n.Name))
}

// addCell makes a namespace and enters it.
func (l *Lab) addCell(name string) (*cell, error) {
	if err := ip("", "netns add "+l.prefix+name); err != nil {
		return nil, err
	}
	return enter(l.prefix + name)
}

// ClientNamespace is the name of the clients' namespace, for ip netns exec.
func (l *Lab) ClientNamespace() string { return l.clients.name }

// RunClient runs a program in the clients' namespace to its end and returns all that
// it has written.
func (l *Lab) RunClient(ctx context.Context, argv ...string) (string, error) {
	return l.clients.run(ctx, l.Dir, argv...)
}

func (l *Lab) keep(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes = append(l.processes, p)
}

// Close ends everything that was started in the lab, and removes it.
func (l *Lab) Close() error {
	l.mu.Lock()
	watches, processes := l.watches, l.processes
	l.watches, l.processes = nil, nil
	l.mu.Unlock()
	for _, w := range watches {
		w.Stop()
	}
	for _, s := range l.Servers {
		s.Stop()
	}
	for _, c := range l.cells() {
		signalAll(c.pids(), syscall.SIGKILL)
		c.close()
	}
	for _, p := range processes {
		<-p.done
		p.log.Close()
	}
	err := removeNamespaces(l.prefix)
	if l.Dir != "" {
		err = errors.Join(err, os.RemoveAll(l.Dir))
	}
	if l.lock != nil {
		err = errors.Join(err, os.Remove(l.lock.Name()), l.lock.Close())
	}
	return err
}

func (l *Lab) cells() (all []*cell) {
	for _, n := range l.Nodes {
		all = append(all, n.cell)
	}
	for _, c := range []*cell{l.sw, l.clients, l.observer, l.web} {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// host is the address number n of a network.
func host(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	a[3] += byte(n)
	return netip.AddrFrom4(a)
}

// mac is the address of a node's front interface.
func (n *Node) mac() net.HardwareAddr { return hardware(0, firstNode+n.number) }

// hardware makes addresses that tell who is who in a trace.
func hardware(segment, n int) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 10, 0, byte(segment), byte(n)}
}
