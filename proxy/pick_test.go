package proxy

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"pen/state"
)

// up returns n servers that are there and answer, with keys of their own.
func up(n int) []candidate {
	list := make([]candidate, n)
	for i := range list {
		list[i] = candidate{usable: true, key: hashText(fmt.Sprint("server", i))}
	}
	return list
}

// with changes server i of a list.
func with(list []candidate, i int, change func(*candidate)) []candidate {
	change(&list[i])
	return list
}

func shun(c *candidate)   { c.shunned = true }
func retire(c *candidate) { c.usable = false }

func pickFrom(q question, list []candidate) int {
	return pick(q, len(list), func(i int) candidate { return list[i] })
}

// letters runs a choice n times, each with its effect, and spells the result.
func letters(n int, one func() int) string {
	var s strings.Builder
	for range n {
		if i := one(); i == state.None {
			s.WriteByte('-')
		} else {
			s.WriteByte(byte('A' + i))
		}
	}
	return s.String()
}

// turns runs round robin n times.
func turns(list []candidate, n int) string {
	last := 0
	return letters(n, func() int {
		i := pickFrom(question{method: byTurn, last: last}, list)
		if i != state.None {
			last = i
		}
		return i
	})
}

// held runs a choice n times while all connections stay open.
func held(q question, list []candidate, n int) string {
	return letters(n, func() int {
		i := pickFrom(q, list)
		if i != state.None {
			list[i].conns++
		}
		return i
	})
}

func settings(change func(*state.Settings)) *state.Settings {
	s := state.Defaults()
	change(&s)
	return &s
}

// Each case is a sentence of the reference.
func TestFirstChoice(t *testing.T) {
	prios := func(p ...int) []candidate {
		list := up(len(p))
		for i := range p {
			list[i].prio = p[i]
		}
		return list
	}
	weights := func(w ...int) []candidate {
		list := up(len(w))
		for i := range w {
			list[i].weight = w[i]
		}
		return list
	}
	prio, weight := question{method: byPrio}, question{method: byWeight}
	for _, c := range []struct{ sentence, got, want string }{
		{"prio: smallest prio number among available servers", held(prio, prios(3, 1, 2), 2), "BB"},
		{"prio: a negative number is smaller still", held(prio, prios(0, -1, 2), 1), "B"},
		{"prio: ties: lowest index", held(prio, prios(2, 1, 1), 2), "BB"},
		{"prio: a blacklisted server is not available", held(prio, with(prios(1, 2, 3), 0, shun), 1), "B"},
		{"prio: a retired server is not available, slot 0 included", held(prio, with(prios(1, 2, 3), 0, retire), 1), "B"},
		{"prio: nobody available is nobody", held(prio, with(with(prios(1, 2), 0, shun), 1, retire), 1), "-"},
		{"weight: holding connections open with weights 1, 2: A B B A B B", held(weight, weights(1, 2), 6), "ABBABB"},
		{"weight: weights 1, 1 take turns", held(weight, weights(1, 1), 4), "ABAB"},
		{"weight: smallest 256*conn/weight (integer division): 256/300 is 0", held(weight, weights(300, 1), 3), "AAB"},
		{"weight: ties: lowest index", held(weight, weights(5, 5, 5), 3), "ABC"},
		{"weight: among servers with weight != 0", held(weight, weights(0, 1), 3), "BBB"},
		{"weight: -W without weights finds none", held(weight, weights(0, 0), 1), "-"},
		{"weight: a blacklisted server is not available", held(weight, with(weights(9, 1), 0, shun), 2), "BB"},
		{"weight: a retired server is not available, slot 0 included", held(weight, with(weights(9, 1), 0, retire), 2), "BB"},
		{"round robin: the first client ever goes to server 1, then 2, ..., n-1, 0", turns(up(4), 6), "BCDABC"},
		{"round robin: with one server that one", turns(up(1), 2), "AA"},
		{"round robin: a blacklisted server is skipped", turns(with(up(3), 1, shun), 4), "CACA"},
		{"round robin: a retired server is skipped, slot 0 included", turns(with(up(3), 0, retire), 4), "BCBC"},
		{"round robin: the last one again if no other is available", turns(with(with(up(3), 0, shun), 1, shun), 2), "CC"},
		{"round robin: nobody available is nobody", turns(with(up(1), 0, shun), 1), "-"},
		{"round robin: no servers at all is nobody", turns(nil, 1), "-"},
		{"full servers are not skipped", turns(with(up(2), 1, func(c *candidate) { c.conns = 1 << 30 }), 1), "B"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			if c.got != c.want {
				t.Errorf("got %s, want %s", c.got, c.want)
			}
		})
	}
}

func TestRoundRobinGoesOnAfterTheListGetsShorter(t *testing.T) {
	if got := pickFrom(question{method: byTurn, last: 7}, up(3)); got != 2 {
		t.Errorf("got %d, want 2: 8 modulo 3", got)
	}
}

func TestPrecedenceIsPrioWeightHashRoundRobin(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*state.Settings)
		want method
	}{
		{"nothing is round robin", func(*state.Settings) {}, byTurn},
		{"hash", func(s *state.Settings) { s.Hash = state.HashOn }, byHash},
		{"hash compat", func(s *state.Settings) { s.Hash = state.HashCompat }, byCompat},
		{"weight before hash", func(s *state.Settings) { s.Weight, s.Hash = true, state.HashOn }, byWeight},
		{"prio before all", func(s *state.Settings) { s.Prio, s.Weight, s.Hash = true, true, state.HashCompat }, byPrio},
		{"roundrobin is about memory, not about the method", func(s *state.Settings) { s.RoundRobin, s.Hash = true, state.HashOn }, byHash},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := methodOf(settings(c.set)); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

// The values follow from the formula, worked out by hand:
// (o1 + 256*o2 + 65536*o3 + 16777216*o4) mod n.
func TestCompatHashIsTheOriginalsFormula(t *testing.T) {
	for _, c := range []struct {
		client string
		port   uint16
		n      int
		want   int
	}{
		{"127.0.0.1", 0, 2, 1},
		{"127.0.0.1", 0, 3, 2},   // octet sum 128 mod 3
		{"127.0.0.1", 0, 4, 3},   // 127 mod 4
		{"10.0.0.1", 0, 2, 0},    // only the first octet matters
		{"10.255.3.77", 0, 2, 0}, //
		{"10.255.3.77", 0, 4, 2}, //
		{"10.1.2.3", 0, 3, 1},    // 16 mod 3
		{"192.168.1.7", 0, 3, 2}, // 368 mod 3
		{"1.2.3.4", 0, 7, (1 + 256*2 + 65536*3 + 16777216*4) % 7},
		{"255.255.255.255", 0, 1000, 4294967295 % 1000},
		// With a port the value is first XORed with 256*low_byte + high_byte.
		{"127.0.0.1", 0x1234, 2, (127 ^ 0x12) % 2},
		{"127.0.0.1", 0x1234, 1000, (127 + 16777216 ^ 0x3412) % 1000},
		{"10.0.0.2", 40001, 5, (10 + 2*16777216 ^ (40001%256*256 + 40001/256)) % 5},
		// IPv6: the last byte, the port unused.
		{"2001:db8::7", 0, 3, 1},
		{"2001:db8::7", 4711, 3, 1},
		{"::ff", 0, 100, 55},
		// Unix: 0.
		{"", 0, 3, 0},
		{"", 0, 1, 0},
	} {
		t.Run(fmt.Sprint(c.client, " ", c.port, " of ", c.n), func(t *testing.T) {
			client, _ := netip.ParseAddr(c.client)
			q := question{method: byCompat, client: client, port: c.port}
			if got := pickFrom(q, up(c.n)); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestCompatHashCountsEverySlotAndDoesNotLookAtAvailability(t *testing.T) {
	q := question{method: byCompat, client: netip.MustParseAddr("10.0.0.1")} // 11 mod 3 = 2
	if got := pickFrom(q, with(up(3), 2, shun)); got != 2 {
		t.Errorf("blacklisted: got %d, want 2", got)
	}
	if got := pickFrom(q, with(up(3), 1, retire)); got != 2 {
		t.Errorf("another one retired: got %d, want 2: the slot still counts", got)
	}
	if got := pickFrom(q, with(up(3), 2, retire)); got != 0 {
		t.Errorf("retired: got %d, want 0, the next", got)
	}
	if got := pickFrom(q, with(up(1), 0, retire)); got != state.None {
		t.Errorf("all retired: got %d, want none", got)
	}
	if got := pickFrom(q, nil); got != state.None {
		t.Errorf("no servers: got %d, want none", got)
	}
}

// clients calls f with n different addresses, of both families.
func clients(n int, f func(netip.Addr)) {
	for i := range n {
		if i%4 == 3 {
			f(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 5: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}))
		} else {
			f(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
	}
}

func shares(q question, list []candidate, n int) []int {
	got := make([]int, len(list))
	clients(n, func(c netip.Addr) {
		q.client = c
		got[pickFrom(q, list)]++
	})
	return got
}

func TestHashSpreadsClientsEvenly(t *testing.T) {
	for i, n := range shares(question{method: byHash, equal: true}, up(7), 70_000) {
		if n < 9_600 || n > 10_400 {
			t.Errorf("server %d has %d clients, want about 10000", i, n)
		}
	}
}

func TestHashFollowsTheWeights(t *testing.T) {
	list := up(4)
	for i, w := range []int{1, 2, 0, 7} {
		list[i].weight = w
	}
	want := []int{10_000, 20_000, 0, 70_000}
	for i, n := range shares(question{method: byHash}, list, 100_000) {
		if math.Abs(float64(n-want[i])) > 600 {
			t.Errorf("weight %d: %d clients, want about %d", list[i].weight, n, want[i])
		}
	}
}

func TestHashMovesOnlyTheClientsOfAServerThatGoes(t *testing.T) {
	for _, gone := range []func(*candidate){shun, retire} {
		q := question{method: byHash, equal: true}
		moved := map[int]int{}
		clients(10_000, func(c netip.Addr) {
			q.client = c
			before, after := pickFrom(q, up(5)), pickFrom(q, with(up(5), 2, gone))
			switch {
			case before != 2 && after != before:
				t.Fatalf("%v moved from %d to %d", c, before, after)
			case before == 2:
				moved[after]++
			}
		})
		if len(moved) != 4 {
			t.Errorf("the clients of the lost server went to %v, want all four others", moved)
		}
	}
}

// The choice is the same on every node, whatever processor it has and whichever
// version it runs. So these never change.
func TestHashIsTheSameEverywhere(t *testing.T) {
	list := up(5)
	for i := range list {
		list[i].weight = i + 1
		list[i].key = identityOf(i, &state.Server{
			Address: state.Address{IP: netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})}, Port: 80,
		}).key()
	}
	var equal, weighted, ported strings.Builder
	clients(24, func(c netip.Addr) {
		fmt.Fprint(&equal, pickFrom(question{method: byHash, client: c, equal: true}, list))
		fmt.Fprint(&weighted, pickFrom(question{method: byHash, client: c}, list))
		fmt.Fprint(&ported, pickFrom(question{method: byHash, client: c, port: 4711, equal: true}, list))
	})
	for _, c := range []struct{ name, got, want string }{
		{"equal", equal.String(), "034314004030112434333040"},
		{"weighted", weighted.String(), "434314304333412434333440"},
		{"with the port", ported.String(), "224211033012110001403234"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
}

func TestHashMixesThePortInOnlyIfGiven(t *testing.T) {
	c := netip.MustParseAddr("10.1.2.3")
	seen := map[int]bool{}
	for port := range 100 {
		seen[pickFrom(question{method: byHash, client: c, port: uint16(port + 1), equal: true}, up(4))] = true
	}
	if len(seen) != 4 {
		t.Errorf("100 ports of a client reach servers %v, want all 4", seen)
	}
}

func TestHashSendsClientsOnUnixSocketsToOneServer(t *testing.T) {
	q := question{method: byHash, equal: true}
	if a, b := pickFrom(q, up(3)), pickFrom(q, up(3)); a != b || a == state.None {
		t.Errorf("got %d and %d, want the same server", a, b)
	}
}

func TestMinusLog2IsExactToItsUnit(t *testing.T) {
	for _, x := range []uint64{0, 1, 2, 3, 1 << 20, 1<<40 + 12345, 1<<63 - 1, 1 << 63, 3 << 62, math.MaxUint64 - 1<<40, math.MaxUint64} {
		want := (64 - math.Log2(float64(x)+1)) * (1 << 32)
		if got := float64(minusLog2(x)); math.Abs(got-want) > 2 {
			t.Errorf("%#x: got %.0f, want %.1f", x, got, want)
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	list := up(10)
	for m := byTurn; m <= byPrio; m++ {
		q := question{method: m, client: netip.MustParseAddr("10.1.2.3"), equal: true}
		if n := testing.AllocsPerRun(10, func() { pickFrom(q, list) }); n != 0 {
			t.Errorf("method %d: %.0f allocations", m, n)
		}
	}
}

func BenchmarkPickHash(b *testing.B) {
	list := up(10)
	q := question{method: byHash, client: netip.MustParseAddr("10.1.2.3"), equal: true}
	for b.Loop() {
		pickFrom(q, list)
	}
}
