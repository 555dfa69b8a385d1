//go:build linux

package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"pen/test/lab"
	"pen/test/rig"
)

// Ports of the services here, on the virtual address.
const (
	headsPort = 8080
	clearPort = 8081
	namedPort = 8082
)

// curl fetches a page as one of the clients.
func (s *suite) curl(t testing.TB, client, port int, more ...string) string {
	t.Helper()
	argv := append([]string{"curl", "-sS", "-m", "5", "--interface", lab.ClientAddr(client).String(), fmt.Sprintf("http://%s:%d/forwarded", lab.VIP, port)}, more...)
	text := ""
	if !rig.Eventually(rig.Patience, func() bool {
		var err error
		text, err = s.RunClient(t.Context(), argv...)
		return err == nil
	}) {
		t.Fatalf("client %d got no page: %s", client, text)
	}
	return strings.TrimSpace(text)
}

// Servers learn who their clients are, from the head of a request or from the
// connection itself, and a name is looked up again, before the holder is killed and
// after it. For connections in a client's name an address that the servers have as
// their gateway moves together with that of the clients.
func TestServersKnowTheirClientsAfterAFailover(t *testing.T) {
	const gateway, callers = "10.0.1.10", 12
	s := prepare(t)
	service := func(name string, port int, words ...string) []string {
		lines := append([]string{"service " + name, "no hash", fmt.Sprintf("listen %d", port)}, words...)
		for i, v := range s.Servers {
			lines = append(lines, fmt.Sprintf("server %d address %s port %d", i, v.Addr, lab.Port))
		}
		return lines
	}
	lines := append([]string{"vip " + gateway + "/24"}, service("heads", headsPort, "http")...)
	lines = append(lines, service("clear", clearPort, "transparent")...)
	lines = append(lines, "service named", fmt.Sprintf("listen %d", namedPort), "resolve 1", fmt.Sprintf("server 0 address www.example.test port %d", lab.Port))
	names := s.names(t)
	names.Say(s.Servers[0].Addr.String())
	bin := s.withNames(t)
	var err error
	s.Cluster, err = s.NewCluster(rig.Bin(t), lines...)
	must(t, err)
	_, err = s.RunServers(t.Context(), "ip", "route", "add", "default", "via", gateway)
	must(t, err)
	for _, n := range s.Nodes {
		s.Install(n, bin)
		s.prepareTransparent(t, n, filepath.Join(bin, "pen"))
	}
	must(t, s.Start(s.Nodes...))
	s.well(t)

	had := map[string]string{}
	look := func(when string) {
		t.Helper()
		for i := range callers {
			for _, port := range []int{headsPort, clearPort} {
				path := []string{"-H", "X-Forwarded-For: 192.0.2.66"}
				if port == clearPort {
					path = []string{"--request-target", "/"}
				}
				got, key := s.curl(t, i, port, path...), fmt.Sprint(i, " ", port)
				if _, seen, _ := strings.Cut(got, " "); seen != lab.ClientAddr(i).String() {
					t.Errorf("%s, port %d: the server sees %q of client %v", when, port, got, lab.ClientAddr(i))
				}
				if was := had[key]; was != "" && was != got {
					t.Errorf("%s, port %d: client %d has %q, had %q", when, port, i, got, was)
				}
				had[key] = got
			}
		}
	}
	follows := func(when string, v *lab.Server) {
		t.Helper()
		names.Say(v.Addr.String())
		if !rig.Eventually(rig.Patience, func() bool { return s.curl(t, 0, namedPort) == v.Name }) {
			t.Errorf("%s the name is not followed to %s", when, v.Name)
		}
	}
	look("at first")
	follows("at first", s.Servers[1])
	s.settled(t, callers, "heads", "clear")

	before := s.holder(t)
	s.Pen(before).Signal(syscall.SIGKILL)
	look("after the failover")
	follows("after the failover", s.Servers[2])
	if after := s.holder(t); after == before {
		t.Errorf("%s still holds the address", after.Name)
	}
}

// settled waits until all nodes know so many clients of the services.
func (s *suite) settled(t testing.TB, clients int, services ...string) {
	t.Helper()
	for _, n := range s.Nodes {
		for _, service := range services {
			if !rig.Eventually(rig.Patience, func() bool {
				text, err := s.Ask(t.Context(), n, "service", service, "counters")
				return err == nil && strings.Contains(text, fmt.Sprintf("clients %d\n", clients))
			}) {
				t.Fatalf("%s does not know all clients of %s", n.Name, service)
			}
		}
	}
}

// names is a name server where the servers are.
func (s *suite) names(t *testing.T) *rig.NameServer {
	t.Helper()
	var conn net.PacketConn
	must(t, s.OnServers(func() (err error) {
		conn, err = net.ListenPacket("udp4", net.JoinHostPort(s.Servers[0].Addr.String(), "53"))
		return err
	}))
	return rig.NewNameServer(t, conn)
}

// withNames is a directory with programs that ask that name server.
func (s *suite) withNames(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	resolver := filepath.Join(dir, "resolv.conf")
	must(t, os.WriteFile(resolver, []byte("nameserver "+s.Servers[0].Addr.String()+"\noptions timeout:1 attempts:1\n"), 0o644))
	script := fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount --bind %s /etc/resolv.conf && exec %s \"$@\"' pen \"$@\"\n", resolver, rig.Pen(t))
	must(t, os.WriteFile(filepath.Join(dir, "pen"), []byte(script), 0o755))
	return dir
}

// prepareTransparent does on a node what --check asks for.
func (s *suite) prepareTransparent(t *testing.T, n *lab.Node, pen string) {
	t.Helper()
	said, err := n.Run(t.Context(), pen, "--check", "-F", "pen.cfg")
	m := regexp.MustCompile(`no rule does that for IPv4: (.*); and the servers`).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("--check has no recipe: %v\n%s", err, said)
	}
	s.on(t, n, m[1])
}
