package config

import (
	"cmp"
	"slices"

	"pen/state"
)

// table is all words, by name; byName finds them. A name may have two rows: one
// for the control port, and one for where settings stand.
var (
	table  []*Word
	byName map[string][]*Word
)

// The rows refer to functions that refer to the table, so it is filled here.
func init() {
	for _, rows := range [][]Word{selectionWords, trafficWords, proxyWords, tlsWords, httpWords, directWords, serverWords, listWords, processWords, logWords, clusterWords, askingWords, missingWords} {
		for i := range rows {
			table = append(table, &rows[i])
		}
	}
	slices.SortStableFunc(table, func(a, b *Word) int { return cmp.Compare(a.Name, b.Name) })
	byName = make(map[string][]*Word, len(table))
	for _, w := range table {
		if w.Places == 0 {
			w.Places = Anywhere
		}
		for _, other := range byName[w.Name] {
			if other.Places&w.Places != 0 {
				panic("config: two words " + w.Name)
			}
		}
		byName[w.Name] = append(byName[w.Name], w)
	}
}

// selectionWords say which server a client gets.
var selectionWords = []Word{
	onOff(state.OptRoundRobin, "choose a server for each connection, without memory of clients"),
	onOff(state.OptWeight, "first choice by weight and open connections"),
	onOff(state.OptPrio, "first choice by priority, smallest first"),
	onOff(state.OptStubborn, "close the connection when the first choice is not available"),
	{
		Name: "hash", Kind: KindReplicated, No: true, Bare: true, PerService: true,
		Args: []Arg{{Name: "compat", Type: TypeEnum, Among: []string{"compat"}, Optional: true}},
		Help: "first choice by a hash of the client's address; compat: the original's formula",
		ops:  hashOps,
	},
	number(state.OptBlacklist, seconds(minInt), "how long a failed server is left alone; 0: not at all"),
	number(state.OptTimeout, seconds(minInt), "how long a server may take to accept a connection"),
	number(state.OptTracking, seconds(minInt), "how long a client is remembered; 0: for ever"),
	growing(state.OptClientsMax, bounded(number(state.OptClientsMax, count(1, state.MaxClients), "clients to remember; only grows while pen runs"))),
	listWord(state.OptClientACL, state.OptClientList, "access list that says who may use the service"),
}

// trafficWords say how connections are treated.
var trafficWords = []Word{
	{
		Name: "listen", Kind: KindReplicated, PerService: true,
		Args:  []Arg{{Name: "[HOST:]PORT|PATH", Type: TypeListen}},
		Help:  "where clients are waited for",
		ops:   listenOps,
		reply: func(s *Statement, v *state.View, _ *Local) string { return line(settings(s, v).Listen.Text) },
	},
	{
		Name: "protocol", Kind: KindReplicated, PerService: true, New: true,
		Args: []Arg{{Name: "PROTOCOL", Type: TypeEnum, Among: []string{"tcp", "udp"}}},
		Help: "what the service carries",
		ops:  protocolOps,
		reply: func(s *Statement, v *state.View, _ *Local) string {
			return line(protocols[settings(s, v).Protocol])
		},
	},
	growing(state.OptConnMax, bounded(number(state.OptConnMax, count(1, maxConns), "connections, or flows of UDP, at once; only grows while pen runs"))),
	silent(number(state.OptPendingMax, count(1, maxInt), "connects to servers under way at once")),
	ours(number(state.OptAcceptMax, count(1, maxInt), "clients accepted in one go (option -m)")),
	ours(number(state.OptBacklog, count(50, maxInt), "clients that wait to be accepted (option -q)")),
	idleWord(number(state.OptIdle, seconds(0), "close connections without traffic after so long; 0: never, flows of UDP after 60 s")),
	{
		Name: "tcp_fastclose", Kind: KindReplicated, PerService: true,
		Args:   []Arg{{Name: "SIDE", Type: TypeEnum, Among: fastcloses}},
		Help:   "whose end of stream closes both sides",
		ops:    fastcloseOps,
		refuse: fastcloseRefuse,
	},
	onOff(state.OptDummy, "answer each client with a test page, without any server"),
	idlersWord(number(state.OptIdlers, count(minInt, maxInt), "connections to servers that are kept open for no client")),
	onOff(state.OptNoDelay, "send small pieces at once (TCP_NODELAY)"),
	onOff(state.OptKeepalive, "let the kernel probe idle connections to servers (SO_KEEPALIVE)"),
	onOff(state.OptTransparent, "connect to servers from the client's address"),
	{
		Name: "source", Kind: KindReplicated, No: true, PerService: true,
		Args:   []Arg{{Name: "ADDRESS", Type: TypeHost}},
		Help:   "local address of connections to servers",
		ops:    sourceOps,
		refuse: sourceRefuse,
	},
}

// serverWords are about services and their servers.
var serverWords = []Word{
	{
		Name: "service", Kind: KindReplicated, No: true, New: true,
		Args:   []Arg{{Name: "NAME", Type: TypeService}},
		NoArgs: []Arg{{Name: "NAME", Type: TypeService}},
		Help:   "the words after it are about this service; before a command: that command alone",
		ops:    serviceOps,
	},
	{
		Name: "server", Kind: KindReplicated, No: true, PerService: true,
		Args:   []Arg{serverNumber, {Name: "PAIRS", Type: TypePairs, Optional: true}},
		NoArgs: []Arg{serverNumber},
		Help:   "change or add a server: " + oneOf(serverKeys),
		ops:    serverOps,
		refuse: serverRefuse,
	},
	orNone(0, ours(number(state.OptResolve, seconds(1), "look up the names of servers again after so long"))),
	specWord("emergency", state.Emergency, "server of last resort (option -e)"),
	specWord("abuse", state.Abuse, "server for clients that client_acl denies (option -B)"),
}

var serverNumber = Arg{Name: "N", Type: TypeInt, Min: 0, Max: state.MaxServers - 1}

// listWords are about access lists and other things that belong to no service.
var listWords = []Word{
	{
		Name: "acl", Kind: KindReplicated, No: true,
		Args:   []Arg{listArg, {Name: "ENTRY", Type: TypeEntry}},
		NoArgs: []Arg{listArg},
		Help:   "add an entry to an access list; no acl: empty the list",
		more:   []string{"LIST is a number from 0 to 9 or a name that begins with a letter", "the first entry that matches decides; if none does, the opposite of the last one"},
		ops:    aclOps,
		check:  aclCheck,
		refuse: aclRefuse,
	},
	listWord(state.OptControlACL, state.OptControlList, "access list that says who may use the control port"),
	fileWord(state.OptGeoIPDB, "FILE", "database of countries in MaxMind's format, for entries with country"),
	ours(number(state.OptDrainTimeout, seconds(0), "how long connections may finish when pen is asked to end")),
}

func seconds(low int) Arg     { return Arg{Name: "SECONDS", Type: TypeInt, Min: low, Max: maxInt} }
func count(low, high int) Arg { return Arg{Name: "N", Type: TypeInt, Min: low, Max: high} }

// onOff is a word that turns a setting of a service on, and `no` off.
func onOff(o state.Option, help string) Word {
	return Word{
		Name: o.String(), Kind: KindReplicated, No: true, Bare: true, PerService: !o.Global(), Help: help,
		ops: func(s *Statement, _ *environment) ([]state.Op, error) {
			return []state.Op{set(s, o, state.Bool(!s.No))}, nil
		},
	}
}

// number is a word with one number, which it tells when there is none.
func number(o state.Option, arg Arg, help string) Word {
	return Word{
		Name: o.String(), Kind: KindReplicated, PerService: !o.Global(), Args: []Arg{arg}, Help: help,
		ops: func(s *Statement, _ *environment) ([]state.Op, error) {
			if len(s.Args) == 0 {
				return nil, nil
			}
			return []state.Op{set(s, o, state.Int(s.Args[0].Int))}, nil
		},
		reply: func(s *Statement, v *state.View, _ *Local) string { return lineInt(valueOf(s, v, o)) },
	}
}

// maxConns is the most that the state takes for conn_max.
const maxConns = 16_000_000

// bounded answers the control port when a number is beyond what can be; the
// original tried, and ended itself.
func bounded(w Word) Word {
	high := w.Args[0].Max
	w.refuse = func(s *Statement) *Reply {
		if len(s.Args) == 0 || s.Args[0].Int <= high {
			return nil
		}
		return refused("%s: %d is more than %d", s.Word.Name, s.Args[0].Int, high)
	}
	return w
}

// growing takes a number as it is at start; later a smaller one does nothing,
// as in the original.
func growing(o state.Option, w Word) Word {
	ops := w.ops
	w.ops = func(s *Statement, e *environment) ([]state.Op, error) {
		least := 1
		if e.setting != nil {
			least = e.setting(s.Service, o) + 1
		}
		if len(s.Args) > 0 && s.Args[0].Int < least {
			return nil, nil
		}
		return ops(s, e)
	}
	return w
}

// silent takes the answer away.
func silent(w Word) Word { w.reply = nil; return w }

// ours marks a word that the original does not have.
func ours(w Word) Word { w.New = true; return w }

func set(s *Statement, o state.Option, v state.Value) state.Op {
	if o.Global() {
		return state.Set{Option: o, Value: v}
	}
	return state.Set{Service: s.Service, Option: o, Value: v}
}
