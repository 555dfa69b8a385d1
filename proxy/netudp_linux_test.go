package proxy

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pen/state"
)

// newNetUDP is newNetStand for datagrams. It has its own listener.
func newNetUDP(t *testing.T, servers ...string) (*netStand, string) {
	s := newNetStand(t, servers...)
	s.setup(state.Set{Option: state.OptProtocol, Value: state.Int(int(state.UDP))})
	return s, s.open(place{addr: netip.MustParseAddrPort(loopback), udp: true}).String()
}

func TestNetFlows(t *testing.T) {
	s, at := newNetUDP(t, datagrams(t, loopback, called("a")), datagrams(t, loopback, called("b")))
	c := newCaller(t, at)
	c.ask("x", "b x")
	c.ask("", "b ")
	newCaller(t, at).ask("x", "b x")
	s.engine.credit(s.front)
	clients := slices.Collect(s.clientStats(present()))
	if v := s.serverStats()[1]; v.Conns != 2 || v.Sent != 2 || v.Received != 8 || len(clients) != 1 || clients[0].Connects != 2 {
		t.Errorf("server = %+v, clients = %+v", v, clients)
	}
}

func TestNetFlowLeavesAServerThatIsAway(t *testing.T) {
	s, at := newNetUDP(t, datagrams(t, loopback, called("a")), refusing(t))
	c := newCaller(t, at)
	c.say("lost")
	eventually(t, "the dead server is marked and the flow over", func() bool {
		return s.serverStats()[1].Failures > 0 && len(s.engine.of(s.front)) == 0
	})
	c.ask("x", "a x")
	// A server that is shunned loses its flows.
	s.apply(state.SetServer{Fields: state.FieldMark, Server: state.Server{Mark: present()}})
	c.say("no server is left")
	if got := c.hear(100 * time.Millisecond); got != "-" {
		t.Errorf("got %q", got)
	}
	s.quiet()
}

func TestNetFlowsAreBounded(t *testing.T) {
	s, at := newNetUDP(t, datagrams(t, loopback, called("a")))
	few := s.machine.View().Service("").Settings
	few.ConnMax = 3 // the accept loop of the other listener has one
	s.front.settings.Store(&few)
	newCaller(t, at).ask("x", "a x")
	newCaller(t, at).ask("x", "a x")
	c := newCaller(t, at)
	eventually(t, "a flow ends for another", func() bool { // the datagram for which it ends is dropped
		c.say("x")
		return c.hear(50*time.Millisecond) == "a x"
	})
	if n := s.front.evicted.Load(); n != 1 {
		t.Errorf("%d flows ended for others, want 1", n)
	}
}

func TestNetUDPStandsBy(t *testing.T) {
	s, at := newNetUDP(t, datagrams(t, loopback, called("a")))
	c := newCaller(t, at)
	c.ask("x", "a x")
	s.engine.standBy()
	c.say("unheard")
	if got := c.hear(50 * time.Millisecond); got != "-" {
		t.Errorf("a standby answers %q", got)
	}
	s.engine.takeOver()
	c.ask("x", "a x")
}
