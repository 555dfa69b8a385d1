//go:build linux

package cluster

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

// askDatagram sends from a socket until an answer comes, and returns it.
func askDatagram(c *net.UDPConn, patience time.Duration) string {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		_, _ = c.Write([]byte("who?")) // an answer to an earlier one may be an ICMP error
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		var b [100]byte
		if n, err := c.Read(b[:]); err == nil {
			return string(b[:n])
		}
	}
	return "nobody"
}

// When the holder is killed, the next datagram of each client, from the same port,
// reaches the server that the client had. Without the hash only the replicated
// table can tell which.
func TestDatagramsAfterAFailover(t *testing.T) {
	const port, callers = 5353, 60
	s := prepare(t)
	dns := []string{"service dns", "protocol udp", "no hash", fmt.Sprintf("listen %d", port)}
	for i, v := range s.Servers {
		dns = append(dns, fmt.Sprintf("server %d address %s port %d", i, v.Addr, port))
	}
	var err error
	s.Cluster, err = s.NewCluster(rig.Bin(t), dns...)
	must(t, err)
	stop, err := s.Datagrams(port)
	must(t, err)
	t.Cleanup(stop)
	must(t, s.Start(s.Nodes...))
	s.well(t)

	var sockets []*net.UDPConn
	var had []string
	servers := map[string]int{}
	for i := range callers {
		c, err := s.Packets(i, port)
		must(t, err)
		defer c.Close()
		name := askDatagram(c, rig.Patience)
		sockets, had = append(sockets, c), append(had, name)
		servers[name]++
	}
	if len(servers) != len(s.Servers) || servers["nobody"] > 0 {
		t.Fatalf("clients have %v, want all %d servers", servers, len(s.Servers))
	}
	for _, n := range s.Nodes {
		known := func() bool {
			text, err := s.Ask(t.Context(), n, "service", "dns", "counters")
			return err == nil && strings.Contains(text, fmt.Sprintf("clients %d\n", callers))
		}
		if !rig.Eventually(rig.Patience, known) {
			t.Fatalf("%s does not know all clients", n.Name)
		}
	}

	s.Pen(s.holder(t)).Signal(syscall.SIGKILL)
	for i, c := range sockets {
		if got := askDatagram(c, rig.Patience); got != had[i] {
			t.Errorf("client %d met %s after the failover, had %s", i, got, had[i])
		}
	}
}
