package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"pen/state"
)

// maxClusterName is as long as a label of the domain name system.
const maxClusterName = 63

// clusterWords say which cluster this node belongs to. All of them matter only
// when the process starts. `cluster` has another row for the control port.
var clusterWords = []Word{
	member(Word{
		Name: "cluster", Places: InFile | InArgs,
		Args: []Arg{{Name: "NAME", Type: TypeCluster}},
		Help: "name of the cluster that this node belongs to; the same on all nodes",
		set:  func(s *Statement, l *Local) { setIfGiven(s, func(v Value) { l.Cluster = v.Text }) },
	}),
	member(Word{
		Name: "cluster_key",
		Args: []Arg{{Name: "FILE", Type: TypePath}},
		Help: "file with the key, the same on all nodes; pen --genkey makes one",
		more: []string{"a relative path begins beside the file that names it"},
		set:  func(s *Statement, l *Local) { setIfGiven(s, func(v Value) { l.ClusterKey = s.path(v.Text) }) },
		reply: func(_ *Statement, _ *state.View, l *Local) string {
			return line(l.ClusterKey)
		},
	}),
	member(Word{
		Name: "peers",
		Args: []Arg{{Name: "PEER", Type: TypePeers}},
		Help: "the addresses of all nodes, this one's too; the same list on each node",
		more: []string{
			fmt.Sprintf("blanks or commas between them, at most %d; port %d if not said; IPv6 in brackets when something follows", MaxPeers, DefaultClusterPort),
			"of the nodes that could hold the addresses the one with the greatest prio goes first; 0 if not said",
			"a witness votes and never holds an address",
			"a reload takes the list of the file over, too; this node's own address stays",
		},
		set: setPeers,
		reply: func(_ *Statement, _ *state.View, l *Local) string {
			return line(peersText(l.Peers))
		},
	}),
	member(Word{
		Name: "vip", Several: true,
		Args: []Arg{{Name: "ADDRESS", Type: TypeVIP}},
		Help: "address that one node of the cluster holds; each line adds one",
		more: []string{
			"LEN is that of its subnet; without dev the interface is the one that has the subnet",
			"where there is one, a listener with a port alone is on these addresses and on no other",
		},
		set:   addVIP,
		reply: vipReply,
	}),
	member(Word{
		Name: "self",
		Args: []Arg{{Name: "ADDR[:PORT]", Type: TypePeer}},
		Help: "which of the peers this node is, where its addresses do not tell",
		set:  setSelf,
		reply: func(_ *Statement, _ *state.View, l *Local) string {
			if !l.Self.IsValid() {
				return ""
			}
			return line(Peer{Addr: l.Self}.String())
		},
	}),
	member(Word{
		Name: "timing",
		Args: []Arg{{Name: "PACE", Type: TypeEnum, Among: paces()}},
		Help: "after how long without a sign a node is taken for dead: 100, 200, 500 or 1000 ms [lan]",
		more: []string{"the same on all nodes"},
		set:  func(s *Statement, l *Local) { setIfGiven(s, func(v Value) { l.Heartbeat = timingOf(v.Text) }) },
		reply: func(_ *Statement, _ *state.View, l *Local) string {
			return line(paceOf(l.Timing()))
		},
	}),
	member(Word{
		Name: "preempt",
		Args: []Arg{{Name: "never|SECONDS", Type: TypePreempt}},
		Help: "how long a node of a greater prio has to be ready before it takes over [never]",
		more: []string{"a reload takes the one of the file over, too"},
		set: func(s *Statement, l *Local) {
			setIfGiven(s, func(v Value) { l.Preempt = time.Duration(v.Int) * time.Second })
		},
		reply: func(_ *Statement, _ *state.View, l *Local) string {
			if l.Preempt == 0 {
				return line("never")
			}
			return lineInt(int(l.Preempt / time.Second))
		},
	}),
	member(Word{
		Name: "quorum_loss",
		Args: []Arg{{Name: "RULE", Type: TypeEnum, Among: []string{"hold", "fallback"}}},
		Help: "what a node does without a majority of the peers [fallback for two peers, else hold]",
		more: []string{
			"under hold it gives the addresses up, and nobody has them until there is a majority again",
			"under fallback, for two peers only, it goes by what it sees of the other one and of the network: see cluster.md",
		},
		set: func(s *Statement, l *Local) { setIfGiven(s, func(v Value) { l.QuorumLoss = v.Text }) },
		reply: func(_ *Statement, _ *state.View, l *Local) string {
			if l.Fallback() {
				return line("fallback")
			}
			return line("hold")
		},
	}),
	member(Word{
		Name: "gateway",
		Args: []Arg{{Name: "auto|ADDRESS|none", Type: TypeText}},
		Help: "who has to answer if a node of two is to hold the addresses without the other [auto]",
		more: []string{
			"auto is the router of the default route on the interface of the addresses",
			"none asks nobody: then only the carrier tells that the network is there",
		},
		set: func(s *Statement, l *Local) { setIfGiven(s, func(v Value) { l.Gateway = v.Text }) },
		reply: func(_ *Statement, _ *state.View, l *Local) string {
			return line(cmp.Or(l.Gateway, "auto"))
		},
		check: func(s *Statement) *Error {
			if len(s.Args) == 0 || s.Args[0].Text == "auto" || s.Args[0].Text == "none" {
				return nil
			}
			if a, err := netip.ParseAddr(s.Args[0].Text); err == nil && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() {
				return nil
			}
			return &Error{Pos: s.at(0), What: fmt.Sprintf("%q for gateway", s.Args[0].Text), Want: "auto, none, or the address of a router"}
		},
	}),
	member(Word{
		Name: "notify",
		Args: []Arg{{Name: "FILE", Type: TypePath}},
		Help: "program to run when this node's part in the cluster changes",
		more: []string{"run as FILE holder|standby|fault CLUSTER TERM, never by a shell"},
		set:  func(s *Statement, l *Local) { setIfGiven(s, func(v Value) { l.Notify = v.Text }) },
		reply: func(_ *Statement, _ *state.View, l *Local) string {
			return line(l.Notify)
		},
		check: func(s *Statement) *Error {
			if len(s.Args) == 0 || s.Args[0].Text[0] == '/' || filepath.IsAbs(s.Args[0].Text) {
				return nil
			}
			return &Error{Pos: s.at(0), What: fmt.Sprintf("notify: %q is not absolute", s.Args[0].Text), Want: "the whole path of a program"}
		},
	}),
}

// member makes a row one of a cluster's.
func member(w Word) Word {
	w.Kind = KindLocal
	if tell := w.reply; tell != nil {
		// Unlike the original's words these are silent where they are given.
		w.reply = func(s *Statement, v *state.View, l *Local) string {
			if s.place != InControl && len(s.Args) > 0 {
				return ""
			}
			return tell(s, v, l)
		}
	}
	return atStart(w)
}

// clusterWord is `cluster` as the control port understands it.
var clusterWord = Word{
	Name: "cluster", Kind: KindRead, New: true, Places: InControl,
	Args: []Arg{
		{Name: "WHAT", Type: TypeEnum, Among: []string{"json", "digest", "diff", "log", "transfer", "drain", "undrain", "rehearse", "backup", "restore", "remove", "recover", "force"}, Optional: true},
		{Name: "NODE", Type: TypeText, Optional: true},
		{Name: "force|clients", Type: TypeText, Optional: true},
	},
	Help: "tell about the cluster, or act on it",
	more: []string{
		"with json: the same for programs",
		"with digest: sums of what is replicated, equal on nodes that have the same",
		"with transfer: another node takes the addresses, NODE or the best one",
		"with drain: NODE holds no address until undrain",
		"with remove: NODE is taken out of the cluster; with force also when no majority is left then",
		"with recover: after the loss of a majority this node goes on alone; tells what is lost, and asks for the cluster's name as NODE",
		"with force COMMAND: the change COMMAND is made on this node, which holds the address without a quorum, and on the other one when it is back",
		"with diff: the lines that only this node's file has, -, or NODE's, and only the cluster, +",
		"with log: the last changes of settings, a number says how many",
		"with rehearse: the addresses move to NODE and back, and how long nobody answered is measured; with check it only tells the plan",
		"with backup FILE: the settings into a file, and with the word clients the known clients too",
		"with restore FILE: all of that as it was; of another cluster with the word force",
	},
	check: clusterCheck,
}

func clusterCheck(s *Statement) *Error {
	if len(s.Args) == 0 {
		return nil
	}
	switch what := s.Args[0].Text; {
	case (what == "drain" || what == "undrain") && len(s.Args) == 1:
		return &Error{Pos: s.at(0), What: "cluster " + what + " without a node", Want: "its name; the word cluster tells which there are"}
	case what == "remove" && len(s.Args) == 1:
		return &Error{Pos: s.at(0), What: "cluster remove without a node", Want: "its name; the word cluster tells which there are"}
	case what == "force":
		return &Error{Pos: s.at(0), What: "cluster force without a command", Want: "the change to make, as in: cluster force server 0 max 100"}
	case (what == "json" || what == "digest") && len(s.Args) > 1:
		return &Error{Pos: s.at(1), What: fmt.Sprintf("%q is too much for cluster %s", s.Args[1].Text, what), Want: "the end of the line"}
	default:
		return clusterTaskCheck(s, what)
	}
}

// path is a relative path as its text means it.
func (s *Statement) path(text string) string {
	if s.dir == "" || s.dir == "." || filepath.IsAbs(text) {
		return text
	}
	return filepath.Join(s.dir, text)
}

// pace is a word of `timing`.
type pace struct {
	name      string
	heartbeat time.Duration
}

var allPaces = []pace{
	{"fast", 100 * time.Millisecond},
	{"lan", DefaultHeartbeat},
	{"vm", 500 * time.Millisecond},
	{"wan", time.Second},
}

func paces() []string {
	var names []string
	for _, p := range allPaces {
		names = append(names, p.name)
	}
	return names
}

func timingOf(name string) time.Duration {
	for _, p := range allPaces {
		if p.name == name {
			return p.heartbeat
		}
	}
	return 0
}

func paceOf(heartbeat time.Duration) string {
	for _, p := range allPaces {
		if p.heartbeat == heartbeat {
			return p.name
		}
	}
	return heartbeat.String()
}

func parsePreempt(text string) (int, error) {
	if text == "never" {
		return 0, nil
	}
	n, ok := strictInt(text)
	if !ok || n < 1 {
		return 0, fmt.Errorf("%q", text)
	}
	return n, nil
}

func setPeers(s *Statement, l *Local) {
	if len(s.Args) == 0 {
		return
	}
	l.Peers = nil
	for _, v := range s.Args {
		if p, err := parsePeer(v.Text); err == nil {
			l.Peers = append(l.Peers, p)
		}
	}
}

// setSelf leaves the port open where it was not given: it is that of the peer.
func setSelf(s *Statement, l *Local) {
	setIfGiven(s, func(v Value) {
		if p, err := splitPeer(v.Text); err == nil {
			l.Self = p.addr()
		}
	})
}

func addVIP(s *Statement, l *Local) {
	if v, err := parseVIP(s.texts(0)); err == nil {
		l.VIPs = append(l.VIPs[:len(l.VIPs):len(l.VIPs)], v) // others may have the array
	}
}

func vipReply(s *Statement, _ *state.View, l *Local) string {
	if len(s.Args) > 0 {
		return line(strings.Join(s.texts(0), " "))
	}
	var b strings.Builder
	for _, v := range l.VIPs {
		b.WriteString(v.String() + "\n")
	}
	return b.String()
}
