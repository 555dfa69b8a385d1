package daemon

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"pen/cluster"
	"pen/internal/metrics"
	"pen/internal/metrics/metricstest"
)

// measured are the figures of a picture, by series.
func measured(t *testing.T, p *picture, self standing) map[string]float64 {
	t.Helper()
	var set metrics.Set
	p.measure(&set, self)
	return parsed(t, &set)
}

func parsed(t *testing.T, set *metrics.Set) map[string]float64 {
	t.Helper()
	var b strings.Builder
	if _, err := set.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	families, err := metricstest.Parse(b.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	all := map[string]float64{}
	for name, f := range families {
		for _, s := range f.Samples {
			delete(s.Labels, "cluster")
			delete(s.Labels, "address")
			series := name
			if len(s.Labels) > 0 {
				series += strings.TrimPrefix(fmt.Sprint(s.Labels), "map")
			}
			all[series] = s.Value
		}
	}
	return all
}

func figures(t *testing.T, what string, got, want map[string]float64) {
	t.Helper()
	for series, value := range want {
		if v, there := got[series]; !there || v != value {
			t.Errorf("%s: %s is %v, %v; want %v", what, series, v, there, value)
		}
	}
}

func TestClusterMetrics(t *testing.T) {
	p := three()
	p.Role, p.Last, p.Applied, p.Members[2].Lag = "Follower", 102, 99, 3
	figures(t, "standing by", measured(t, p, standing{}), map[string]float64{
		"pen_cluster_holder[mode:quorum]": 0, "pen_cluster_holder[mode:fallback]": 0,
		"pen_cluster_holders_seen[mode:quorum]": 1, "pen_cluster_holders_seen[mode:fallback]": 0,
		"pen_cluster_role[role:follower]": 1, "pen_cluster_role[role:leader]": 0, "pen_cluster_role[role:candidate]": 0,
		"pen_cluster_role[role:forming]": 0, "pen_cluster_role[role:shutdown]": 0,
		"pen_cluster_is_leader": 0, "pen_cluster_has_leader": 1, "pen_cluster_has_quorum": 1, "pen_cluster_is_member": 1, "pen_cluster_settled": 1,
		"pen_cluster_voters": 3, "pen_cluster_nodes": 3, "pen_cluster_nodes_alive": 3, "pen_cluster_term": 7,
		"pen_cluster_lease_remaining_seconds": 0, "pen_cluster_applied_index": 99, "pen_cluster_last_index": 102, "pen_cluster_lag_entries": 3,
		"pen_cluster_state_level": 2, "pen_cluster_state_level_known": 2, "pen_cluster_unreplicated_clients": 0,
		"pen_cluster_member_alive[member:pen1]": 1, "pen_cluster_member_eligible[member:pen2]": 1, "pen_cluster_member_lag_entries[member:pen3]": 3,
	})

	p = three()
	p.Role, p.Leader = "Leader", p.Self.String()
	p.Members[0].Holding, p.Members[0].Alive, p.Members[0].Eligible = false, false, false
	self := standing{lease: cluster.Lease{Valid: true, Until: p.Now.Add(750 * time.Millisecond)}}
	self.facts = cluster.Facts{Holding: true, Unreplicated: 5, UnreplicatedAge: 1500 * time.Millisecond}
	figures(t, "holding", measured(t, p, self), map[string]float64{
		"pen_cluster_holder[mode:quorum]": 1, "pen_cluster_holder[mode:fallback]": 0,
		"pen_cluster_holders_seen[mode:quorum]": 1, "pen_cluster_is_leader": 1, "pen_cluster_role[role:leader]": 1,
		"pen_cluster_lease_remaining_seconds": 0.75, "pen_cluster_unreplicated_clients": 5, "pen_cluster_unreplicated_age_seconds": 1.5,
		"pen_cluster_nodes": 3, "pen_cluster_nodes_alive": 2, "pen_cluster_member_alive[member:pen1]": 0, "pen_cluster_member_eligible[member:pen1]": 0,
	})
}

// TestFallbackMetrics: without a leader, and by the right of one alone.
func TestFallbackMetrics(t *testing.T) {
	p := three()
	p.Role, p.Leader, p.Quorum, p.Living = "Candidate", "", false, 1
	p.Alone = &alonePicture{Holder: true, Count: 2}
	p.Members = p.Members[:2]
	p.Members[0].Alive, p.Members[0].Holding = false, false
	got := measured(t, p, standing{facts: cluster.Facts{Holding: true}, fallback: true})
	figures(t, "alone", got, map[string]float64{
		"pen_cluster_holder[mode:quorum]": 0, "pen_cluster_holder[mode:fallback]": 1,
		"pen_cluster_holders_seen[mode:quorum]": 0, "pen_cluster_holders_seen[mode:fallback]": 1,
		"pen_cluster_has_quorum": 0, "pen_cluster_has_leader": 0, "pen_cluster_role[role:candidate]": 1, "pen_cluster_fallbacks_total": 2,
	})
	p.Out = "was removed"
	figures(t, "out", measured(t, p, standing{}), map[string]float64{"pen_cluster_is_member": 0, "pen_cluster_holder[mode:fallback]": 0})
}

// TestGuideHasEveryClusterSeries, and no other.
func TestGuideHasEveryClusterSeries(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	p := three()
	p.Alone = &alonePicture{}
	var set metrics.Set
	p.measure(&set, standing{})
	var b strings.Builder
	if _, err := set.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	families, err := metricstest.Parse(b.String())
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{"pen_cluster_moves_total": true} // a row of counters
	for _, name := range regexp.MustCompile(`pen_cluster_[a-z_]+`).FindAllString(string(guide), -1) {
		if families[name] == nil && !told[name] {
			t.Errorf("the guide has %s, which is not there", name)
		}
		told[name] = true
	}
	for name := range families {
		if !told[name] {
			t.Errorf("the guide does not have %s", name)
		}
	}
}

// TestEachMemberHasASeries, also if they have one name, or were never heard.
func TestEachMemberHasASeries(t *testing.T) {
	p := three()
	p.Members[2].Name = p.Members[0].Name
	eachMemberHasASeries(t, p)
	for i := range p.Members {
		p.Members[i].Name, p.Members[i].ID = "", cluster.ID{}
	}
	eachMemberHasASeries(t, p)
}

func eachMemberHasASeries(t *testing.T, p *picture) {
	t.Helper()
	var set metrics.Set
	p.measure(&set, standing{})
	var b strings.Builder
	if _, err := set.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\npen_cluster_member_alive{"); n != 3 {
		t.Errorf("%d series of 3 members\n%s", n, b.String())
	}
}

// TestSeriesOfRows: a row of counters is a series by a rule, in base units.
func TestSeriesOfRows(t *testing.T) {
	var set metrics.Set
	rows := series(&set, "pen_service_", metrics.Label{Name: "service", Value: "web"})
	rows.count("accepted", uint64(3), "A.")
	rows.level("geoip_known", true, "A.")
	rows(row{name: "clients_recent_ms", value: int64(1500), kind: metrics.Gauge, metric: "clients_recent_age_seconds", unit: 1e-3})
	rows(row{name: "refused_denied", value: 2, kind: metrics.Counter, metric: "refused", label: metrics.Label{Name: "reason", Value: "denied"}})
	figures(t, "rows", parsed(t, &set), map[string]float64{
		"pen_service_accepted_total[service:web]": 3, "pen_service_geoip_known[service:web]": 1,
		"pen_service_clients_recent_age_seconds[service:web]": 1.5, "pen_service_refused_total[reason:denied service:web]": 2,
	})
}
