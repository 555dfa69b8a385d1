package main

import (
	"fmt"
	"strconv"
)

// goal is a ratio, or a figure, that pen is to reach.
type goal struct {
	What    string
	Case    string
	Metric  metric
	Against key // zero: the figure itself; Case "" in it: the same case
	Limit   float64
	Format  string
}

// goals come from the design.
var goals = []goal{
	{"connection, CPU time against haproxy", "connrate", cpuEach, key{"", haproxy}, 0.90, "%.2f"},
	{"64 B round trip, 64 connections, CPU time against haproxy", "pp64", cpuEach, key{"", haproxy}, 1.00, "%.2f"},
	{"64 B round trip by UDP, 64 flows, CPU time against the original pen", "udp64", cpuEach, key{"", original}, 1.00, "%.2f"},
	{"64 B round trip by UDP, 64 flows, CPU time against TCP", "udp64", cpuEach, key{"pp64", ours}, 1.30, "%.2f"},
	{"bulk down, 8 connections, CPU time against haproxy", "down8", cpuEach, key{"", haproxy}, 0.40, "%.2f"},
	{"bulk down, 64 connections, CPU time against haproxy", "down64", cpuEach, key{"", haproxy}, 0.40, "%.2f"},
	{"bulk up, 8 connections, CPU time against haproxy", "up8", cpuEach, key{"", haproxy}, 0.40, "%.2f"},
	{"bulk up, 64 connections, CPU time against haproxy", "up64", cpuEach, key{"", haproxy}, 0.40, "%.2f"},
	{"TLS: connection with a full handshake, ECDSA, CPU time against haproxy", "tlsrate", cpuEach, key{"", haproxy}, 1.10, "%.2f"},
	{"TLS: bulk down, 8 connections, AES-128-GCM, CPU time against haproxy", "tlsdown8", cpuEach, key{"", haproxy}, 0.70, "%.2f"},
	{"idle connection, KiB", idleCase(9000), eachRSS, key{}, 0.2, "%.2f"},
	{"idle connection, descriptors", idleCase(9000), eachFile, key{}, 2, "%.2f"},
	{"connection, 1,000,000 known clients against 1,000", knownCase(1_000_000), cpuEach, key{knownCase(1000), ours}, 1.10, "%.2f"},
	{"start to first answer, ms", "start", first, key{}, 30, "%.0f"},
}

// values are what the rounds gave for the goal.
func (g goal) values(r *results) []float64 {
	mine, against := key{g.Case, ours}, g.Against
	if against == (key{}) {
		return present(r.values(mine, g.Metric))
	}
	if against.Case == "" {
		against.Case = g.Case
	}
	return r.against(mine, against, g.Metric)
}

func (r reported) goals() string {
	t := newTable("what", "goal", "reached", "")
	for _, g := range goals {
		values := g.values(r.results)
		if len(values) == 0 {
			continue
		}
		verdict := "yes"
		if median(values) > g.Limit {
			verdict = "**no**"
		}
		t.add(g.What, fmt.Sprintf("<= "+g.Format, g.Limit), spread(values, g.Format), verdict)
	}
	return titled("Goals", t.text(), "")
}

func (r reported) idleTable() string {
	t := newTable("proxy", "connections", "RSS before, MiB", "KiB for a connection", "descriptors for a connection")
	add := func(c, what string) {
		for _, name := range r.names(c) {
			k := key{c, name}
			t.add(name, what, number(r.median(k, startRSS), "%.1f"),
				number(r.median(k, eachRSS), "%.2f"), number(r.median(k, eachFile), "%.2f"))
		}
	}
	for _, conns := range idleSizes {
		add(idleCase(conns), strconv.Itoa(conns))
	}
	add(idleTLSCase, strconv.Itoa(idleTLS)+" TLS")
	return titled("Idle connections", t.text(), "")
}

func (r reported) knownTable() string {
	smallest := knownCase(knownSizes[0])
	t := newTable("proxy", "known clients", "CPU time of a connection, us", "against 1,000")
	for _, size := range knownSizes {
		c := knownCase(size)
		for _, name := range r.names(c) {
			k := key{c, name}
			t.add(name, strconv.Itoa(size), number(r.median(k, cpuEach), "%.1f"),
				spread(r.against(k, key{smallest, name}, cpuEach), "%.2f"))
		}
	}
	return titled("Connections of known clients", t.text(),
		"Each connection comes from one of the known clients, drawn at random.")
}

func (r reported) startTable() string {
	t := newTable("proxy", "start to first answer, ms")
	for _, name := range r.names("start") {
		t.add(name, spread(present(r.values(key{"start", name}, first)), "%.0f"))
	}
	return titled("Start", t.text(), "")
}
