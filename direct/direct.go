// Package direct forwards what comes for an address to servers on the same segment
// of network, who have the address too and answer the client themselves: direct server
// return. A frame gets the MAC of a server and is sent out again, otherwise unchanged,
// so that the server sees the client and answers never come by here.
//
// It promises that a client goes to the server that the caller's choice names, for
// as long as that does not change; that nothing is sent on unless the caller allows it at
// that moment; and that what strangers send changes nothing but the places of the
// servers, which are found by asking, as any host finds its neighbours. It keeps no
// connections, so there is nothing that could be lost or filled.
//
// It can also answer for addresses that nobody has, and keep those waiting who connect to
// them: the tarpit.
//
// It does not choose servers, and it does not know who may serve: both are for
// others. Only Linux can do it.
package direct

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"
)

// Auto as the interface of a service means the one that has a subnet with its address.
const Auto = "auto"

// A Service is what comes for some addresses, and where it goes.
type Service struct {
	Name  string
	Link  string // the interface, or Auto
	Addrs []netip.Addr
	Port  uint16 // 0: every port
	UDP   bool   // or else TCP
	// Servers are the addresses of all servers; what is invalid is none.
	Servers []netip.Addr
	// Choose makes the choice among the servers that can be reached. What it
	// depended on beside that may change at the time it returns; zero: never. It is
	// called again then, when servers come and go, and after each Configure. It
	// may be called by any goroutine, one at a time.
	Choose func(reachable func(server int) bool) (Choice, time.Time)
	// Tarpit tells whether an address that nobody has shall seem to be there; nil:
	// none does. It must be quick and may be called by any goroutine.
	Tarpit func(netip.Addr) bool
	// Kernel: that of this machine has the addresses and answers for them. Else we do.
	Kernel bool
}

// A Choice says which server a client gets: an index of Servers, Nobody or Denied.
// It must be quick and is called by several goroutines at once.
type Choice interface {
	Server(client netip.Addr, port uint16) int
}

// Where a client goes that gets no server.
const (
	Nobody = -1 // there is none for it
	Denied = -2 // it may not have any
)

// Options are what a Forwarder is made from. The zero value works.
type Options struct {
	Log *slog.Logger // nil: nowhere
	// Allowed tells, at this moment, whether packets may be sent on and whether
	// anybody may be told where an address is; nil: always. It is asked between
	// receiving and sending, so it must be quick.
	Allowed func() (packets, answers bool)
}

// Counters are what a service has done on this node.
type Counters struct {
	Packets, Bytes uint64 // sent on
	Denied         uint64 // packets of clients that may not
	Nobody         uint64 // packets for which there was no server that can be reached
	Reports        uint64 // ICMP errors sent on, which are in Packets too
	Servers        []ServerCounters
}

// ServerCounters are those of one server.
type ServerCounters struct {
	Packets, Bytes uint64
	Reachable      bool
}

// Totals are counted for all services together.
type Totals struct {
	Answers   uint64 // ARP and neighbour answers for addresses of services
	Trapped   uint64 // connections that the tarpit has accepted
	Lured     uint64 // ARP and neighbour answers of the tarpit
	Spared    uint64 // answers of the tarpit that were too many
	Pieces    uint64 // pieces of datagrams that came without their first
	Broken    uint64 // packets that are not what they say
	Standby   uint64 // packets that came while nothing may be sent on
	Dropped   uint64 // packets that could not be sent on
	Overflows uint64 // packets that the kernel dropped because we were too slow
	Returned  uint64 // packets that a server has sent here, and would get again
}

type totals struct {
	answers, trapped, lured, spared, pieces, broken, standby, dropped, overflows, returned atomic.Uint64
}

func (t *totals) read() Totals {
	return Totals{
		Answers: t.answers.Load(), Trapped: t.trapped.Load(), Lured: t.lured.Load(), Spared: t.spared.Load(),
		Pieces: t.pieces.Load(), Broken: t.broken.Load(), Standby: t.standby.Load(), Dropped: t.dropped.Load(),
		Overflows: t.overflows.Load(), Returned: t.returned.Load(),
	}
}

// ErrCapability says that this process may not have packet sockets. Errors of Check
// and Forwarder.Err wrap it.
var ErrCapability = errors.New("needs the capability CAP_NET_RAW: run as root, or let the service manager give it (AmbientCapabilities=CAP_NET_RAW)")

var mute = slog.New(slog.DiscardHandler)
