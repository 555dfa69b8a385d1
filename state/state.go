// Package state is what every node of a cluster knows alike: services and their
// servers, settings, access lists, marks of failed servers and the tables of
// known clients.
//
// It is a pure machine. The same commands in the same order give the same state
// on every node and in every replay: there is no clock, no randomness, no map
// order and no I/O in here. Time is a field of the command. A command that is
// broken or unknown gives an error result and changes nothing; a command is
// applied whole or not at all.
//
// What only one node can know is left out: open connections and traffic
// counters belong to the node that carries the traffic.
package state

import (
	"fmt"
	"net/netip"
	"time"
)

// Time is a moment in milliseconds since the Unix epoch. Zero means never.
type Time int64

// At converts t; the machine itself never asks for the time.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Time converts back, in local time as package time does.
func (t Time) Time() time.Time { return time.UnixMilli(int64(t)) }

// Server indexes that stand for no regular server. They are what the original
// prints as "last server" of a client.
const (
	Emergency = -1 // the emergency server of the service
	Abuse     = -2 // the abuse server of the service
	None      = -3 // no server
)

// DefaultService is the service that bare commands are about. It always exists
// and is always the first.
const DefaultService = "default"

// Bounds of the state. A command that would go beyond one is refused with an
// error that names it.
const (
	MaxServices   = 256
	MaxServers    = 4096      // of one service
	MaxACLEntries = 100_000   // of one list
	MaxNamedACLs  = 64        // access lists with a name
	MaxClients    = 4_000_000 // of one service
	MaxText       = 4096      // bytes of any single text
	ACLs          = 10        // access lists, numbered from 0
)

// Address is where a server is reached: a TCP or UDP address, or the path of a
// Unix socket.
type Address struct {
	// Host is what the operator wrote: a name, a literal address without
	// brackets, or a path. It is what `write` saves.
	Host string
	// IP is what Host stands for, unmapped. It is invalid for a path, and for a
	// slot that has no address yet. The unspecified address retires a server.
	IP netip.Addr
}

// Path tells whether the address is a Unix socket.
func (a Address) Path() bool { return len(a.Host) > 0 && a.Host[0] == '/' }

// Server is one slot of a service's list of servers.
type Server struct {
	Address
	Port   uint16 // 0: not usable (a Unix socket ignores it)
	Soft   int    // connections for clients that are new to the server; 0: no limit
	Hard   int    // connections for clients that it already has
	Weight int
	Prio   int
	ACL    List // access list of the server; for numbers outside 0..9 see (*View).Permits
	// Mark is the time of the last failure that has not been followed by a
	// success. It may lie in the future: `server N blacklist T` sets it so that
	// the server is shunned for T seconds from then.
	Mark Time
}

// Usable tells whether the slot names a server at all: an address that is not
// the unspecified one, and a port.
func (s *Server) Usable() bool {
	return s.Path() || (s.IP.IsValid() && !s.IP.IsUnspecified() && s.Port != 0)
}

// Shunned tells whether a failure is recent enough that the server is left
// alone, with shun as the blacklist time of the service. Zero or less never
// shuns.
func (s *Server) Shunned(now Time, shun int) bool { return shunned(s.Mark, now, shun) }

func shunned(mark, now Time, seconds int) bool {
	return mark != 0 && seconds > 0 && now-mark < Time(seconds)*1000
}

// Service is a listener with everything that decides where its clients go.
// A Service in a View is immutable, but for the client table behind it.
type Service struct {
	Name string
	// ID is unique among all services that ever were in this state.
	ID uint32
	Settings
	Servers   []Server
	Emergency *Server // nil: none
	Abuse     *Server // nil: none

	clients *Table
}

// Server returns the slot with that index, Emergency and Abuse included, or nil.
func (s *Service) Server(i int) *Server {
	switch {
	case i == Emergency:
		return s.Emergency
	case i == Abuse:
		return s.Abuse
	case i >= 0 && i < len(s.Servers):
		return &s.Servers[i]
	}
	return nil
}

// Clients is the live table of the service's known clients. It goes on changing
// while the view that led to it does not.
func (s *Service) Clients() *Table { return s.clients }

// View is the state at one moment, as far as it is small. It never changes; a
// command that changes anything in it makes a new one.
type View struct {
	Index    uint64 // commands applied so far
	Time     Time   // logical time: the largest that any command has carried
	Services []*Service
	ACL      [ACLs]ACL
	Named    []NamedACL // in the order of their names
	Global   Global
	Seed     []byte // the settings last seeded from files, see SeedWith

	tickets  []TicketKey // the newest first
	next     uint32      // ID of the next new service
	drained  []string    // ids of nodes, in order
	requests []outcome   // the last ones, the newest last
	level    Level       // see Level
	changes  []Change    // see Changes
}

// Service returns the service of that name, or nil. The empty name means
// DefaultService.
func (v *View) Service(name string) *Service {
	if name == "" {
		name = DefaultService
	}
	for _, s := range v.Services {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Command is one change of the state, and what the log carries.
type Command struct {
	// Time is the proposer's clock. The machine's time never runs backwards: it
	// becomes the larger of the two.
	Time Time
	// By says who asked, for the record: "control 127.0.0.1:4711", "reload".
	By string
	// Ops are applied in order, all of them or none.
	Ops []Op
}

// Op is one step of a command. The types in ops.go are all there are.
type Op interface {
	fmt.Stringer
	op() opcode
}

// Result is what became of a command.
type Result struct {
	Index uint64 // number of the command in the log of this machine
	Err   error  // why nothing was changed
}
