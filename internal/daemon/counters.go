package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"pen/cluster"
	"pen/state"
)

// counters tells what this node has counted since its start, one name and value
// each line: first of the service, then of the process.
func (d *daemon) counters(_ context.Context, q question) error {
	line := func(name string, value any) { fmt.Fprintf(q.w, "%s %v\n", name, value) }
	s := d.proxy.Stats(q.Service)
	view := d.state.View()
	table := view.Service(q.Service).Clients()

	line("accepted", s.Accepted)
	line("connections", s.Used)
	line("connections_max", s.Max)
	for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
		line("refused_"+reason, s.Refused[reason])
	}
	line("failovers", s.Failovers)
	if view.Service(q.Service).Transparent {
		line("transparent_failed", s.Opaque)
	}
	line("idlers", s.Idlers)
	line("idlers_wanted", max(view.Service(q.Service).Idlers, 0))
	line("connections_reset", s.Reset)
	if view.Service(q.Service).Protocol == state.UDP {
		line("flows_evicted", s.Evicted)
		line("datagrams_dropped", s.Spilled)
	}
	d.directCounters(q.Service, line)
	line("accept_pauses", s.AcceptPauses)
	line("clients", table.Len())
	line("clients_max", table.Max())
	line("clients_recent", s.Recent)
	line("clients_recent_ms", s.RecentAge.Milliseconds())
	line("clients_unrecorded", s.Unrecorded)
	line("clients_retried", s.Retried)

	line("process_descriptors", s.Files)
	line("process_descriptors_max", d.files.forTraffic(len(view.Services)))
	line("process_pipes", s.Pipes)
	line("process_buffers", s.Buffers)
	if view.Global.GeoIPDB != "" {
		geo := d.proxy.GeoIP()
		line("geoip_known", geo.Known)
		line("geoip_reads", geo.Reads)
		line("geoip_failures", geo.Failures)
	}
	if slices.ContainsFunc(view.Services, func(s *state.Service) bool { return s.Resolve > 0 }) {
		line("names_asked", d.renewal.lookups.Load())
		line("names_failed", d.renewal.failures.Load())
		line("names_moved", d.renewal.moves.Load())
	}
	line("log_dropped", d.journal.dropped())
	d.logs.counters(line)
	if d.control != nil {
		c := d.control.Counters()
		line("control_commands", c.Commands)
		line("control_denied", c.Denied)
		line("control_full", c.Full)
		line("control_displaced", c.Displaced)
		line("control_silent", c.Silent)
		line("control_unfinished", c.Unfinished)
		line("control_too_long", c.Long)
		line("control_broken", c.Broken)
		line("control_slow", c.Slow)
		line("control_panics", c.Panics)
		line("control_accept_errors", c.Accept)
	}
	if d.member != nil {
		d.member.counters(line)
	}
	line("state_index", view.Index)
	if solo, alone := d.state.(*cluster.Solo); alone && solo.Status().Dir != "" {
		st := solo.Status()
		line("state_log_bytes", st.Bytes)
		line("state_snapshot_age_s", ageOf(st.Snapshot))
		line("state_disk_ok", st.Err == nil)
	}
	return nil
}

// counters are those of a node of a cluster.
func (m *member) counters(line func(string, any)) {
	s := m.node.Status()
	line("cluster_moves", s.Moves)
	line("cluster_members_alive", s.Living)
	line("cluster_votes_held_back", s.Held)
	line("cluster_votes_late", s.Late)
	line("cluster_refused", m.node.RefusedTotal())
	if m.vip == nil {
		return
	}
	v := m.vip.State()
	line("vip_held", v.Held)
	line("vip_readded", v.Readded)
	line("vip_lapsed", v.Lapsed)
	line("vip_repaired", v.Repaired)
	line("vip_guard_ends", v.GuardEnds)
	line("vip_carrier_losses", v.Losses)
	line("vip_announced", v.Announced)
	conflicts := uint64(0)
	for _, c := range v.Conflicts {
		conflicts += c.Count
	}
	line("vip_conflicts", conflicts)
}

// ageOf is in whole seconds; -1 for what has never happened.
func ageOf(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return int64(time.Since(t).Seconds())
}
