package cluster

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// ordinalShift is where the count of a generation begins. What is below is random.
const ordinalShift = 32

// nextGeneration is the generation that a recovery begins: greater than the one of
// before, and another one than any other node's recovery begins at the same time.
// Two logs that went their own ways in one generation would be taken for one.
func nextGeneration(now uint64) uint64 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never returns an error
	return (ordinal(now)+1)<<ordinalShift | uint64(binary.BigEndian.Uint32(b[:]))
}

// ordinal is a generation as people count: 1 as it was formed, and one more by each
// recovery.
func ordinal(generation uint64) uint64 {
	if n := generation >> ordinalShift; n > 0 {
		return n
	}
	return generation
}

// generations says what is to be done about a peer of another generation. It is
// for both ends, each in its own words. Of two recoveries that knew nothing of each
// other the greater one counts, so that both ends say the same.
func (h Hello) generations(peer Hello) string {
	ours, theirs := ordinal(h.Generation), ordinal(peer.Generation)
	behind := h.Generation < peer.Generation
	switch {
	case ours == theirs && behind:
		return fmt.Sprintf("the cluster was recovered on two nodes, and that one counts; stop pen here, remove %s, start it again", wipe)
	case ours == theirs:
		return fmt.Sprintf("the cluster was recovered on two nodes, and this one counts; stop pen there, remove %s, start it again", wipe)
	case behind:
		return fmt.Sprintf("generation %d here, %d there: the cluster was recovered without this node; stop pen here, remove %s, start it again", ours, theirs, wipe)
	}
	return fmt.Sprintf("generation %d here, %d there: it is from before the cluster was recovered; stop pen there, remove %s, start it again", ours, theirs, wipe)
}
