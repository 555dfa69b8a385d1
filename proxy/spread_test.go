package proxy

import (
	"net/netip"
	"testing"
	"time"

	"pen/state"
)

// spread asks the world for the choice of the moment, and for when it ends.
func (w *world) spread(reachable func(int) bool) (*Spread, time.Time) {
	if reachable == nil {
		reachable = func(int) bool { return true }
	}
	s := &Spreader{plan: w.plan.Load()}
	return s.Spread(reachable)
}

func clientNumber(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

const spreadClients = 20000

// spreadShares counts who gets whom.
func spreadShares(s *Spread) map[int]int {
	all := map[int]int{}
	for i := range spreadClients {
		all[s.Server(clientNumber(i), 0)]++
	}
	return all
}

func near(got, want, total int) bool { return got > want-total/20 && got < want+total/20 }

func TestSpreadMovesLittle(t *testing.T) {
	w := newWorld(t, 4)
	before, _ := w.spread(nil)
	for i, n := range spreadShares(before) {
		if !near(n, spreadClients/4, spreadClients) {
			t.Errorf("server %d has %d of %d clients", i, n, spreadClients)
		}
	}
	after, _ := w.spread(func(i int) bool { return i != 2 })
	for i := range spreadClients {
		c := clientNumber(i)
		if was, is := before.Server(c, 0), after.Server(c, 0); was != is && was != 2 || is == 2 {
			t.Fatalf("%v went from %d to %d", c, was, is)
		}
	}
	w.server(1, func(s *state.Server) { s.Weight = 3 }, state.FieldWeight)
	weighted, _ := w.spread(nil)
	if n := spreadShares(weighted)[1]; !near(n, spreadClients/2, spreadClients) {
		t.Errorf("a server with half of the weight has %d of %d clients", n, spreadClients)
	}
	for i := range spreadClients {
		c := clientNumber(i)
		if was, is := before.Server(c, 0), weighted.Server(c, 0); was != is && is != 1 {
			t.Fatalf("%v went from %d to %d, which has no more weight than before", c, was, is)
		}
	}
}

// Every change that the choice depends on counts at once; the original never looked again.
func TestSpreadFollowsEveryChange(t *testing.T) {
	w := newWorld(t, 3)
	has := func(what string, want ...int) {
		t.Helper()
		s, _ := w.spread(nil)
		all := spreadShares(s)
		for _, i := range want {
			if all[i] == 0 {
				t.Errorf("%s: server %d has no clients: %v", what, i, all)
			}
			delete(all, i)
		}
		if len(all) > 0 {
			t.Errorf("%s: %v, want only %v", what, all, want)
		}
	}
	has("at first", 0, 1, 2)
	w.server(3, func(*state.Server) {}, 0)
	has("a new server", 0, 1, 2, 3)
	w.server(0, func(s *state.Server) { s.Mark = w.now }, state.FieldMark)
	has("a server is shunned", 1, 2, 3)
	_, again := w.spread(nil)
	if left := time.Until(again); left < 20*time.Second || left > 31*time.Second {
		t.Errorf("the choice counts for %v, want about 30 s", left)
	}
	w.server(0, func(s *state.Server) { s.Mark = 0 }, state.FieldMark)
	has("no longer", 0, 1, 2, 3)
	w.server(1, func(s *state.Server) { s.Address = state.Address{Host: "0.0.0.0", IP: netip.IPv4Unspecified()} }, 0)
	has("a server is retired", 0, 2, 3)
	w.server(2, func(s *state.Server) { s.Port = 0 }, 0)
	has("a server without a port", 0, 2, 3)
	w.apply(state.SetServer{Index: state.Emergency, Fields: state.FieldAddress, Server: state.Server{Address: state.Address{Host: "10.0.1.99", IP: netip.MustParseAddr("10.0.1.99")}}})
	has("an emergency server that is not needed", 0, 2, 3)
	s, _ := w.spread(func(i int) bool { return i == state.Emergency })
	if all := spreadShares(s); all[state.Emergency] != spreadClients {
		t.Errorf("nobody else can be reached: %v", all)
	}
	s, _ = w.spread(func(int) bool { return false })
	if all := spreadShares(s); all[state.None] != spreadClients {
		t.Errorf("nobody can be reached: %v", all)
	}
}

// What has not changed is not made again: a table costs some milliseconds.
func TestSpreadIsKept(t *testing.T) {
	w := newWorld(t, 3)
	s := &Spreader{plan: w.plan.Load()}
	all := func(int) bool { return true }
	one, _ := s.Spread(all)
	if two, _ := s.Spread(all); one != two {
		t.Error("made again although nothing has changed")
	}
	if three, _ := s.Spread(func(i int) bool { return i > 0 }); three == one {
		t.Error("not made again although a server has gone")
	}
}

func TestSpreadAsksTheLists(t *testing.T) {
	w := newWorld(t, 3)
	client := netip.MustParseAddr("10.1.0.7")
	s, _ := w.spread(nil)
	first := s.Server(client, 0)
	w.deny(1, client.String())
	w.server(first, func(s *state.Server) { s.ACL = state.Numbered(1) }, state.FieldACL)
	s, _ = w.spread(nil)
	second := s.Server(client, 0)
	if second == first || second < 0 {
		t.Errorf("who may not have server %d gets %d", first, second)
	}
	if other := netip.MustParseAddr("10.1.0.8"); spreadShares(s)[first] == 0 || s.Server(other, 0) < 0 {
		t.Error("the others may not have it either")
	}
	for i := range 3 {
		w.server(i, func(s *state.Server) { s.ACL = state.Numbered(1) }, state.FieldACL)
	}
	if s, _ = w.spread(nil); s.Server(client, 0) != state.None {
		t.Errorf("who may have nobody gets %d", s.Server(client, 0))
	}
	w.set(state.OptClientACL, state.Int(1))
	if s, _ = w.spread(nil); s.Server(client, 0) != Denied {
		t.Errorf("who may not use the service gets %d", s.Server(client, 0))
	}
	w.apply(state.SetServer{Index: state.Abuse, Fields: state.FieldAddress, Server: state.Server{Address: state.Address{Host: "10.0.1.98", IP: netip.MustParseAddr("10.0.1.98")}}})
	if s, _ = w.spread(nil); s.Server(client, 0) != state.Abuse {
		t.Errorf("who may not use the service gets %d, want the abuse server", s.Server(client, 0))
	}
}

// The clients' ports count where the original counts them.
func TestSpreadByPort(t *testing.T) {
	w := newWorld(t, 2)
	client := netip.MustParseAddr("10.1.0.7")
	seen := func() int {
		s, _ := w.spread(nil)
		all := map[int]bool{}
		for port := range uint16(100) {
			all[s.Server(client, port+1)] = true
		}
		return len(all)
	}
	if n := seen(); n != 1 {
		t.Errorf("one client has %d servers", n)
	}
	w.set(state.OptRoundRobin, state.Bool(true))
	if n := seen(); n != 2 {
		t.Errorf("with roundrobin one client has %d servers, want 2", n)
	}
}

// Seen with the original: clients .1 .2 .3 .4 of 10.9.0.0 and two servers.
func TestSpreadCompat(t *testing.T) {
	w := newWorld(t, 2)
	w.set(state.OptHash, state.Int(int(state.HashCompat)))
	s, _ := w.spread(nil)
	var got []int
	for i := range 4 {
		got = append(got, s.Server(netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}), 4000))
	}
	if want := []int{0, 1, 0, 1}; got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Errorf("got %v, want %v", got, want)
	}
}

func BenchmarkSpread(b *testing.B) {
	w := newWorld(b, 10)
	w.server(1, func(s *state.Server) { s.Weight = 3 }, state.FieldWeight)
	b.Run("made", func(b *testing.B) {
		for b.Loop() {
			w.spread(nil)
		}
	})
	s, _ := w.spread(nil)
	client := clientNumber(77)
	b.Run("asked", func(b *testing.B) {
		for b.Loop() {
			s.Server(client, 4711)
		}
	})
}
