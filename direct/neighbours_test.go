package direct

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestServersThatDoNotAnswerArePassedBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNeighbours()
		n.want(servers[:1])
		at := mac{2, 0, 0, 0, 0, 0xa}
		asked := 0
		var last mac
		run := func(d time.Duration, answer bool) (lost bool) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
				lost = n.due(time.Now(), func(a netip.Addr, to mac) {
					asked++
					last = to
				}) || lost
				if answer && asked > 0 {
					n.learn(servers[0], at)
				}
			}
			return lost
		}
		reachable := func() bool { _, ok := n.get(servers[0]).mac(); return ok }
		run(5*time.Second, false)
		if asked != 5 || last != (mac{}) || reachable() {
			t.Errorf("asked %d times in 5 s, last %v; want 5, everybody", asked, last)
		}
		if !n.learn(servers[0], at) || n.learn(servers[0], at) {
			t.Error("the first answer is news, the second is not")
		}
		asked = 0
		if run(20*time.Second, true); asked != 4 || last != at || !reachable() {
			t.Errorf("asked %d times in 20 s, last %v; want 4 and where it is", asked, last)
		}
		asked = 0
		if lost := run(12*time.Second, false); !lost || reachable() {
			t.Errorf("after %d questions without an answer: lost %v, reachable %v", asked, lost, reachable())
		}
		if last != (mac{}) {
			t.Error("the last question was not for everybody")
		}
	})
}

func TestOnlyServersAreLearned(t *testing.T) {
	n := newNeighbours()
	n.want(servers)
	for _, m := range []mac{{}, broadcast, {1, 0, 0x5e, 0, 0, 1}} {
		if n.learn(servers[0], m) {
			t.Errorf("learned %v", m)
		}
	}
	if n.learn(vip4, theirs) || len(*n.all.Load()) != 2 {
		t.Error("learned about somebody who is no server")
	}
	n.learn(servers[0], theirs)
	n.want(append([]netip.Addr{vip6}, servers...))
	if m, ok := n.get(servers[0]).mac(); !ok || m != theirs {
		t.Error("what was known is forgotten")
	}
}

func TestManyServersAreAskedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNeighbours()
		var many []netip.Addr
		for i := range 1000 {
			many = append(many, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		}
		n.want(many)
		asked := map[netip.Addr]int{}
		for range 40 {
			before := len(asked)
			n.due(time.Now(), func(a netip.Addr, _ mac) { asked[a]++ })
			if len(asked)-before > askBurst {
				t.Fatalf("%d questions in one go", len(asked)-before)
			}
			time.Sleep(250 * time.Millisecond)
		}
		if len(asked) < 900 {
			t.Errorf("%d of 1000 servers asked in 10 s", len(asked))
		}
	})
}
