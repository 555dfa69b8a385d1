package state

import (
	"crypto/sha256"
	"net/netip"
)

// opcode numbers the operations in their encoding. A number is never reused.
type opcode uint8

// AddService makes a service with default settings. It is no error if it is
// there already.
type AddService struct{ Service string }

// RemoveService removes a service and its client table. The default service is
// emptied instead: it always exists.
type RemoveService struct{ Service string }

// Set gives a setting of a service, or a global one, a new value.
type Set struct {
	Service string // ignored for global options
	Option  Option
	Value   Value
}

// ServerFields says which fields of a SetServer count.
type ServerFields uint16

// The fields.
const (
	FieldAddress ServerFields = 1 << iota
	FieldPort
	FieldSoft
	FieldHard
	FieldWeight
	FieldPrio
	FieldACL
	FieldMark
	FieldACLName
)

// SetServer changes the named fields of a slot. A slot beyond the list makes it
// longer; Emergency and Abuse come into being when they are first set.
type SetServer struct {
	Service string
	Index   int
	Fields  ServerFields
	Server  Server
}

// RemoveServer takes a server away: the last slot goes, one in the middle
// becomes a hole so that the others keep their numbers.
type RemoveServer struct {
	Service string
	Index   int
}

// Fail marks a server as failed at the time that the sender saw it fail, by the
// sender's clock: so he knows his own news again when it comes back to him, even
// if the state's time is ahead of his. A later mark stays. It does nothing if the
// slot no longer holds that address: the news is about another server.
type Fail struct {
	Service string
	Index   int
	Was     Address
	Port    uint16
	Mark    Time
}

// Recover takes the mark away, if the slot still holds that address and the
// mark is still the one that the sender saw.
type Recover struct {
	Service string
	Index   int
	Was     Address
	Port    uint16
	Mark    Time
}

// AppendACL adds an entry to the end of a list.
type AppendACL struct {
	List  int
	Entry ACLEntry
}

// ClearACL empties a list.
type ClearACL struct{ List int }

// Visits records clients of a service, in the order in which they came.
type Visits struct {
	Service uint32 // ID: a service that was removed and made anew has no part in it
	Clients []Visit
}

// Visit is one client's latest choice.
type Visit struct {
	Client netip.Addr // unmapped; invalid stands for all clients on Unix sockets
	// Server is the index to remember, or Keep.
	Server int
	// Ago is how long before the command's time the client came, in seconds.
	Ago uint32
}

// Keep as Visit.Server leaves what is remembered as it is.
const Keep = -4

// SeedWith remembers the settings that files gave, so that a later start can
// tell what changed in them. The bytes are an encoded Command.
type SeedWith struct{ Seed []byte }

// Seeded lets a command happen only if the seed is the one with that sum, see
// View.SeedSum. What was merged with another one would undo what has come since.
type Seeded struct{ Sum [sha256.Size]byte }

// Move gives a server the address that its name has now. It does nothing if the
// slot no longer holds the name and the address that the sender saw: somebody has
// changed it meanwhile. A mark goes, since it was about the old address.
type Move struct {
	Service string
	Index   int
	Was     Address
	To      netip.Addr
}

// The numbers of the operations.
const (
	opAddService opcode = iota + 1
	opRemoveService
	opSet
	opSetServer
	opRemoveServer
	opFail
	opRecover
	opAppendACL
	opClearACL
	opVisits
	opSeedWith
	opRequest
	opSetNode
	opSeeded
	opSetLevel
	opSetClients
	opStamp
	opRotateTickets
	opAppendNamedACL
	opRemoveNamedACL
	opMove
)

func (AddService) op() opcode    { return opAddService }
func (RemoveService) op() opcode { return opRemoveService }
func (Set) op() opcode           { return opSet }
func (SetServer) op() opcode     { return opSetServer }
func (RemoveServer) op() opcode  { return opRemoveServer }
func (Fail) op() opcode          { return opFail }
func (Recover) op() opcode       { return opRecover }
func (AppendACL) op() opcode     { return opAppendACL }
func (ClearACL) op() opcode      { return opClearACL }
func (Visits) op() opcode        { return opVisits }
func (SeedWith) op() opcode      { return opSeedWith }
func (Seeded) op() opcode        { return opSeeded }
func (Move) op() opcode          { return opMove }
