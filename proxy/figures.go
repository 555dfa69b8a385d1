package proxy

import (
	"net/netip"
	"time"

	"pen/state"
)

// ServerStats are the figures of one server on this node.
type ServerStats struct {
	Conns    int    // connections that stand or are being made
	Sent     uint64 // bytes read from clients for it
	Received uint64 // bytes read from it
	Attempts uint64 // connects begun
	Failures uint64 // connects that failed
	Mark     state.Time
}

// ClientStats are the figures of one known client on this node.
type ClientStats struct {
	Slot     int // in the client table
	Client   netip.Addr
	Server   int // remembered: an index, or state.None and its like
	Used     state.Time
	Connects uint64
	Sent     uint64 // bytes written to the client
	Received uint64 // bytes read from it
}

// The bits of ConnStats.State, as `connection N` prints them.
const (
	StateConnecting   = 1
	StateConnected    = 2
	StateServerClosed = 4
	StateClientClosed = 8
)

// ConnStats are the figures of one connection.
type ConnStats struct {
	Slot        int
	State       int // bits; 0: the slot is free
	DownFD      int // to the client; -1: none
	UpFD        int // to the server; -1: none
	PendingDown int // bytes read from the server that the client has not taken
	PendingUp   int // bytes read from the client that the server has not taken
	Client      int // slot in the client table; -1: none
	Server      int // index of the server
}

// ServiceStats are the figures of one service on this node.
type ServiceStats struct {
	Current int // index of the server tried last
	Used    int // connection slots in use
	Last    int // the connection slot used last
	Max     int // connection slots there are

	Accepted  uint64
	Refused   map[string]uint64 // clients turned away, by reason
	Failovers uint64            // connections that moved on to another server

	// Recent is the number of decisions that this node has taken and the
	// replicated table does not yet show, RecentAge the age of the oldest.
	Recent    int
	RecentAge time.Duration

	Pipes        int    // in use for splicing, by all services
	Buffers      int    // held for peers that do not read, by all services
	Files        int    // descriptors in use, by all services
	AcceptPauses uint64 // times that accepting had to wait for descriptors or memory
}
