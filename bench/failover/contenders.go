//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pen/test/lab"
)

// contender is a way to keep an address alive.
type contender struct {
	Name     string
	Config   string   // in a few words
	Programs []string // that must be there
	Package  string
	// How long it is looked at after a fault, and how long it is left in peace after
	// a repair.
	window, settle time.Duration
	extra          bool // measured only when -contenders asks for it
	build          func(l *lab.Lab) (programs, error)
}

// programs is a contender on the nodes of a lab.
type programs interface {
	// start starts what does not run on the node.
	start(n *lab.Node) error
	// proxy is the process that carries the traffic of the node.
	proxy(n *lab.Node) *lab.Process
	// rest waits until a fault can befall it: until all nodes could take the address.
	rest(ctx context.Context) error
	// retire ends the node's programs as an operator would.
	retire(n *lab.Node) error
}

const ours = "pen"

func contenders(bin string) []contender {
	packages := "keepalived haproxy"
	peers := []string{"/usr/sbin/keepalived", "/usr/sbin/haproxy"}
	return []contender{
		{
			Name: ours, Config: "defaults (`timing lan`)", Programs: []string{filepath.Join(bin, "pen"), filepath.Join(bin, "penctl")}, Package: "make build",
			window: 2 * time.Second, settle: 1500 * time.Millisecond,
			build: func(l *lab.Lab) (programs, error) { return newPens(l, bin, false) },
		},
		{
			Name: "pen, two and a witness", Config: "the same, the third node votes only", extra: true, Programs: []string{filepath.Join(bin, "pen"), filepath.Join(bin, "penctl")}, Package: "make build",
			window: 2 * time.Second, settle: 1500 * time.Millisecond,
			build: func(l *lab.Lab) (programs, error) { return newPens(l, bin, true) },
		},
		{
			Name: "keepalived 1s + haproxy", Config: "VRRPv2, advert_int 1, the defaults; haproxy with peers and a stick table", Programs: peers, Package: packages,
			window: 5 * time.Second, settle: 5 * time.Second,
			build: func(l *lab.Lab) (programs, error) { return newPair(l, false) },
		},
		{
			Name: "keepalived 0.1s + haproxy", Config: "VRRPv3, advert_int 0.1, garp_master_delay 1; haproxy the same with checks every 200 ms", Programs: peers, Package: packages,
			window: 2 * time.Second, settle: 2500 * time.Millisecond,
			build: func(l *lab.Lab) (programs, error) { return newPair(l, true) },
		},
	}
}

// missing tells what has to be installed first.
func (c contender) missing() error {
	for _, p := range c.Programs {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("%s is not there (%s)", p, c.Package)
		}
	}
	return nil
}

// versions of the programs.
func (c contender) version() string {
	var all []string
	for _, p := range c.Programs {
		if filepath.Base(p) == "penctl" {
			continue
		}
		flag := "--version"
		if filepath.Base(p) == "haproxy" {
			flag = "-v"
		}
		out, _ := exec.Command(p, flag).CombinedOutput()
		line, _, _ := strings.Cut(string(out), "\n")
		all = append(all, versionIn(line))
	}
	return strings.Join(all, ", ")
}

// versionIn finds the version in the first line of what programs say.
func versionIn(line string) string {
	for i, word := range strings.Fields(line) {
		if i > 0 && strings.ContainsAny(word, "0123456789") {
			return strings.TrimPrefix(word, "v")
		}
	}
	return strings.TrimSpace(line)
}

// pens is pen on all nodes.
type pens struct {
	*lab.Cluster
	nodes []*lab.Node
	could int // nodes that could hold the address when all is well
}

// newPens writes the files of three nodes. With a witness the last of them never
// holds the address.
func newPens(l *lab.Lab, bin string, witness bool) (programs, error) {
	c, err := l.NewCluster(bin)
	if err != nil || !witness {
		return pens{c, l.Nodes, len(l.Nodes)}, err
	}
	last := l.Nodes[len(l.Nodes)-1]
	config := strings.Replace(c.Config, " "+last.Addr.String()+"\n", " "+last.Addr.String()+":witness\n", 1)
	for _, n := range l.Nodes {
		if err := os.WriteFile(filepath.Join(n.Dir, "pen.cfg"), []byte(config), 0o644); err != nil {
			return nil, err
		}
	}
	return pens{c, l.Nodes, len(l.Nodes) - 1}, nil
}

func (p pens) start(n *lab.Node) error {
	if runs(p.Pen(n)) {
		return nil
	}
	return p.Start(n)
}

func (p pens) proxy(n *lab.Node) *lab.Process { return p.Pen(n) }

func (p pens) retire(n *lab.Node) error {
	p.Pen(n).Signal(syscall.SIGTERM)
	return nil
}

// rest asks all nodes until each says that all are eligible that can be.
func (p pens) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		why := p.restless(ctx)
		if why == nil {
			return nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("the cluster does not come to rest: %w", why)
		}
	}
}

func (p pens) restless(ctx context.Context) error {
	for _, n := range p.nodes {
		text, err := p.Ask(ctx, n, "cluster", "json")
		if err != nil {
			return err
		}
		var st struct {
			Members []struct {
				Eligible bool `json:"eligible"`
			} `json:"members"`
		}
		if err := json.Unmarshal([]byte(text), &st); err != nil {
			return fmt.Errorf("cluster json of %s: %w", n.Name, err)
		}
		ready := 0
		for _, m := range st.Members {
			if m.Eligible {
				ready++
			}
		}
		if ready != p.could {
			return fmt.Errorf("%s: %d of %d nodes are eligible", n.Name, ready, p.could)
		}
	}
	return nil
}

func runs(p *lab.Process) bool {
	if p == nil {
		return false
	}
	_, ended := p.Wait(0)
	return !ended
}

// pair is keepalived with haproxy on all nodes.
type pair struct {
	lab       *lab.Lab
	fast      bool
	priority  map[*lab.Node]int
	keepalive map[*lab.Node]*lab.Process
	haproxy   map[*lab.Node]*lab.Process
}

func newPair(l *lab.Lab, fast bool) (programs, error) {
	p := &pair{l, fast, map[*lab.Node]int{}, map[*lab.Node]*lab.Process{}, map[*lab.Node]*lab.Process{}}
	for i, n := range l.Nodes {
		p.priority[n] = 150 - 10*i
		for name, text := range map[string]string{"haproxy.cfg": p.haproxyConfig(), "keepalived.conf": p.keepalivedConfig(n)} {
			if err := os.WriteFile(filepath.Join(n.Dir, name), []byte(text), 0o644); err != nil {
				return nil, err
			}
		}
		check := "#!/bin/sh\nkill -0 $(cat " + filepath.Join(n.Dir, "haproxy.pid") + ")\n"
		if err := os.WriteFile(filepath.Join(n.Dir, "check"), []byte(check), 0o755); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *pair) haproxyConfig() string {
	check := "check"
	if p.fast {
		check = "check inter 200 fall 2"
	}
	var b strings.Builder
	b.WriteString("global\n\tmaxconn 4000\ndefaults\n\tmode tcp\n\ttimeout connect 3s\n\ttimeout client 60s\n\ttimeout server 60s\npeers nodes\n")
	for _, n := range p.lab.Nodes {
		fmt.Fprintf(&b, "\tpeer %s %s:1024\n", n.Name, n.Addr)
	}
	fmt.Fprintf(&b, "listen web\n\tbind *:%d\n\tbalance roundrobin\n\toption redispatch\n\tstick-table type ip size 200k expire 30m peers nodes\n\tstick on src\n", lab.Port)
	for _, s := range p.lab.Servers {
		fmt.Fprintf(&b, "\tserver %s %s:%d %s\n", s.Name, s.Addr, lab.Port, check)
	}
	return b.String()
}

func (p *pair) keepalivedConfig(n *lab.Node) string {
	version, advert, delay := "2", "1", ""
	if p.fast {
		version, advert, delay = "3", "0.1", "\tgarp_master_delay 1\n"
	}
	return fmt.Sprintf(`global_defs {
	router_id %s
	vrrp_version %s
	script_user root
	enable_script_security
}
vrrp_script haproxy {
	script "%s"
	interval 1
}
vrrp_instance web {
	state BACKUP
	interface eth0
	virtual_router_id 51
	priority %d
	advert_int %s
%s	virtual_ipaddress {
		%s/24
	}
	track_script {
		haproxy
	}
}
`, n.Name, version, filepath.Join(n.Dir, "check"), p.priority[n], advert, delay, lab.VIP)
}

func (p *pair) start(n *lab.Node) (err error) {
	if !runs(p.haproxy[n]) {
		if p.haproxy[n], err = n.Start("/usr/sbin/haproxy", "-db", "-f", "haproxy.cfg", "-L", n.Name); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(n.Dir, "haproxy.pid"), []byte(fmt.Sprint(p.haproxy[n].Pid)), 0o644); err != nil {
			return err
		}
	}
	if runs(p.keepalive[n]) {
		return nil
	}
	// What a killed one left on the interface would weigh on the next round.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = n.Run(ctx, "ip", "addr", "del", lab.VIP.String()+"/24", "dev", "eth0")
	for range 10 {
		if err := p.startKeepalived(n); err != nil {
			return err
		}
		// Sometimes it takes its dead predecessor for a living one, and ends.
		if _, ended := p.keepalive[n].Wait(300 * time.Millisecond); !ended {
			return nil
		}
	}
	return fmt.Errorf("keepalived on %s does not start: %s", n.Name, p.keepalive[n].Log())
}

func (p *pair) startKeepalived(n *lab.Node) (err error) {
	at := func(name string) string { return filepath.Join(n.Dir, name) }
	for _, name := range []string{"keepalived.pid", "vrrp.pid"} {
		_ = os.Remove(at(name))
	}
	p.keepalive[n], err = n.Start("/usr/sbin/keepalived", "--dont-fork", "--log-console", "--vrrp",
		"-f", at("keepalived.conf"), "-p", at("keepalived.pid"), "-r", at("vrrp.pid"))
	return err
}

// rest: keepalived does not tell. It has had its time.
func (p *pair) rest(context.Context) error { return nil }

func (p *pair) proxy(n *lab.Node) *lab.Process { return p.haproxy[n] }

func (p *pair) retire(n *lab.Node) error {
	p.keepalive[n].Signal(syscall.SIGTERM)
	if _, ended := p.keepalive[n].Wait(10 * time.Second); !ended {
		return fmt.Errorf("keepalived on %s does not end", n.Name)
	}
	p.haproxy[n].Signal(syscall.SIGTERM)
	return nil
}

// ready waits until there is a holder.
func ready(ctx context.Context, l *lab.Lab, c programs) (*lab.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	n, err := l.Holder(ctx)
	if err != nil {
		for _, n := range l.Nodes {
			err = fmt.Errorf("%w\n%s: %s", err, n.Name, c.proxy(n).Log())
		}
	}
	return n, err
}
