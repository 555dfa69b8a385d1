package cluster

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// testGossip is a node with a Wire and gossip over it.
type testGossip struct {
	*testWire
	g    *Gossip
	stop func() // ends gossip with a good-bye, then the Wire
	die  func() // the other way round: nobody hears it go
}

func startGossip(t *testing.T, cfg WireConfig, peers ...netip.AddrPort) *testGossip {
	t.Helper()
	w := startWire(t, cfg)
	g := NewGossip(w.Wire, cfg.Key, peers, slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	g.SetMeta(Meta{Version: "v" + cfg.Hello.Name})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("gossip: %v", err)
		}
	})
	n := &testGossip{testWire: w, g: g}
	n.stop = func() { end(); w.stop() }
	n.die = func() { w.stop(); end() }
	t.Cleanup(func() {
		n.stop()
		if cfg.Network != nil {
			time.Sleep(10 * time.Second) // what memberlist began ends by its own timers, and a bubble waits for it
		}
	})
	return n
}

// startGossips starts nodes that all have one list of peers.
func startGossips(t *testing.T, configs ...WireConfig) []*testGossip {
	t.Helper()
	var peers []netip.AddrPort
	for i := range configs {
		if configs[i].Listen.Port() == 0 {
			configs[i].Listen = netip.AddrPortFrom(configs[i].Listen.Addr(), freePort(t, configs[i].Listen.Addr()))
		}
		peers = append(peers, configs[i].Listen)
	}
	var out []*testGossip
	for _, cfg := range configs {
		out = append(out, startGossip(t, cfg, peers...))
	}
	return out
}

func freePort(t *testing.T, a netip.Addr) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return addrPort(l.Addr()).Port()
}

// sees gives what a node knows of others: "n2 alive, n3 dead".
func (n *testGossip) sees() string {
	var out []string
	for _, m := range n.g.Members() {
		if !m.Self {
			name := m.Name
			if m.State == Unseen {
				name = m.Addr.Addr().String()
			}
			out = append(out, name+" "+m.State.String())
		}
	}
	return strings.Join(out, ", ")
}

func (n *testGossip) waitFor(within time.Duration, want string) time.Duration {
	n.t.Helper()
	start := time.Now()
	for n.sees() != want {
		changed := n.g.Changed()
		if n.sees() == want {
			break
		}
		select {
		case <-changed:
		case <-time.After(within - time.Since(start)):
			if n.sees() != want {
				n.t.Fatalf("%s after %s: got %q, want %q\n%s", n.Hello().Name, within, n.sees(), want, n.log)
			}
		}
	}
	return time.Since(start)
}

func TestMembersMeet(t *testing.T) {
	c2 := nodeConfig(2, nil)
	c2.Hello.Priority, c2.Hello.Witness, c2.Hello.StateVersion = 7, true, 4
	nodes := startGossips(t, nodeConfig(1, nil), c2, nodeConfig(3, nil))
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.waitFor(5*time.Second, "n2 alive, n3 alive")
	b.waitFor(5*time.Second, "n1 alive, n3 alive")
	c.waitFor(5*time.Second, "n1 alive, n2 alive")

	meta := Meta{Version: "v2.0.1", Applied: 12345, Digest: 0xa91c, Eligible: true, Reason: ""}
	b.g.SetMeta(meta)
	find := func() Member {
		for _, m := range a.g.Members() {
			if m.Name == "n2" {
				return m
			}
		}
		return Member{}
	}
	eventually(t, "what n2 says is seen", func() bool { return find().Meta == meta })
	m := find()
	h := b.Hello()
	if m.ID != h.Node || m.Boot != h.Boot || m.Addr != b.Addr() || !m.Listed || m.Self || m.Priority != 7 || !m.Witness || m.StateVersion != 4 || m.Heartbeat != 200*time.Millisecond || m.Since.IsZero() {
		t.Errorf("got %+v", m)
	}
	self := a.g.Members()[0]
	if !self.Self || self.State != Alive || self.Name != "n1" || self.Meta.Version != "vn1" {
		t.Errorf("self: %+v", self)
	}

	b.SetFormation(ID{5}, 2) // told without being asked
	eventually(t, "the formation is seen", func() bool { return find().Formation == ID{5} && find().Generation == 2 })

	c.stop()
	a.waitFor(5*time.Second, "n2 alive, n3 left")
	b.waitFor(5*time.Second, "n1 alive, n3 left")
	b.die()
	a.waitFor(20*time.Second, "n2 dead, n3 left")
	for _, what := range []string{`msg="member alive" member=n2`, `msg="member left" member=n3`, `msg="member dead" member=n2`} {
		eventually(t, "logged: "+what, func() bool { return strings.Contains(a.log.String(), what) })
	}
}

// Whoever is listed and gone is called for ever.
func TestMembersMeetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newLAN()
		nodes := startGossips(t, nodeConfig(1, net), nodeConfig(2, net), nodeConfig(3, net))
		all := func(want ...string) {
			t.Helper()
			for i, w := range want {
				if d := nodes[i].waitFor(30*time.Second, w); d > 15*time.Second {
					t.Errorf("n%d took %s", i+1, d)
				}
			}
		}
		all("n2 alive, n3 alive", "n1 alive, n3 alive", "n1 alive, n2 alive")
		third := nodes[2].Addr().Addr()
		for _, long := range []time.Duration{10 * time.Second, 10 * time.Minute} {
			net.partition(func(a, b netip.Addr) bool { return (a == third) != (b == third) })
			all("n2 alive, n3 dead", "n1 alive, n3 dead", "n1 dead, n2 dead")
			time.Sleep(long)
			all("n2 alive, n3 dead", "n1 alive, n3 dead", "n1 dead, n2 dead")
			net.partition(nil)
			start := time.Now()
			all("n2 alive, n3 alive", "n1 alive, n3 alive", "n1 alive, n2 alive")
			if d := time.Since(start); d > rejoinEvery+2*time.Second+handshakeTime {
				t.Errorf("after %s it took %s", long, d)
			}
		}
		for _, n := range nodes {
			n.stop()
		}
	})
}

func TestMemberComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newLAN()
		nodes := startGossips(t, nodeConfig(1, net), nodeConfig(2, net))
		a, b := nodes[0], nodes[1]
		a.waitFor(10*time.Second, "n2 alive")
		peers := a.g.peers
		cfg := nodeConfig(2, net)

		b.die() // restarted before anybody noticed
		cfg.Hello.Boot = NewID()
		b = startGossip(t, cfg, peers...)
		b.waitFor(10*time.Second, "n1 alive")
		time.Sleep(10 * time.Second)
		if m := a.g.Members()[1]; m.State != Alive || m.Boot != cfg.Hello.Boot {
			t.Errorf("after a restart: %+v", m)
		}

		b.stop() // a good-bye, and back
		a.waitFor(10*time.Second, "n2 left")
		cfg.Hello.Boot = NewID()
		b = startGossip(t, cfg, peers...)
		a.waitFor(10*time.Second, "n2 alive")
		b.die()
		a.waitFor(20*time.Second, "n2 dead")

		cfg.Hello.Boot, cfg.Hello.Node = NewID(), ID{22} // a wiped disk
		b = startGossip(t, cfg, peers...)
		a.waitFor(10*time.Second, "n2 alive") // and not the old one beside it
		b.die()
		a.waitFor(20*time.Second, "n2 dead")

		cfg.Hello.Boot = NewID() // the same node at another address
		cfg.Listen = netip.MustParseAddrPort("10.0.0.4:7950")
		b = startGossip(t, cfg, peers...)
		a.waitFor(20*time.Second, "10.0.0.2 unseen, n2 alive")
		for _, m := range a.g.Members() {
			if m.Name == "n2" && (m.Addr != cfg.Listen || m.Listed) {
				t.Errorf("got %+v", m)
			}
		}
		b.stop()
		a.stop()
	})
}

func TestClustersNeverMeet(t *testing.T) {
	for name, differ := range map[string]func(*WireConfig){
		"name": func(c *WireConfig) { c.Hello.Cluster = "dev" },
		"key":  func(c *WireConfig) { c.Key = testKey(9) },
		"both": func(c *WireConfig) { c.Hello.Cluster, c.Key = "dev", testKey(9) },
		"formation": func(c *WireConfig) {
			c.Hello.Formation, c.Hello.Generation = ID{2}, 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := newLAN()
				configs := []WireConfig{nodeConfig(1, net), nodeConfig(2, net), nodeConfig(3, net), nodeConfig(4, net)}
				for i := range configs {
					configs[i].Hello.Formation, configs[i].Hello.Generation = ID{1}, 1
				}
				differ(&configs[2])
				differ(&configs[3])
				nodes := startGossips(t, configs...)
				time.Sleep(time.Minute)
				for i, want := range []string{"n2 alive, 10.0.0.3 unseen, 10.0.0.4 unseen", "n1 alive, 10.0.0.3 unseen, 10.0.0.4 unseen", "10.0.0.1 unseen, 10.0.0.2 unseen, n4 alive", "10.0.0.1 unseen, 10.0.0.2 unseen, n3 alive"} {
					if got := nodes[i].sees(); got != want {
						t.Errorf("n%d: got %q, want %q", i+1, got, want)
					}
				}
				for _, n := range nodes {
					if len(n.Refused()) == 0 {
						t.Errorf("%s refused nobody", n.Hello().Name)
					}
					if lines := strings.Count(n.log.String(), "cluster connection refused"); lines > 4*12 {
						t.Errorf("%s: %d lines", n.Hello().Name, lines)
					}
					n.stop()
				}
			})
		})
	}
}

// What was not sealed with the key of the cluster does not reach memberlist.
func TestForeignPacketsAreDropped(t *testing.T) {
	nodes := startGossips(t, nodeConfig(1, nil), nodeConfig(2, nil))
	a := nodes[0]
	a.waitFor(5*time.Second, "n2 alive")
	c, err := net.Dial("udp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	label, _ := memberlist.AddLabelHeaderToPacket(nil, "shop")
	ping := append([]byte{0}, []byte("a ping in the clear")...)
	sent := uint64(0)
	for range 200 {
		for _, p := range [][]byte{
			{0},
			{244},
			{244, 4},
			label,
			ping,
			append(bytes.Clone(label), ping...),
			append(append(bytes.Clone(label), 1), bytes.Repeat([]byte{7}, 60)...),
			append(append(bytes.Clone(label), 0), bytes.Repeat([]byte{7}, 60)...),
			bytes.Repeat([]byte{244}, 9000),
		} {
			if _, err := c.Write(p); err == nil {
				sent++
			}
		}
		time.Sleep(time.Millisecond) // so that the kernel drops none
	}
	eventually(t, "they are counted", func() bool { return a.RefusedTotal()[BadPacket] >= sent*9/10 })
	if n := strings.Count(a.log.String(), "msg=gossip"); n > 20 {
		t.Errorf("memberlist had %d things to say:\n%s", n, a.log)
	}
	time.Sleep(2 * time.Second)
	if got := a.sees(); got != "n2 alive" {
		t.Errorf("got %q", got)
	}
}

// Real packets pass the same test: should memberlist seal differently one day,
// this says so.
func TestSealIsMemberlists(t *testing.T) {
	nodes := startGossips(t, nodeConfig(1, nil), nodeConfig(2, nil))
	nodes[0].waitFor(5*time.Second, "n2 alive")
	nodes[0].g.SetMeta(Meta{Version: "by packet"})
	eventually(t, "it is heard", func() bool { return nodes[1].g.Members()[0].Meta.Version == "by packet" })
	time.Sleep(time.Second)
	for _, n := range nodes {
		if got := n.RefusedTotal(); got[BadPacket] != 0 {
			t.Errorf("refused %v", got)
		}
	}
}

func FuzzPacket(f *testing.F) {
	key := testKey(1)
	tr, err := newGossipTransport(context.Background(), nil, "shop", key.gossip("shop"))
	if err != nil {
		f.Fatal(err)
	}
	sealed := append(bytes.Clone(tr.label), 1)
	nonce := make([]byte, 12)
	sealed = append(sealed, nonce...)
	sealed = tr.seal.Seal(sealed, nonce, []byte("payload"), []byte("shop"))
	var scratch [packetMax + 1]byte
	if !tr.sealed(sealed, scratch[:]) {
		f.Fatal("our own packet is refused")
	}
	f.Add(sealed)
	f.Add(tr.label)
	f.Fuzz(func(t *testing.T, b []byte) {
		if tr.sealed(b, scratch[:]) && !bytes.Equal(b, sealed) {
			t.Fatalf("%x was made without the key", b)
		}
	})
}

// Names without end, made up by somebody with the key, do not fill the memory.
func TestMembersAreBounded(t *testing.T) {
	g := NewGossip(mustWire(t), testKey(1), nil, slog.New(slog.DiscardHandler))
	for i := range 10 * membersMax {
		h := testHello(1)
		h.Boot = NewID()
		n := &memberlist.Node{Name: NewID().String(), Addr: net.IPv4(10, 0, byte(i>>8), byte(i)), Port: 1, Meta: metadata{hello: Hello{Boot: h.Boot}}.encode()}
		if g.admits(n) == nil {
			g.heard(n, Alive)
		}
	}
	if n := len(g.Members()); n != membersMax+1 {
		t.Errorf("%d members", n)
	}
	for _, bad := range []*memberlist.Node{
		{Name: "n1", Addr: net.IPv4(10, 0, 0, 1), Meta: metadata{hello: Hello{Boot: ID{1}}}.encode()},
		{Name: ID{1, 2}.String(), Addr: net.IPv4(10, 0, 0, 1)},
		{Name: ID{1, 2}.String(), Meta: metadata{hello: Hello{Boot: ID{1}}}.encode()},
	} {
		if err := g.admits(bad); err == nil {
			t.Errorf("%+v was let in", bad)
		}
	}
}

func mustWire(t *testing.T) *Wire {
	w, err := NewWire(nodeConfig(1, newLAN()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// A copy of a node that only gossips is found out, too.
func TestCopyInGossipIsReported(t *testing.T) {
	g := NewGossip(mustWire(t), testKey(1), nil, slog.New(slog.DiscardHandler))
	node := func(host byte) *memberlist.Node {
		return &memberlist.Node{Name: ID{7}.String(), Addr: net.IPv4(10, 0, 0, host), Port: 7950, Meta: metadata{hello: Hello{Boot: ID{host}, Name: "n7"}}.encode()}
	}
	gossipDelegate{g}.NotifyConflict(node(2), node(3))
	both := false
	g.has = func(_ context.Context, _ ID, at netip.AddrPort) bool {
		return both || at.Addr() == netip.MustParseAddr("10.0.0.3")
	}
	g.report(t.Context())
	if r := g.wire.Refused(); len(r) != 0 {
		t.Errorf("of one that has moved: %+v", r)
	}
	both = true
	gossipDelegate{g}.NotifyConflict(node(2), node(3))
	g.report(t.Context())
	r := g.wire.Refused()
	if len(r) != 1 || r[0].Reason != DuplicateNode || r[0].Peer != netip.MustParseAddr("10.0.0.3") {
		t.Errorf("got %+v", r)
	}
}

// A hundred joins and leaves, with new addresses, wiped disks and copies among
// them, leave the list right.
func TestChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newLAN()
		nodes := startGossips(t, nodeConfig(1, net), nodeConfig(2, net), nodeConfig(3, net))
		a, peers := nodes[0], nodes[0].g.peers
		a.waitFor(10*time.Second, "n2 alive, n3 alive")
		nodes[2].stop()
		id := byte(3)
		for i := range 100 {
			cfg := nodeConfig(3, net)
			if i%7 == 0 {
				id = byte(100 + i)
			}
			cfg.Hello.Node, cfg.Hello.Name = ID{id}, fmt.Sprintf("n3-%d", i)
			n := startGossip(t, cfg, peers...)
			time.Sleep(time.Duration(i%5) * time.Second)
			if i%10 == 0 {
				wrong := nodeConfig(5, net)
				wrong.Key = testKey(9)
				w := startGossip(t, wrong, peers...)
				time.Sleep(5 * time.Second)
				w.stop()
			}
			if i%2 == 0 {
				n.die()
			} else {
				n.stop()
			}
		}
		n := startGossip(t, nodeConfig(3, net), peers...)
		a.waitFor(30*time.Second, "n2 alive, n3 alive")
		nodes[1].waitFor(30*time.Second, "n1 alive, n3 alive")
		n.stop()
		nodes[1].stop()
		a.stop()
	})
}
