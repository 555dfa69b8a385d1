package proxy

import "golang.org/x/sys/unix"

// flowKey is what makes a flow: who sends, and to where. A loop receives all
// datagrams of a flow, so that its table needs no lock.
type flowKey struct {
	client   [16]byte // in the form of IPv6
	local    [16]byte // zero where the listener has one address
	scope    uint32   // of a link-local client
	listener int32
	port     uint32
}

// flow is what a connection has in addition if it carries datagrams.
type flow struct {
	key      flowKey
	name     unix.RawSockaddrInet6 // of the client, as the kernel has it
	size     uint32                // of that
	listener *listener
	crowd    *crowd
	tenant   *tenant
	links    [2]neighbours
	singles  uint8 // datagrams taken one by one, see take
	answered bool  // the server has sent something
	proven   bool  // and the client has sent something after that
}

// The lists that a flow is in, from the one that was used longest ago.
const (
	byUse    = iota // of its crowd
	byClient        // of its tenant
)

type neighbours struct{ older, newer int32 }

// chain is a list of flows by their places.
type chain struct{ oldest, newest int32 }

// crowd are the flows of a service in a loop. Those that prove to be a
// conversation leave later than those that may be one stray datagram with a
// forged sender.
type crowd struct {
	front   *front
	count   int
	chains  [2]chain // those to leave first, and the proven ones
	tenants map[[16]byte]*tenant
}

// tenant is a client's address with the flows that it has.
type tenant struct {
	count int
	flows chain
}

// flows are the flows of a loop. The additional parts lie beside the slab of
// connections, by the same places.
type flows struct {
	table  map[flowKey]int32
	parts  []*[chunkSize]flow
	crowds map[*front]*crowd
}

// at returns the part of the flow at a place that is in use.
func (fs *flows) at(place int32) *flow { return &fs.parts[place/chunkSize][place%chunkSize] }

// talks tells whether the flow at a place is a conversation, and of another client.
func (fs *flows) talks(place int32, client [16]byte) bool {
	fl := fs.at(place)
	return fl.proven && fl.key.client != client
}

// find returns the place of the flow with that key.
func (fs *flows) find(key *flowKey) (int32, bool) {
	place, ok := fs.table[*key]
	return place, ok
}

// crowd returns the flows of f, or nil.
func (fs *flows) crowd(f *front) *crowd { return fs.crowds[f] }

// add makes the connection at a place a flow of f.
func (fs *flows) add(place int32, f *front, key flowKey) *flow {
	if fs.table == nil {
		fs.table, fs.crowds = map[flowKey]int32{}, map[*front]*crowd{}
	}
	for int(place/chunkSize) >= len(fs.parts) {
		fs.parts = append(fs.parts, nil)
	}
	if fs.parts[place/chunkSize] == nil {
		fs.parts[place/chunkSize] = new([chunkSize]flow)
	}
	cr := fs.crowds[f]
	if cr == nil {
		none := chain{noConn, noConn}
		cr = &crowd{front: f, chains: [2]chain{none, none}, tenants: map[[16]byte]*tenant{}}
		fs.crowds[f] = cr
	}
	tn := cr.tenants[key.client]
	if tn == nil {
		tn = &tenant{flows: chain{noConn, noConn}}
		cr.tenants[key.client] = tn
	}
	fl := fs.at(place)
	*fl = flow{key: key, crowd: cr, tenant: tn}
	cr.count++
	tn.count++
	fs.table[key] = place
	fs.append(&cr.chains[0], byUse, place)
	fs.append(&tn.flows, byClient, place)
	return fl
}

// remove forgets the flow at a place.
func (fs *flows) remove(place int32) {
	fl := fs.at(place)
	cr, tn := fl.crowd, fl.tenant
	fs.unlink(fl.chain(), byUse, place)
	fs.unlink(&tn.flows, byClient, place)
	if tn.count--; tn.count == 0 {
		delete(cr.tenants, fl.key.client)
	}
	if cr.count--; cr.count == 0 {
		delete(fs.crowds, cr.front)
	}
	delete(fs.table, fl.key)
	*fl = flow{}
}

// used notes that the client of a flow has sent something.
func (fs *flows) used(place int32) {
	fl := fs.at(place)
	tn := fl.tenant
	if prove := fl.answered && !fl.proven; prove || fl.chain().newest != place {
		fs.unlink(fl.chain(), byUse, place)
		fl.proven = fl.proven || prove
		fs.append(fl.chain(), byUse, place)
	}
	if tn.flows.newest != place {
		fs.unlink(&tn.flows, byClient, place)
		fs.append(&tn.flows, byClient, place)
	}
}

// victim returns the flow that has to leave for one of the client's, if any is
// there: the client's own oldest if he has as many as most, else the oldest of
// those that are no conversation, else the oldest.
func (fs *flows) victim(cr *crowd, client [16]byte, most int) (int32, bool) {
	if cr == nil {
		return 0, false
	}
	if tn := cr.tenants[client]; tn != nil && tn.count >= most {
		return tn.flows.oldest, true
	}
	for i := range cr.chains {
		if place := cr.chains[i].oldest; place != noConn {
			return place, true
		}
	}
	return 0, false
}

// chain returns the list of the crowd that the flow is in.
func (fl *flow) chain() *chain {
	if fl.proven {
		return &fl.crowd.chains[1]
	}
	return &fl.crowd.chains[0]
}

func (fs *flows) append(ch *chain, which int, place int32) {
	links := &fs.at(place).links[which]
	links.older, links.newer = ch.newest, noConn
	if ch.newest != noConn {
		fs.at(ch.newest).links[which].newer = place
	} else {
		ch.oldest = place
	}
	ch.newest = place
}

func (fs *flows) unlink(ch *chain, which int, place int32) {
	links := fs.at(place).links[which]
	if links.older != noConn {
		fs.at(links.older).links[which].newer = links.newer
	} else {
		ch.oldest = links.newer
	}
	if links.newer != noConn {
		fs.at(links.newer).links[which].older = links.older
	} else {
		ch.newest = links.older
	}
}
