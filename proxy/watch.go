package proxy

import (
	"crypto/tls"
	"net/netip"
	"sync/atomic"
	"time"

	"pen/state"
)

// Watch is who is told what passes. A function that is nil is nobody, and costs
// nothing. They are called by those who move bytes, many at once: they return at
// once, call nothing of the Proxy, and keep nothing that they are given.
type Watch struct {
	Request func(*Request) // of what one read from a client gave
	Visit   func(*Visit)   // of a connection or a flow, when it is over
}

// Request is data that a client sent and a server gets.
type Request struct {
	At     time.Time
	Client netip.Addr // invalid: on a Unix socket
	Server netip.Addr // invalid: on a Unix socket
	Path   string     // of that
	Data   []byte     // RequestMost bytes at most
}

// RequestMost is how much of the data a Request has.
const RequestMost = 1024

// Visit is a client's connection, or a flow of datagrams, that is over.
type Visit struct {
	Service    string
	Protocol   state.Protocol
	Client     netip.AddrPort // the address is invalid for a Unix socket
	Server     int            // index, or state.None and its like
	Backend    netip.AddrPort // invalid: none, or on a Unix socket
	Path       string         // of that
	Cause      Cause
	Remembered bool // the client was known, and the server is the one he had
	Failovers  int  // servers that he did not get before

	Began    time.Time
	Connect  time.Duration // until the server answered the connect; 0: it did not
	First    time.Duration // until the server's first byte; 0: there was none
	Total    time.Duration
	Received uint64 // bytes from the client
	Sent     uint64 // bytes to the client

	TLS *Secured // nil: plain, or the handshake did not come that far
}

// Secured is what a client's TLS came to.
type Secured struct {
	Version  uint16
	Suite    uint16
	Name     string // that the client asked for
	Protocol string // agreed by ALPN
	Resumed  bool
}

// secured returns what is known of a connection's TLS.
func secured(s tls.ConnectionState) *Secured {
	return &Secured{Version: s.Version, Suite: s.CipherSuite, Name: s.ServerName, Protocol: s.NegotiatedProtocol, Resumed: s.DidResume}
}

// Cause is why a connection or a flow ended.
type Cause uint8

// The causes.
const (
	causeUnsaid       Cause = iota // see the connection
	ClientClosed                   // both streams have ended, the client's first
	ServerClosed                   // the server's first
	ClientReset                    // the client broke it off, or takes nothing any more
	ServerReset                    // the server did
	ClientLeft                     // before a server had answered
	Idle                           // idle_timeout
	NoServer                       // none could be tried: failed before, denied, or none there
	ConnectFailed                  // all that were tried failed
	ServersFull                    // all that could be tried have as many connections as they may
	ClientDenied                   // by client_acl
	NoAbuseServer                  // by client_acl, and the abuse server could not be had
	NoPort                         // this node had no local port
	NoResources                    // this node had no descriptors or no memory
	HandshakeFailed                // of TLS
	HandshakeTimeout               // took too long
	HandshakeCrowded               // took too long for the number of those who waited
	NoCertificate                  // this node has none
	HeaderFailed                   // no PROXY header, or a bad one
	HeaderTimeout                  // it took too long
	HeaderCrowded                  // too many waited for theirs
	BadRequest                     // of HTTP
	RequestTimeout                 // its head took too long
	RequestCrowded                 // took too long for the number of those who waited
	NodeStandsBy                   // the addresses have gone to another node
	ClosedByOperator               // the word close
	ShutDown                       // this process ended
	ServerUnreachable              // of a flow: an ICMP message said so
	Moved                          // of a flow: its server is not wanted any more
	Evicted                        // of a flow: it was left for others who needed a place
	ListenerClosed                 // of a flow
	causes
)

// String is the cause's name in the access log.
func (c Cause) String() string { return causeNames[c] }

var causeNames = [causes]string{
	causeUnsaid: "unknown", ClientClosed: "client_closed", ServerClosed: "server_closed", ClientReset: "client_reset",
	ServerReset: "server_reset", ClientLeft: "client_left", Idle: "idle", NoServer: "no_server", ConnectFailed: "connect_failed",
	ServersFull: "servers_full", ClientDenied: "denied", NoAbuseServer: "no_abuse_server", NoPort: "no_port", NoResources: "no_resources",
	HandshakeFailed: "tls_handshake", HandshakeTimeout: "tls_timeout", HandshakeCrowded: "tls_crowded", NoCertificate: "tls_certificate",
	HeaderFailed: "proxy_header", HeaderTimeout: "proxy_timeout", HeaderCrowded: "proxy_crowded",
	BadRequest: "bad_request", RequestTimeout: "http_timeout", RequestCrowded: "http_crowded",
	NodeStandsBy: "standby", ClosedByOperator: "operator", ShutDown: "shutdown", ServerUnreachable: "server_unreachable",
	Moved: "moved", Evicted: "evicted", ListenerClosed: "listener_closed",
}

// cause is why a client without a server was sent away.
func (t *trial) cause() Cause {
	switch {
	case t.why == refusedACL:
		return ClientDenied
	case t.why == refusedAbuse:
		return NoAbuseServer
	case t.why == refusedPorts:
		return NoPort
	case t.tries > 0:
		return ConnectFailed
	case t.full:
		return ServersFull
	}
	return NoServer
}

// cause is why a client did not come through the handshake, or to it.
func (s spurned) cause() Cause {
	return [...]Cause{
		spurnedFault: HandshakeFailed, spurnedTime: HandshakeTimeout, spurnedCrowd: HandshakeCrowded, spurnedFiles: NoCertificate,
		spurnedHeader: HeaderFailed, spurnedHeaderTime: HeaderTimeout, spurnedHeaderCrowd: HeaderCrowded,
	}[s]
}

// account is what a visit needs to be told of beside its connection. It is kept
// only while somebody is told.
type account struct {
	began            time.Time
	connected, first time.Duration // since then; 0: never
	received, sent   uint64
	cause            Cause
	protocol         state.Protocol // of the service when it began
	port             uint16         // the client's
}

// since is a duration that is not 0.
func (a *account) since(now time.Time) time.Duration { return max(now.Sub(a.began), 1) }

// visit fills in what is known at the end. v may be nil.
func (a *account) visit(to *Visit, f *front, client netip.Addr, v *server, t *trial, now time.Time) {
	*to = Visit{
		Service: f.name, Protocol: a.protocol, Client: netip.AddrPortFrom(bare(client), a.port), Server: state.None,
		Cause: a.cause, Failovers: max(0, int(t.tries)-1),
		Began: a.began, Connect: a.connected, First: a.first, Total: now.Sub(a.began), Received: a.received, Sent: a.sent,
	}
	if v != nil {
		to.Server, to.Backend, to.Path = v.index, v.addr, v.path
		to.Remembered = t.sticky && t.tries == 1
	}
}

// watching is who is told now; never nil.
func (o *Options) watching() *Watch {
	if o.watch == nil {
		return &nobody
	}
	return o.watch.Load()
}

var nobody Watch

func newWatching() *atomic.Pointer[Watch] {
	w := new(atomic.Pointer[Watch])
	w.Store(&nobody)
	return w
}

// Watch tells w from now on, and nobody else. Of a connection that had begun before
// somebody was told of visits, nobody is.
func (p *Proxy) Watch(w Watch) { p.opts.watch.Store(&w) }
