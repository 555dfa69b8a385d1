package direct

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// How servers are asked where they are. One that does not answer is passed by after
// about ten seconds; a machine whose network fails, or that has another card now, is noticed.
const (
	askMissing = time.Second     // between questions to one who does not answer
	askKnown   = 5 * time.Second // after an answer
	patience   = 4               // questions without an answer until a server counts as gone
	askBurst   = 100             // questions in one go
)

// neighbour is a server's place on the segment.
type neighbour struct {
	addr netip.Addr
	// where is its MAC, with known beside it; 0: nobody knows.
	where atomic.Uint64

	asked   time.Time // guarded by neighbours.mu, as what follows
	pending int       // questions since the last answer
	told    mac       // the last answer
}

const known = 1 << 48

// mac returns where the server is.
func (n *neighbour) mac() (m mac, ok bool) {
	w := n.where.Load()
	for i := range m {
		m[i] = byte(w >> (40 - 8*i))
	}
	return m, w&known != 0
}

// neighbours are the servers of one link. There is an entry for each server that is
// configured and for no other, whoever claims what.
type neighbours struct {
	all atomic.Pointer[map[netip.Addr]*neighbour]

	mu sync.Mutex
}

func newNeighbours() *neighbours {
	n := &neighbours{}
	n.all.Store(&map[netip.Addr]*neighbour{})
	return n
}

// want makes these the servers. What is known of them is kept.
func (n *neighbours) want(addrs []netip.Addr) {
	before, after := *n.all.Load(), make(map[netip.Addr]*neighbour, len(addrs))
	for _, a := range addrs {
		if after[a] = before[a]; after[a] == nil {
			after[a] = &neighbour{addr: a}
		}
	}
	n.all.Store(&after)
}

func (n *neighbours) get(a netip.Addr) *neighbour { return (*n.all.Load())[a] }

// learn notes that a claims to be at m. It reports whether a server has become
// reachable by that.
func (n *neighbours) learn(a netip.Addr, m mac) (news bool) {
	e := n.get(a)
	if e == nil || m == (mac{}) || m[0]&1 != 0 { // a group is no machine
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e.pending, e.told = 0, m
	word := uint64(known)
	for i, b := range m {
		word |= uint64(b) << (40 - 8*i)
	}
	return e.where.Swap(word)&known == 0
}

// due returns the questions to ask now, and whether a server has become unreachable.
// A server that is known is asked where it is; only when it does not answer everybody is.
func (n *neighbours) due(now time.Time, ask func(addr netip.Addr, to mac)) (lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	asked := 0
	for _, e := range *n.all.Load() {
		wait := askMissing
		if e.pending == 0 && e.told != (mac{}) {
			wait = askKnown
		}
		if now.Sub(e.asked) < wait {
			continue
		}
		if asked++; asked > askBurst {
			return lost // the others soon
		}
		if e.pending >= patience && e.where.Swap(0)&known != 0 {
			lost = true
		}
		to := e.told
		if e.pending >= 2 {
			to = mac{}
		}
		e.asked = now
		e.pending++
		ask(e.addr, to)
	}
	return lost
}
