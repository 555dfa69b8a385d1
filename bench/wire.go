package main

import (
	"net/netip"
	"time"
)

// The parent tells a child what to do by one JSON value on its standard input
// and gets one back: from the backend when it listens, from the load generator
// when it has measured. End of input ends a child that waits.

// backendMode is what the backend does with every connection it accepts.
type backendMode string

const (
	echo   backendMode = "echo"   // sends back what it gets
	source backendMode = "source" // sends without end
	sink   backendMode = "sink"   // greets, and throws away what it gets
	packet backendMode = "packet" // sends back the datagrams that it gets
	pages  backendMode = "pages"  // answers requests of HTTP
)

// backendJob is what the parent tells the backend.
type backendJob struct {
	Mode   backendMode
	Listen []netip.AddrPort
}

// ready is the backend's answer.
type ready struct{ Error string }

// loadMode is what the load generator does with its connections.
type loadMode string

const (
	connects  loadMode = "connects"  // connect, one round trip, close, over and over
	roundTrip loadMode = "roundTrip" // round trips on connections that stay
	datagrams loadMode = "datagrams" // the same with sockets of UDP
	requests  loadMode = "requests"  // the same with requests of HTTP
	receive   loadMode = "receive"   // takes all that comes
	send      loadMode = "send"      // sends without end
	hold      loadMode = "hold"      // one round trip each, then keeps them open until end of input

	connectsTLS loadMode = "connectsTLS" // connect, full handshake, one round trip, close, over and over
	receiveTLS  loadMode = "receiveTLS"  // takes all that comes
	holdTLS     loadMode = "holdTLS"     // as hold
)

// secure tells whether the clients talk TLS, which the proxy ends.
func (m loadMode) secure() bool { return m == connectsTLS || m == receiveTLS || m == holdTLS }

// bulk tells whether bytes count, not operations.
func (m loadMode) bulk() bool { return m == receive || m == send || m == receiveTLS }

// holds tells whether connections are kept open when all is done.
func (m loadMode) holds() bool { return m == hold || m == holdTLS }

// loadJob is what the parent tells the load generator.
type loadJob struct {
	Mode   loadMode
	Target netip.AddrPort
	Conns  int // at once
	// Clients is how many source addresses there are, counted up from FirstClient.
	FirstClient netip.Addr
	Clients     int
	// Random draws the source address of each connection; otherwise they take turns.
	Random bool
	Warm   time.Duration // before anything counts
	Time   time.Duration // that counts
	Limit  uint64        // ends after so many operations; 0: by time only
	// Watch are the processes whose CPU time is taken at the very moments at
	// which counting begins and ends.
	Watch []int
}

// outcome is the load generator's answer.
type outcome struct {
	Ops      uint64 // connections or round trips
	Bytes    uint64 // received or sent, in bulk
	Failures uint64
	First    string // what the first failure was
	Took     time.Duration
	CPU      time.Duration // of the watched processes, meanwhile
	P50, P99 time.Duration // of an operation; without meaning in bulk
	Error    string        // why there is nothing else
}

// messageSize is the size of a message in each direction.
const messageSize = 64

// answerMost is how long an answer may be: a message, with the head of HTTP before it
// where there is one.
const answerMost = 512
