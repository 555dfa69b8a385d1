package proxy

// slab holds the connections of a loop. They never move, so that pointers into
// it stay good, and a place that is given back is the next to be used.
type slab struct {
	chunks []*[chunkSize]conn
	free   int32 // first of the free places, chained through next; noConn: none
	used   int
}

const (
	chunkSize = 128 // chunks of 18 KiB, which the allocator gives without a rest
	noConn    = -1
)

// at returns the connection at a place, free or not; nil if there is no such place.
func (s *slab) at(i int32) *conn {
	if i < 0 || int(i) >= len(s.chunks)*chunkSize {
		return nil
	}
	return &s.chunks[i/chunkSize][i%chunkSize]
}

// take returns an unused connection. All of it is zero but its place and the
// generations of its descriptors.
func (s *slab) take() *conn {
	if s.free == noConn {
		s.grow()
	}
	c := s.at(s.free)
	s.free = c.next
	s.used++
	c.next = noConn
	return c
}

func (s *slab) grow() {
	first := int32(len(s.chunks) * chunkSize)
	chunk := new([chunkSize]conn)
	s.chunks = append(s.chunks, chunk)
	for i := range chunk {
		chunk[i].place = first + int32(i)
		chunk[i].next = first + int32(i) + 1
	}
	chunk[chunkSize-1].next = s.free
	s.free = first
}

// give takes a connection back and forgets all about it.
func (s *slab) give(c *conn) {
	*c = conn{
		place: c.place,
		half:  [2]half{{gen: c.half[clientSide].gen}, {gen: c.half[serverSide].gen}},
		next:  s.free,
	}
	s.free = c.place
	s.used--
}

// all calls f for each connection in use. f may give the connection back.
func (s *slab) all(f func(*conn)) {
	for _, chunk := range s.chunks {
		for i := range chunk {
			if chunk[i].phase != phaseFree {
				f(&chunk[i])
			}
		}
	}
}
