package state

import (
	"net/netip"
	"strings"
)

// Protocol is what a service carries.
type Protocol uint8

// The protocols.
const (
	TCP Protocol = iota
	UDP
)

// Hash is how `hash` spreads clients that are not yet known.
type Hash uint8

// The hashes.
const (
	HashOff    Hash = iota
	HashOn          // rendezvous over the usable servers, weighted: the same on each node
	HashCompat      // the original's formula
)

// Fastclose says which side's end of stream closes both sides.
type Fastclose uint8

// The values of tcp_fastclose.
const (
	FastcloseOff  Fastclose = 0
	FastcloseUp   Fastclose = 1 // the server's
	FastcloseDown Fastclose = 2 // the client's
	FastcloseBoth Fastclose = FastcloseUp | FastcloseDown
)

// Listen is where a service waits for its clients.
type Listen struct {
	Text string // as the operator wrote it; empty: not listening
	// Addr is what Text stands for; invalid for a Unix socket. The unspecified
	// IPv6 address takes IPv4 clients too.
	Addr netip.AddrPort
}

// Path returns the path of a Unix socket, or nothing.
func (l Listen) Path() string {
	if strings.Contains(l.Text, "/") {
		return l.Text
	}
	return ""
}

// Bare tells whether only a port was given. Where there are virtual addresses
// it is meant on each of them and on no other.
func (l Listen) Bare() bool { return l.Text != "" && !strings.ContainsAny(l.Text, "/:.") }

// Settings are the scalar settings of one service. Times are in seconds.
type Settings struct {
	Listen      Listen
	Protocol    Protocol
	RoundRobin  bool // without memory of clients
	Hash        Hash
	Weight      bool
	Prio        bool
	Stubborn    bool // no failover
	Timeout     int  // for a connect to a server
	Blacklist   int  // how long a failed server is shunned; <= 0: never
	Tracking    int  // how long a client is remembered; <= 0: for ever
	ClientsMax  int  // slots of the client table; clients beyond are forgotten when it shrinks
	ConnMax     int  // connections at once
	PendingMax  int  // connects under way at once
	AcceptMax   int  // clients accepted in one go
	Backlog     int  // of the listener
	Idle        int  // close connections without traffic after so long; 0: never
	ClientACL   List // who may use the service
	Fastclose   Fastclose
	NoDelay     bool
	Keepalive   bool       // on connections to servers
	Source      netip.Addr // local address of connections to servers; invalid: the kernel's choice
	Transparent bool       // that address is the client's, if there is no Source
	TLS         TLS
	ProxyOut    ProxyHeader // what servers are told about the client before his first byte
	ProxyIn     List        // those who say for whom they come, and have to; number NoList: nobody
	Resolve     int         // how often servers' names are looked up again; 0: when they are given
	// DirectLink is the interface on which packets go on to servers that answer clients
	// themselves, or "auto"; empty: clients are connected.
	DirectLink string
	Tarpit     List // addresses that nobody has and that seem to be there; number NoList: none
	HTTP       HTTP
	Dummy      bool // clients get the test page instead of a server
	Idlers     int  // connections to servers that are kept open for nobody; <= 0: none
}

// ProxyHeader is a version of the PROXY protocol.
type ProxyHeader uint8

// The values of proxy_out.
const (
	ProxyOff ProxyHeader = iota
	ProxyV1
	ProxyV2
)

// NoList stands for no access list where a setting names one.
const NoList = -1

// HTTP says what becomes of the heads of HTTP requests.
type HTTP struct {
	Heads     bool // they are read, and tell servers about clients
	Forwarded Forwarded
}

// Forwarded says what becomes of what clients send in the headers that tell servers
// about them.
type Forwarded uint8

// The values of http_forwarded.
const (
	ForwardedRemove Forwarded = iota // it is taken out
	ForwardedAppend                  // the address is put to the list, the protocol stays
	ForwardedKeep                    // it stays, and nothing is added to it
)

// ClientCertificate says whether a client has to show one.
type ClientCertificate uint8

// The values of ssl_client_certificate.
const (
	ClientCertificateOff      ClientCertificate = iota // none is asked for
	ClientCertificateRequest                           // who shows one shows a good one
	ClientCertificateRequired                          // who shows none is sent away
)

// TLSVersions says which versions of TLS are spoken.
type TLSVersions uint8

// The values of ssl_option.
const (
	TLSAny   TLSVersions = iota // 1.2 and 1.3
	TLSNot12                    // 1.3 alone
	TLSNot13                    // 1.2 alone
)

// TLS says how clients of a service are talked to over TLS. Files are named, not
// kept: each node has its own under the same names.
type TLS struct {
	Certificate string // PEM, the server's first; empty: no TLS
	Key         string // empty: in the file of the certificate
	CAFile      string // authorities that clients' certificates may come from
	CAPath      string // a directory of such
	Client      ClientCertificate
	Ciphers     string // for TLS 1.2, in OpenSSL's language; empty: all that are good
	Versions    TLSVersions
	OCSP        string // a response to staple; empty: none
	SNIPath     string // a directory of certificates by name; empty: one for all
}

// Global are the settings that belong to no service.
type Global struct {
	ControlACL   List   // who may use a control port that is not a Unix socket
	DrainTimeout int    // how long SIGTERM lets connections finish, in seconds
	GeoIPDB      string // a database of countries by address; each node has its own under that name; empty: none
}

// Defaults are the settings of a new service.
func Defaults() Settings {
	return Settings{
		Timeout: 3, Blacklist: 30, ClientsMax: 2048, ConnMax: 500, PendingMax: 100,
		AcceptMax: 100, Backlog: 500, NoDelay: true, ProxyIn: Numbered(NoList), Tarpit: Numbered(NoList),
	}
}
