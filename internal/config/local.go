package config

import (
	"net/netip"
	"time"
)

// Local are the settings of this process alone. They are never replicated.
// Words and options of kind Local set them.
type Local struct {
	Foreground bool
	AllowExit  bool // -X: the control port may end the process
	ASCII      bool // traffic dumps as text
	// AbortOnError has the process end with a core file when a part of it fails.
	AbortOnError bool
	Debug        int
	Control      string // as given: [host:]port or a path; empty: no control port
	Metrics      string // [host:]port for Prometheus; empty: none
	User         string
	Chroot       string
	PidFile      string
	DataDir      string // empty: the state is kept in memory only
	WebStats     string // HTML status file
	Log          string // request log: a file or HOST:PORT, see NetworkLog
	AccessLog    string // a file, LogToStderr or LogToSyslog
	AccessJSON   bool   // instead of logfmt
	File         string // -F

	// Filed has what files said about settings that matter only at start
	// (control, user, ...): the line, by word. Write saves those and no others:
	// what came from the command line comes from there again.
	Filed map[string]string

	Membership
}

// Membership is which cluster the node belongs to, and how. All of it matters
// only at start.
type Membership struct {
	Cluster    string // its name; empty: a node that stands alone
	ClusterKey string // the file
	Peers      []Peer
	Self       netip.AddrPort // invalid: the peer that has a local address; in a Plan the port is set
	VIPs       []VIP
	Heartbeat  time.Duration // timing; 0: DefaultHeartbeat, see Timing
	Preempt    time.Duration // 0: never
	QuorumLoss string        // hold, fallback; empty: see Fallback
	Gateway    string        // auto, none or an address; empty: auto
	Notify     string        // program to run when this node's part changes
}

// Clustered tells whether the node belongs to a cluster.
func (m Membership) Clustered() bool { return m.Cluster != "" }

// Peer is a node of the cluster.
type Peer struct {
	Addr     netip.AddrPort
	Witness  bool
	Priority int
}

// VIP is a virtual address: the address with the length of its subnet, and the
// interface if it was named.
type VIP struct {
	Prefix netip.Prefix
	Link   string
}

// What counts where a cluster's configuration is silent.
const (
	DefaultClusterPort = 7950
	DefaultHeartbeat   = 200 * time.Millisecond
	DefaultClusterDir  = "/var/lib/pen" // data_dir
)
