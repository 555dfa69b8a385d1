package direct

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// world is a link with two services: TCP to port 80 and UDP to every port of the address,
// and a tarpit from 10.9.0.64 on.
type world struct {
	t       testing.TB
	judge   *judge
	plan    *plan
	web, dg *service
	kicks   int
	standby bool
	mute    bool
	choose  func(netip.Addr, uint16) int
}

type choiceFunc func(netip.Addr, uint16) int

func (c choiceFunc) Server(a netip.Addr, port uint16) int { return c(a, port) }

var servers = []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("10.9.0.3")}

func newWorld(t testing.TB) *world {
	w := &world{t: t}
	w.choose = func(a netip.Addr, _ uint16) int { return int(a.AsSlice()[a.BitLen()/8-1]) % 2 }
	n := newNeighbours()
	n.want(servers)
	w.judge = &judge{neighbours: n, totals: &totals{}, pieces: newPieces(), kick: func() { w.kicks++ }}
	config := Service{Name: "web", Addrs: []netip.Addr{vip4, vip6}, Port: 80, Servers: servers}
	config.Choose = func(func(int) bool) (Choice, time.Time) {
		return choiceFunc(func(a netip.Addr, port uint16) int { return w.choose(a, port) }), time.Time{}
	}
	config.Tarpit = func(a netip.Addr) bool {
		return netip.MustParsePrefix("10.9.0.64/26").Contains(a) || netip.MustParsePrefix("fd09:0:0:1::/64").Contains(a)
	}
	w.web = newService(config, nil, n)
	config.Name, config.Port, config.UDP, config.Tarpit = "dg", 0, true, nil
	w.dg = newService(config, nil, n)
	w.web.choose()
	w.dg.choose()
	w.plan = planOf(ours, []*service{w.web, w.dg}, map[netip.Addr]bool{netip.MustParseAddr("10.9.0.100"): true})
	return w
}

// reach lets the servers say where they are.
func (w *world) reach() {
	w.judge.neighbours.learn(servers[0], mac{2, 0, 0, 0, 0, 0xa})
	w.judge.neighbours.learn(servers[1], mac{2, 0, 0, 0, 0, 0xb})
}

func (w *world) frame(b []byte) (verdict, []byte) {
	return w.judge.frame(w.plan, b, nil, !w.standby, !w.standby && !w.mute, time.Now())
}

// see tells what becomes of a frame: what goes out in hex, or nothing.
func (w *world) see(s string) string {
	w.t.Helper()
	b := bytesOf(w.t, s)
	switch v, reply := w.frame(b); v {
	case sendOn:
		return hex.EncodeToString(b)
	case answer:
		return hex.EncodeToString(reply)
	}
	return ""
}

func (w *world) want(what, frame, want string) {
	w.t.Helper()
	if got, want := w.see(frame), hex.EncodeToString(bytesOf(w.t, want)); got != want {
		w.t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

const (
	synFrom2  = "020000000001 020000000002 0800 45000028 00070000 40060000 0a090002 0a09000a 0fa0 0050 000003e8 00000000 5002faf0 00000000"
	port81    = "020000000001 020000000002 0800 45000028 00070000 40060000 0a090001 0a09000a 0fa0 0051 000003e8 00000000 5002faf0 00000000"
	datagram1 = "020000000001 020000000002 0800 4500001c 00072000 40110000 0a090001 0a09000a 0fa0 0035 0bb8 0000"
	datagram2 = "020000000001 020000000002 0800 4500001c 000700b9 40110000 0a090001 0a09000a 01020304 05060708"
	toServerB = "02000000000b 020000000001"
)

func TestFramesAreSentOn(t *testing.T) {
	w := newWorld(t)
	w.want("before a server has answered", synToVIP, "")
	if n := w.web.counters().Nobody; n != 1 {
		t.Errorf("%d packets for nobody, want 1", n)
	}
	w.want("an answer is not sent on", arpFromMAC, "")
	if w.kicks != 1 || !w.web.reachable(1) || w.web.reachable(0) {
		t.Errorf("%d kicks, reachable %v %v", w.kicks, w.web.reachable(0), w.web.reachable(1))
	}
	w.want("unchanged but for the MACs", synToVIP, synToServer)
	w.want("a server that has not answered", synFrom2, "")
	w.reach()
	w.want("to the other server", synFrom2, "02000000000a 020000000001"+synFrom2[len(toServerB):])
	w.want("another port", port81, "")
	w.want("every port", datagram1, toServerB+datagram1[len(toServerB):])
	w.want("what follows the first piece", datagram2, toServerB+datagram2[len(toServerB):])
	w.want("for another machine's MAC", "0200000000ff"+synToVIP[12:], "")
	w.want("to everybody", "ffffffffffff"+synToVIP[12:], "")
	w.want("from the server that would get it", "020000000001 02000000000b"+synToVIP[len(toServerB):], "")
	c := w.web.counters()
	if c.Packets != 2 || c.Bytes != 108 || c.Servers[0].Packets != 1 || c.Servers[1].Bytes != 54 {
		t.Errorf("counted %+v", c)
	}
	if got := w.judge.totals.read(); got.Returned != 1 {
		t.Errorf("counted %+v", got)
	}
}

func TestPiecesWithoutTheirFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.reach()
		w.want("before the first", datagram2, "")
		w.see(datagram1)
		time.Sleep(pieceAge)
		w.want("too late", datagram2, "")
		if n := w.judge.totals.read().Pieces; n != 2 {
			t.Errorf("%d pieces counted, want 2", n)
		}
	})
}

func TestWhoGetsNoServer(t *testing.T) {
	w := newWorld(t)
	w.reach()
	for _, i := range []int{Nobody, Denied, 2, 99} {
		w.choose = func(netip.Addr, uint16) int { return i }
		w.want("nobody", synToVIP, "")
	}
	if c := w.web.counters(); c.Denied != 1 || c.Nobody != 3 || c.Packets != 0 {
		t.Errorf("counted %+v", c)
	}
}

// A standby, and a holder that hands over.
func TestNothingWithoutPermission(t *testing.T) {
	w := newWorld(t)
	w.reach()
	w.standby = true
	for _, f := range []string{arpForVIP, synToVIP, synToNobody, datagram2} {
		w.want("on a standby", f, "")
	}
	w.standby, w.mute = false, true
	for _, f := range []string{arpForVIP, synToNobody} {
		w.want("while handing over", f, "")
	}
	w.want("while handing over", synToVIP, toServerB+synToVIP[len(toServerB):])
	if got := w.judge.totals.read(); got.Standby != 1 || got.Answers != 0 || got.Trapped != 0 {
		t.Errorf("counted %+v", got)
	}
}

func TestErrorsGoToTheServerThatSent(t *testing.T) {
	w := newWorld(t)
	w.reach()
	const tooBig = "020000000001 020000000002 0800 45000038 00070000 40010000 0a090063 0a09000a 0304 0000 0000 0578" +
		"450005dc 00014000 40060000 0a09000a 0a090001 0050 0fa0 00000001"
	w.want("fragmentation needed", tooBig, toServerB+tooBig[len(toServerB):])
	if c := w.web.counters(); c.Reports != 1 || c.Packets != 1 {
		t.Errorf("counted %+v", c)
	}
}

func TestARP(t *testing.T) {
	w := newWorld(t)
	w.want("for the address", arpForVIP, arpFromVIP)
	w.want("is it free", "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 00000000 000000000000 0a09000a",
		"020000000002 020000000001 0806 0001 0800 06 04 0002 020000000001 0a09000a 020000000002 00000000")
	const asks = "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 0a090001 000000000000 "
	w.want("for an address in the tarpit", asks+"0a090046", "020000000002 020000000001 0806 0001 0800 06 04 0002 020000000001 0a090046 020000000002 0a090001")
	w.want("for an address of this machine in it", asks+"0a090064", "")
	w.want("for another", asks+"0a090021", "")
	w.want("who looks whether it is free", "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 00000000 000000000000 0a090046", "")
	w.want("who says that it has it", "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 0a090046 000000000000 0a090046", "")
}

func TestTarpit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if w.see(synToNobody) == "" {
			t.Error("a SYN was not answered")
		}
		ack := synToNobody[:len(synToNobody)-17] + "5010faf0 00000000"
		w.want("all else", ack, "")
		w.want("an address that is not listed", "020000000001 020000000002 0800 45000028 00070000 40060000 0a090001 0a090021 0fa0 0016 000003e8 00000000 5002faf0 00000000", "")
		six := "020000000001 020000000002 86dd 60000000 0014 06 40 fd090000000000000000000000000001 fd090000000000010000000000000010 0fa0 0016 000003e8 00000000 5002faf0 00000000"
		if k := parse(bytesOf(t, w.see(six))); k.kind != segment || k.dst != netip.MustParseAddr("fd09::1") || k.flags != flagSYN|flagACK {
			t.Errorf("by IPv6: %+v", k)
		}
		answered := 0
		for range 3 * tarRate {
			if w.see(synToNobody) != "" {
				answered++
			}
		}
		if want := tarRate - 2; answered != want {
			t.Errorf("%d answers in one moment, want %d", answered, want)
		}
		time.Sleep(time.Second)
		if w.see(synToNobody) == "" {
			t.Error("none a second later")
		}
		if got := w.judge.totals.read(); got.Trapped != tarRate+1 || got.Spared != 2*tarRate+2 {
			t.Errorf("counted %+v", got)
		}
	})
}
