package proxy

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"pen/state"
)

// method is how a server is found for a client that we do not know.
type method uint8

// The methods; the larger one wins when several are on.
const (
	byTurn   method = iota // round robin
	byCompat               // the original's hash
	byHash                 // weighted rendezvous
	byWeight
	byPrio
)

func methodOf(s *state.Settings) method {
	switch {
	case s.Prio:
		return byPrio
	case s.Weight:
		return byWeight
	case s.Hash == state.HashCompat:
		return byCompat
	case s.Hash != state.HashOff:
		return byHash
	}
	return byTurn
}

// candidate is what the first choice looks at in one slot of the list.
type candidate struct {
	usable  bool // names a server: an address, a port, not retired
	shunned bool // failed a short while ago
	weight  int
	prio    int
	conns   int64  // places taken
	key     uint64 // stands for the address when hashing
}

func (c *candidate) available() bool { return c.usable && !c.shunned }

// question is everything else that the first choice depends on.
type question struct {
	method method
	client netip.Addr // unmapped; invalid for clients on Unix sockets
	port   uint16     // of the client, if it is to be mixed into the hash; else 0
	last   int        // what round robin chose last
	equal  bool       // no server has a weight: for the hash all are alike
}

// pick chooses among n candidates and returns an index, or state.None if there
// is nothing to choose from. Whether the server is full or its access list lets
// the client in is not asked here. It depends on nothing but its arguments.
func pick(q question, n int, at func(int) candidate) int {
	switch q.method {
	case byPrio:
		return pickPrio(n, at)
	case byWeight:
		return pickWeight(n, at)
	case byHash:
		return pickHash(q, n, at)
	case byCompat:
		return pickCompat(q, n, at)
	}
	return pickTurn(q.last, n, at)
}

// pickPrio takes the smallest prio number; of equal ones the lowest index.
func pickPrio(n int, at func(int) candidate) int {
	best, prio := state.None, 0
	for i := range n {
		c := at(i)
		if c.available() && (best == state.None || c.prio < prio) {
			best, prio = i, c.prio
		}
	}
	return best
}

// pickWeight takes the smallest load in relation to the weight; of equal ones
// the lowest index. Weight 0 is never chosen. The division is the original's: it
// makes loads equal that differ by less than a 256th of a connection.
func pickWeight(n int, at func(int) candidate) int {
	best, load := state.None, int64(0)
	for i := range n {
		c := at(i)
		if c.weight == 0 || !c.available() {
			continue
		}
		if l := 256 * c.conns / int64(c.weight); best == state.None || l < load {
			best, load = i, l
		}
	}
	return best
}

// pickTurn takes the next available index after last, going round; last itself
// comes last.
func pickTurn(last, n int, at func(int) candidate) int {
	for step := range n {
		i := (last + 1 + step) % n
		if c := at(i); c.available() {
			return i
		}
	}
	return state.None
}

// pickHash takes the winner of a weighted rendezvous: each server draws a
// number for this client, which depends on nothing but the two, and the best
// draw wins. So all nodes agree, and when a server goes only its own clients
// move. A server of twice the weight wins twice as often.
func pickHash(q question, n int, at func(int) candidate) int {
	client := hashAddr(q.client)
	if q.port != 0 {
		client = mix(client ^ uint64(q.port))
	}
	return rendezvous(client, q.equal, n, at)
}

// rendezvous lets the servers draw for what stands for the client. With equal their
// weights are all alike.
func rendezvous(client uint64, equal bool, n int, at func(int) candidate) int {
	best := state.None
	var cost, weight uint64
	for i := range n {
		c := at(i)
		w := uint64(1)
		if !equal {
			w = uint64(max(c.weight, 0))
		}
		if w == 0 || !c.available() {
			continue
		}
		// The draw is an exponential variable with rate w, here -log2(u)/w. Two
		// of them are compared crosswise: a/v < b/w is a*w < b*v. With equal
		// weights the logarithm changes nothing about who is first.
		u := mix(client + c.key)
		draw := ^u
		if !equal {
			draw = minusLog2(u)
		}
		if best == state.None || lessProduct(draw, weight, cost, w) {
			best, cost, weight = i, draw, w
		}
	}
	return best
}

// pickCompat is the original's formula on a little-endian machine. n counts
// every slot, and nothing is asked about the server but that it is not retired:
// instead of a retired one the next by index is taken.
func pickCompat(q question, n int, at func(int) candidate) int {
	if n == 0 {
		return state.None
	}
	first := int(compatValue(q.client, q.port) % uint32(n))
	for step := range n {
		i := (first + step) % n
		if c := at(i); c.usable {
			return i
		}
	}
	return state.None
}

func compatValue(client netip.Addr, port uint16) uint32 {
	switch {
	case client.Is4():
		o := client.As4()
		return binary.LittleEndian.Uint32(o[:]) ^ uint32(bits.ReverseBytes16(port))
	case client.IsValid():
		return uint32(client.As16()[15])
	}
	return 0
}

// hashAddr hashes an address; the same on every machine and in every process.
func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	return mix(mix(binary.BigEndian.Uint64(b[:8])) ^ binary.BigEndian.Uint64(b[8:]))
}

// hashText hashes a text, likewise (FNV-1a).
func hashText(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of splitmix64: every bit of x moves half of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// minusLog2 returns -log2(u) of the fraction u = (x+1)/2^64, in units of 2^-32.
// It uses integers only: floating point may differ between processors in the
// last place, and then two nodes would disagree.
func minusLog2(x uint64) uint64 {
	if x++; x == 0 {
		return 0 // u is 1
	}
	zeros := bits.LeadingZeros64(x)
	m := x << zeros // the mantissa, 1 <= m < 2 in units of 2^-63
	var log uint64
	for range 32 {
		hi, lo := bits.Mul64(m, m) // m*m in units of 2^-126
		log <<= 1
		if hi>>63 == 1 { // 2 <= m*m
			log |= 1
			m = hi
		} else {
			m = hi<<1 | lo>>63
		}
	}
	return uint64(zeros+1)<<32 - log
}

// lessProduct tells whether a*b < c*d.
func lessProduct(a, b, c, d uint64) bool {
	h1, l1 := bits.Mul64(a, b)
	h2, l2 := bits.Mul64(c, d)
	return h1 < h2 || h1 == h2 && l1 < l2
}
