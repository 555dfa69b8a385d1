package daemon

import (
	"cmp"
	"context"
	"net"
	"runtime"
	"strconv"
	"strings"
	"time"

	"pen/cluster"
	"pen/internal/metrics"
	"pen/proxy"
	"pen/state"
)

// openMetrics opens the port for Prometheus, if one is asked for.
func (d *daemon) openMetrics(ctx context.Context, v *state.View, text string) (err error) {
	if text == "" {
		return nil
	}
	d.metrics, err = metrics.Listen(ctx, text, metrics.Options{
		Collect: d.measure, Allow: d.permits, Restricted: restricted(v), Log: d.log,
	})
	return err
}

// measure takes a look at all figures of this node. It waits for nothing: what is
// not in the state yet is what some of the figures are about.
func (d *daemon) measure(_ context.Context, set *metrics.Set) {
	set.Add(metrics.Gauge, "pen_build_info", "What runs here; always 1.", 1,
		metrics.Label{Name: "version", Value: d.version}, metrics.Label{Name: "go", Value: runtime.Version()})
	set.Add(metrics.Gauge, "pen_start_time_seconds", "When the process started, in seconds since 1970.", float64(d.started.UnixMilli())/1000)
	for _, s := range d.state.View().Services {
		label := metrics.Label{Name: "service", Value: s.Name}
		d.serviceRows(s.Name, series(set, "pen_service_", label))
		d.measureServers(set, s)
	}
	d.processRows(series(set, "pen_"))
	if d.member != nil {
		d.member.picture().measure(set, d.member.standing())
	}
}

// series makes series of rows.
func series(set *metrics.Set, prefix string, labels ...metrics.Label) tally {
	return func(r row) {
		name := prefix + cmp.Or(r.metric, r.name)
		if r.kind == metrics.Counter {
			name += "_total"
		}
		all := labels
		if r.label.Name != "" {
			all = append(labels[:len(labels):len(labels)], r.label)
		}
		set.Add(r.kind, name, r.help, amount(r.value)*cmp.Or(r.unit, 1), all...)
	}
}

// amount is the value of a row.
func amount(value any) float64 {
	switch v := value.(type) {
	case bool:
		return truth(v)
	case int:
		return float64(v)
	case int64:
		return float64(v)
	case uint64:
		return float64(v)
	}
	panic("daemon: a row that is no number") // a mistake of ours
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// measureServers tells about the servers of a service: those of the list by their
// numbers, as everywhere, then the two others.
func (d *daemon) measureServers(set *metrics.Set, s *state.Service) {
	figures := d.serverStats(s.Name)
	reach, direct := d.direct.Counters(s.Name)
	for i := range min(len(s.Servers), len(figures)) { // a change may be under way
		name := strconv.Itoa(i)
		d.measureServer(set, s, &s.Servers[i], name, figures[i])
		if direct && i < len(reach.Servers) {
			set.Add(metrics.Gauge, "pen_server_reachable", "Whether a server answers ARP or neighbour discovery; with dsr_if only.",
				truth(reach.Servers[i].Reachable), serverLabels(s, name)...)
		}
	}
	emergency, abuse := d.proxy.Special(s.Name)
	if s.Emergency != nil {
		d.measureServer(set, s, s.Emergency, "emergency", emergency)
	}
	if s.Abuse != nil {
		d.measureServer(set, s, s.Abuse, "abuse", abuse)
	}
}

func serverLabels(s *state.Service, server string) []metrics.Label {
	return []metrics.Label{{Name: "service", Value: s.Name}, {Name: "server", Value: server}}
}

func (d *daemon) measureServer(set *metrics.Set, s *state.Service, server *state.Server, name string, f proxy.ServerStats) {
	labels := serverLabels(s, name)
	add := func(kind metrics.Kind, name, help string, value float64, more ...metrics.Label) {
		set.Add(kind, "pen_server_"+name, help, value, append(labels[:len(labels):len(labels)], more...)...)
	}
	seen := *server
	seen.Mark = f.Mark // this node knows more than the others
	add(metrics.Gauge, "info", "Which server has that number; always 1.", 1, metrics.Label{Name: "address", Value: endpoint(server)})
	add(metrics.Gauge, "connections", "Connections and attempts to connect.", float64(f.Conns))
	add(metrics.Gauge, "connections_max", "Connections and attempts that a server may have, max; 0: no limit.", float64(server.Soft))
	add(metrics.Counter, "connects_total", "Connects begun.", float64(f.Attempts))
	add(metrics.Counter, "connect_failures_total", "Connects that failed.", float64(f.Failures))
	const help = "Bytes sent to a server, and received from it."
	add(metrics.Counter, "bytes_total", help, float64(f.Sent), metrics.Label{Name: "direction", Value: "sent"})
	add(metrics.Counter, "bytes_total", help, float64(f.Received), metrics.Label{Name: "direction", Value: "received"})
	add(metrics.Gauge, "blacklisted", "Whether a server has failed lately, or was blacklisted by hand, and is left alone.", truth(seen.Shunned(d.clock.At(time.Now()), s.Blacklist)))
	add(metrics.Gauge, "mark_timestamp_seconds", "When a server failed that has not answered since, in seconds since 1970; 0: none.", float64(f.Mark)/1000)
}

// endpoint is where a server is, as the settings say.
func endpoint(s *state.Server) string {
	switch {
	case s.Path():
		return s.Host
	case s.Host == "" && !s.IP.IsValid():
		return ""
	}
	return net.JoinHostPort(cmp.Or(s.Host, s.IP.String()), strconv.Itoa(int(s.Port)))
}

// standing is what a node of a cluster knows of itself before the others do.
type standing struct {
	facts    cluster.Facts
	fallback bool // it holds without a quorum
	lease    cluster.Lease
}

func (m *member) standing() standing {
	s := standing{facts: m.facts(), lease: m.node.Lease()}
	if m.fall != nil {
		s.fallback, _, _ = m.fall.standing()
		s.lease = m.fall.Lease()
	}
	return s
}

// roles are those of raft, and what a node has before there is a cluster.
var roles = []string{"forming", "follower", "candidate", "leader", "shutdown"}

// The two rights by which a node can hold the address.
var modes = []string{"quorum", "fallback"}

// measure tells of the cluster as this node sees it. What it is itself is as it is
// now, and not as it was last told to the others.
func (p *picture) measure(set *metrics.Set, self standing) {
	label := metrics.Label{Name: "cluster", Value: p.Cluster}
	add := func(kind metrics.Kind, name, help string, value float64, more ...metrics.Label) {
		set.Add(kind, "pen_cluster_"+name, help, value, append([]metrics.Label{label}, more...)...)
	}
	level := func(name, help string, value float64) { add(metrics.Gauge, name, help, value) }
	for _, mode := range modes {
		mine := self.facts.Holding && self.fallback == (mode == "fallback")
		add(metrics.Gauge, "holder", "Whether this node holds the address, by which right.", truth(mine), metrics.Label{Name: "mode", Value: mode})
		add(metrics.Gauge, "holders_seen", "Members of which this node knows that they hold the address, by which right.",
			float64(p.holders(mode == "fallback", self)), metrics.Label{Name: "mode", Value: mode})
	}
	for _, role := range roles {
		add(metrics.Gauge, "role", "What this node is to raft.", truth(strings.EqualFold(p.Role, role)), metrics.Label{Name: "role", Value: role})
	}
	level("is_leader", "Whether this node leads.", truth(p.Leader != "" && p.Leader == p.Self.String()))
	level("has_leader", "Whether this node knows of a leader.", truth(p.Leader != ""))
	level("has_quorum", "Whether a majority of the voters is alive, this node's among them.", truth(p.Quorum))
	level("is_member", "Whether this node is part of the cluster.", truth(p.Out == "" && p.Voters > 0))
	level("settled", "Whether this node knows the settings.", truth(p.Settled))
	level("voters", "Members that vote.", float64(p.Voters))
	level("term", "The term of raft.", float64(p.Term))
	level("lease_remaining_seconds", "For how long it is certain that nobody else holds the address; 0: no lease here.", p.remaining(self.lease))
	level("last_index", "The last entry of raft's log here.", float64(p.Last))
	level("applied_index", "The last entry of raft's log that was applied here.", float64(p.Applied))
	level("lag_entries", "Entries of raft's log here that are not applied yet.", float64(max(p.Last, p.Applied)-p.Applied))
	level("state_level", "The level of the common state.", float64(p.Level.Now))
	level("state_level_known", "The newest level of the common state that this program knows.", float64(p.Level.Known))
	level("forced_changes", "Changes that were forced here and wait for a quorum.", float64(p.Forced))
	level("unreplicated_clients", "Decisions of this node that the others do not know yet.", float64(self.facts.Unreplicated))
	level("unreplicated_age_seconds", "Age of the oldest decision of this node that the others do not know yet.", self.facts.UnreplicatedAge.Seconds())
	if p.Alone != nil {
		add(metrics.Counter, "fallbacks_total", "Times that this node held the address without a quorum.", float64(p.Alone.Count))
	}
	p.measureMembers(add)
}

// measureMembers tells of each member as this node sees it. One that was never
// heard has neither name nor id: the address tells them apart.
func (p *picture) measureMembers(add func(metrics.Kind, string, string, float64, ...metrics.Label)) {
	alive, listed := 0, 0
	for i := range p.Members {
		m := &p.Members[i]
		listed++
		if m.Alive {
			alive++
		}
		labels := []metrics.Label{{Name: "member", Value: p.nameOf(m)}, {Name: "address", Value: m.Addr.String()}}
		add(metrics.Gauge, "member_alive", "Whether this node hears a member.", truth(m.Alive), labels...)
		add(metrics.Gauge, "member_eligible", "Whether a member could hold the address.", truth(m.Eligible), labels...)
		if m.Role != "absent" {
			add(metrics.Gauge, "member_lag_entries", "Entries of raft's log that a member has not applied, as far as this node knows.", float64(m.Lag), labels...)
		}
	}
	add(metrics.Gauge, "nodes", "Nodes that are members or listed.", float64(listed))
	add(metrics.Gauge, "nodes_alive", "Nodes that are members or listed, and are heard.", float64(alive))
}

// holders counts who is known to hold the address by that right.
func (p *picture) holders(fallback bool, self standing) (n int) {
	for i := range p.Members {
		m := &p.Members[i]
		holding, alone := m.Holding && m.Alive, m.Fallback
		if m.Self {
			holding, alone = self.facts.Holding, self.fallback
		}
		if holding && alone == fallback {
			n++
		}
	}
	return n
}

func (p *picture) remaining(l cluster.Lease) float64 {
	if !l.Valid {
		return 0
	}
	return max(l.Until.Sub(p.Now).Seconds(), 0)
}
