package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"pen/cluster"
	"pen/internal/metrics"
	"pen/state"
)

// row is a figure of this node: a line of the word counters, and a series for
// Prometheus.
type row struct {
	name  string
	value any // a whole number, or a bool
	kind  metrics.Kind
	help  string

	// What Prometheus has instead of the name and the value, if they are not
	// the same.
	metric string
	label  metrics.Label
	unit   float64 // in the base unit; 0: 1
}

// tally takes rows.
type tally func(row)

// count is a figure that only grows.
func (t tally) count(name string, value any, help string) {
	t(row{name: name, value: value, kind: metrics.Counter, help: help})
}

// level is a figure as it is now.
func (t tally) level(name string, value any, help string) {
	t(row{name: name, value: value, kind: metrics.Gauge, help: help})
}

// counters tells what this node has counted since its start, one name and value
// each line: first of the service, then of the process.
func (d *daemon) counters(_ context.Context, q question) error {
	line := func(r row) { fmt.Fprintf(q.w, "%s %v\n", r.name, r.value) }
	d.serviceRows(q.Service, line)
	d.processRows(line)
	return nil
}

// serviceRows are those of one service.
func (d *daemon) serviceRows(service string, t tally) {
	s := d.proxy.Stats(service)
	v := d.state.View().Service(service)
	table := v.Clients()

	t.count("accepted", s.Accepted, "Connections and flows of UDP taken in.")
	t.level("connections", s.Used, "Connections and flows of UDP that are here.")
	t.level("connections_max", s.Max, "Connections and flows of UDP that there may be at once, conn_max.")
	for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
		t(row{
			name: "refused_" + reason, value: s.Refused[reason], kind: metrics.Counter, help: "Clients that were turned away, by reason.",
			metric: "refused", label: metrics.Label{Name: "reason", Value: reason},
		})
	}
	t.count("failovers", s.Failovers, "Connects that moved on to another server.")
	if v.Transparent {
		t.count("transparent_failed", s.Opaque, "Connects that left from this machine's address, against transparent.")
	}
	t.level("idlers", s.Idlers, "Connections to servers that are kept open for no client.")
	t.level("idlers_wanted", max(v.Idlers, 0), "Connections to servers that shall be kept open for no client.")
	t.count("connections_reset", s.Reset, "Connections ended because this node stopped holding the address.")
	if v.Protocol == state.UDP {
		t.count("flows_evicted", s.Evicted, "Flows of UDP that ended for others because there was no place.")
		t.count("datagrams_dropped", s.Spilled, "Datagrams that could not be sent on.")
	}
	d.directRows(service, t)
	t.count("accept_pauses", s.AcceptPauses, "Times that accepting had to wait for descriptors or memory.")
	t.level("clients", table.Len(), "Known clients.")
	t.level("clients_max", table.Max(), "Clients that can be known at once, clients_max.")
	t.level("clients_recent", s.Recent, "Decisions that the table of known clients does not show yet.")
	t(row{
		name: "clients_recent_ms", value: s.RecentAge.Milliseconds(), kind: metrics.Gauge, help: "Age of the oldest decision that the table of known clients does not show yet.",
		metric: "clients_recent_age_seconds", unit: 1e-3,
	})
	t.count("clients_unrecorded", s.Unrecorded, "Visits of clients who were served but will not be remembered.")
	t.count("clients_retried", s.Retried, "Records of clients that had to be written again.")
}

// processRows are those of all services together, and of the process.
func (d *daemon) processRows(t tally) {
	view := d.state.View()
	held := d.proxy.Stats(view.Services[0].Name) // of all services
	t.level("process_descriptors", held.Files, "File descriptors that connections use.")
	t.level("process_descriptors_max", d.files.forTraffic(len(view.Services)), "File descriptors that connections may use.")
	t.level("process_pipes", held.Pipes, "Pipes in use for bulk.")
	t.level("process_buffers", held.Buffers, "Buffers held for peers that do not read.")
	d.directTotals(t)
	if view.Global.GeoIPDB != "" {
		geo := d.proxy.GeoIP()
		t.level("geoip_known", geo.Known, "Whether countries of addresses are known.")
		t.count("geoip_reads", geo.Reads, "Databases of countries taken into use.")
		t.count("geoip_failures", geo.Failures, "Databases of countries that were no good.")
	}
	if slices.ContainsFunc(view.Services, func(s *state.Service) bool { return s.Resolve > 0 }) {
		t.count("names_asked", d.renewal.lookups.Load(), "Look-ups of names of servers.")
		t.count("names_failed", d.renewal.failures.Load(), "Look-ups of names of servers without a usable address.")
		t.count("names_moved", d.renewal.moves.Load(), "Servers that got another address by their name.")
	}
	t.count("log_dropped", d.journal.dropped(), "Messages for which the log was too slow.")
	d.logs.rows(t)
	d.controlRows(t)
	d.metricsRows(t)
	if d.member != nil {
		d.member.rows(t)
	}
	t.level("state_index", view.Index, "Changes of the state so far.")
	if solo, alone := d.state.(*cluster.Solo); alone && solo.Status().Dir != "" {
		st := solo.Status()
		t.level("state_log_bytes", st.Bytes, "Log of the state since the last snapshot.")
		t(row{
			name: "state_snapshot_age_s", value: ageOf(st.Snapshot), kind: metrics.Gauge, help: "Age of the last snapshot of the state; -1: none yet.",
			metric: "state_snapshot_age_seconds",
		})
		t.level("state_disk_ok", st.Err == nil, "Whether the last write of the state worked.")
	}
}

// controlRows tell what became of connections to the control port.
func (d *daemon) controlRows(t tally) {
	if d.control == nil {
		return
	}
	c := d.control.Counters()
	t.count("control_commands", c.Commands, "Commands that were answered.")
	t.count("control_denied", c.Denied, "Connections to the control port that control_acl denied.")
	t.count("control_full", c.Full, "Connections to the control port closed because every place was being answered.")
	t.count("control_displaced", c.Displaced, "Idle connections to the control port that gave way to a newcomer.")
	t.count("control_silent", c.Silent, "Connections to the control port that sent nothing in time.")
	t.count("control_unfinished", c.Unfinished, "Connections to the control port that were still sending when the time was over.")
	t.count("control_too_long", c.Long, "Commands that were too long.")
	t.count("control_broken", c.Broken, "Connections to the control port that ended before the command was whole.")
	t.count("control_slow", c.Slow, "Connections to the control port that did not take the reply.")
	t.count("control_panics", c.Panics, "Commands that were ended by a mistake of the program.")
	t.count("control_accept_errors", c.Accept, "Errors of accept on the control port.")
}

// metricsRows tell what became of connections to the port for Prometheus.
func (d *daemon) metricsRows(t tally) {
	if d.metrics == nil {
		return
	}
	c := d.metrics.Counters()
	t.count("metrics_answers", c.Answers, "Times that the metrics were asked for.")
	t.count("metrics_denied", c.Denied, "Connections for metrics that control_acl denied.")
	t.count("metrics_full", c.Full, "Connections for metrics closed because there were too many.")
	t.count("metrics_accept_errors", c.Accept, "Errors of accept on the port for metrics.")
}

// rows are those of a node of a cluster.
func (m *member) rows(t tally) {
	s := m.node.Status()
	t.count("cluster_moves", s.Moves, "Changes of the leader, or of who holds without one, since this node started.")
	t.level("cluster_members_alive", s.Living, "Voters that are alive.")
	t.count("cluster_votes_held_back", s.Held, "Requests for a vote that had to wait for the end of a lease.")
	t.count("cluster_votes_late", s.Late, "Votes that were kept back for good.")
	t.count("cluster_refused", m.node.RefusedTotal(), "Connections to the cluster's port that were not let in.")
	if m.vip == nil {
		return
	}
	v := m.vip.State()
	t.level("vip_held", v.Held, "Whether the virtual addresses are here.")
	t.count("vip_readded", v.Readded, "Times that an address was added again after others had removed it.")
	t.count("vip_lapsed", v.Lapsed, "Times that the kernel's permission to answer ended before it was renewed.")
	t.count("vip_repaired", v.Repaired, "Times that others had changed the nftables rules of the address.")
	t.count("vip_guard_ends", v.GuardEnds, "Guards that ended or stood still, and were replaced.")
	t.count("vip_carrier_losses", v.Losses, "Times that the carrier went.")
	t.count("vip_announced", v.Announced, "Announcements of the address that were sent.")
	conflicts := uint64(0)
	for _, c := range v.Conflicts {
		conflicts += c.Count
	}
	t.count("vip_conflicts", conflicts, "Claims of the address by others.")
}

// ageOf is in whole seconds; -1 for what has never happened.
func ageOf(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return int64(time.Since(t).Seconds())
}
