package main

import "strconv"

// The names of the proxies.
const (
	ours      = "pen"
	original  = "original pen"
	haproxy   = "haproxy"
	spliced   = "haproxy, splice"
	remembers = "haproxy, stick table"
	nginx     = "nginx"
	direct    = "no proxy"
)

// loadCase is a task of the common kind: a load for some time, and the CPU time
// that the proxy needs for it.
type loadCase struct {
	Name    string
	Backend backendMode
	Load    loadMode
	Conns   int
}

// flows tells whether it is datagrams that go to and fro.
func (c loadCase) flows() bool { return c.Backend == packet }

// contenders are the proxies that are asked: those that pass on datagrams, or that
// people let end TLS.
func (c loadCase) contenders() []string {
	switch {
	case c.flows():
		return []string{ours, original}
	case c.Backend == pages:
		return []string{ours, original, haproxy}
	case c.Load.secure():
		return []string{ours, haproxy, nginx}
	}
	return []string{ours, original, haproxy, spliced, nginx}
}

// bulk tells whether bytes count, not operations.
func (c loadCase) bulk() bool { return c.Load.bulk() }

var loadCases = []loadCase{
	{"connrate", echo, connects, 64},
	{"pp64", echo, roundTrip, 64},
	{"udp64", packet, datagrams, 64},
	{"down1", source, receive, 1},
	{"down8", source, receive, 8},
	{"down64", source, receive, 64},
	{"up1", sink, send, 1},
	{"up8", sink, send, 8},
	{"up64", sink, send, 64},
	{"http64", pages, requests, 64},
	{"tlsrate", echo, connectsTLS, 64},
	{"tlsdown8", source, receiveTLS, 8},
}

// idleSizes are how many connections are held. Twenty thousand files, a common
// limit, are two for each of nine thousand connections and some to spare.
var idleSizes = []int{3000, 9000}

// idleTLS is how many connections of TLS are held.
const idleTLS = 1000

// idleTLSCase is the name of that case.
const idleTLSCase = "tlsidle1000"

func idleCase(conns int) string { return "idle" + strconv.Itoa(conns) }

// knownSizes are how many clients a proxy knows; the first is what the others
// are compared with.
var knownSizes = []int{1000, 100_000, 1_000_000}

// mostForOriginal bounds the table of the original pen, which is filled by real
// connections and searched from end to end.
const mostForOriginal = 100_000

func knownCase(clients int) string { return "known" + strconv.Itoa(clients) }
