//go:build linux

package deploy

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// patience is for what takes milliseconds on a machine with nothing else to do.
const patience = 20 * time.Second

// site is a lab whose nodes run pen as the unit would.
type site struct {
	*lab.Lab
	t     testing.TB
	bin   string
	unit  unit
	nodes []*machine
}

// machine is a node with what the unit makes there.
type machine struct {
	*lab.Node
	site    *site
	manager *net.UnixConn // where the service manager hears
	pen     *lab.Process
	heard   string // what it heard last
}

// settle builds a lab, and puts the sample's file and a key on all nodes.
func settle(t testing.TB, nodes int, sample string, u unit) *site {
	t.Helper()
	rig.NeedRoot(t)
	s := &site{t: t, bin: rig.Bin(t), unit: u}
	var err error
	s.Lab, err = lab.New(lab.Config{Nodes: nodes})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	text, err := os.ReadFile(filepath.Join(files, "examples", sample))
	must(t, err)
	key, err := s.Nodes[0].Run(t.Context(), filepath.Join(s.bin, "pen"), "--genkey")
	must(t, err)
	for _, n := range s.Nodes {
		s.nodes = append(s.nodes, s.furnish(n, string(text), key))
	}
	t.Cleanup(func() {
		for _, m := range s.nodes {
			if t.Failed() && m.pen != nil {
				t.Logf("%s heard %q and said:\n%s", m.Name, m.heard, m.pen.Log())
			}
		}
	})
	return s
}

// furnish makes the files and directories of management.md, and those that the
// service manager makes.
func (s *site) furnish(n *lab.Node, text, key string) *machine {
	s.t.Helper()
	m := &machine{Node: n, site: s}
	for dir, mode := range map[string]os.FileMode{"etc": 0o755, "state": 0o700, "run": 0o750} {
		must(s.t, os.Mkdir(m.at(dir), mode))
		if dir != "etc" {
			must(s.t, os.Chown(m.at(dir), nobody, nobody))
		}
	}
	must(s.t, os.WriteFile(m.at("etc/pen.conf"), []byte(text), 0o644))
	must(s.t, os.WriteFile(m.at("etc/cluster.key"), []byte(key), 0o600))
	must(s.t, os.Chmod(m.at("etc/cluster.key"), 0o640))
	must(s.t, os.Chown(m.at("etc/cluster.key"), 0, nobody))
	var err error
	m.manager, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.at("notify"), Net: "unixgram"})
	must(s.t, err)
	s.t.Cleanup(func() { m.manager.Close() })
	must(s.t, os.Chmod(m.at("notify"), 0o777))
	return m
}

func (m *machine) at(name string) string { return filepath.Join(m.Dir, name) }

// here puts this machine's directories into a line of the unit.
func (m *machine) here(line string) []string {
	return strings.Fields(strings.NewReplacer("/usr/local/bin", m.site.bin, "/etc/pen", m.at("etc"), "/run/pen", m.at("run"), "/var/lib/pen", m.at("state")).Replace(line))
}

// start runs ExecStart and waits for readiness.
func (m *machine) start() {
	m.site.t.Helper()
	c := m.site.unit.cage(m.site.t)
	c.Env = []string{"NOTIFY_SOCKET=" + m.at("notify"), "LC_ALL=C", "PATH=/usr/bin:/bin"}
	m.startIn(c, m.here(m.site.unit.one(m.site.t, "ExecStart"))...)
	m.hear("READY=1")
}

func (m *machine) startIn(c *cage, argv ...string) {
	m.site.t.Helper()
	var err error
	m.pen, err = m.Start(c.write(m.site.t, m.Dir, argv...)...)
	must(m.site.t, err)
}

// hear waits until the service manager is told something with that in it.
func (m *machine) hear(want string) {
	m.site.t.Helper()
	b := make([]byte, 4096)
	must(m.site.t, m.manager.SetReadDeadline(time.Now().Add(patience)))
	for {
		n, err := m.manager.Read(b)
		if err != nil {
			m.site.t.Fatalf("%s: %q was not heard, the last was %q\n%s", m.Name, want, m.heard, m.pen.Log())
		}
		if m.heard = string(b[:n]); strings.Contains(m.heard, want) {
			return
		}
	}
}

// ask gives words to the control port.
func (m *machine) ask(words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.site.t.Context(), 10*time.Second)
	defer cancel()
	return m.Run(ctx, append([]string{filepath.Join(m.site.bin, "penctl"), m.at("run/ctl")}, words...)...)
}

// says waits until the answer to words has want in it.
func (m *machine) says(want string, words ...string) {
	m.site.t.Helper()
	m.until(want, func() (string, error) { return m.ask(words...) })
}

// until asks until the answer has want in it.
func (m *machine) until(want string, ask func() (string, error)) {
	m.site.t.Helper()
	var answer string
	var err error
	if !rig.Eventually(patience, func() bool {
		answer, err = ask()
		return err == nil && strings.Contains(answer, want)
	}) {
		m.site.t.Fatalf("%s does not say %q, but %q, %v", m.Name, want, answer, err)
	}
}

// get is what a client is answered at addr.
func (s *site) get(addr string) (string, error) {
	self, err := os.Executable()
	must(s.t, err)
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	return s.RunClient(ctx, self, "get", addr)
}

// answers waits until a client is answered with want.
func (s *site) answers(addr, want string) {
	s.t.Helper()
	var answer string
	var err error
	if !rig.Eventually(patience, func() bool {
		answer, err = s.get(addr)
		return err == nil && strings.Contains(answer, want)
	}) {
		s.t.Fatalf("%s: got %q, %v, want %q", addr, answer, err, want)
	}
}

// holder waits until one of these machines holds the address in its own eyes.
func (s *site) holder(among ...*machine) *machine {
	s.t.Helper()
	var holder *machine
	if !rig.Eventually(patience, func() bool {
		for _, m := range among {
			if m.holds() {
				holder = m
			}
		}
		return holder != nil
	}) {
		s.t.Fatal("nobody holds the address")
	}
	return holder
}

// holds tells whether this machine says of itself that it holds the address.
func (m *machine) holds() bool {
	var seen struct {
		Members []struct{ Self, Holding bool }
	}
	text, err := m.ask("cluster", "json")
	if err != nil || json.Unmarshal([]byte(text), &seen) != nil {
		return false
	}
	for _, one := range seen.Members {
		if one.Self {
			return one.Holding
		}
	}
	return false
}

// others are all machines but one.
func (s *site) others(not *machine) (all []*machine) {
	for _, m := range s.nodes {
		if m != not {
			all = append(all, m)
		}
	}
	return all
}

// left are the addresses on the front interface beside the machine's own.
func (m *machine) left(addr string) bool {
	m.site.t.Helper()
	out, err := m.Run(m.site.t.Context(), "ip", "-o", "addr", "show", "dev", "eth0")
	must(m.site.t, err)
	return strings.Contains(out, " "+addr+"/")
}
