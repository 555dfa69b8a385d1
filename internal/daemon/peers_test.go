package daemon

import (
	"net/netip"
	"strings"
	"testing"

	"pen/internal/config"
	"pen/state"
)

// TestAListComesWithItsRule reloads other lists. What quorum_loss says is about the
// list of the same file.
func TestAListComesWithItsRule(t *testing.T) {
	var peers []config.Peer
	for _, a := range []string{"10.0.0.11:7950", "10.0.0.12:7950", "10.0.0.13:7950"} {
		peers = append(peers, config.Peer{Addr: netip.MustParseAddrPort(a)})
	}
	of := func(n int, rule string) config.Membership {
		return config.Membership{Cluster: "shop", Peers: peers[:n], QuorumLoss: rule}
	}
	for _, c := range []struct {
		name      string
		now, file config.Membership
		fallback  bool
		err       string
	}{
		{name: "a pair grows", now: of(2, "fallback"), file: of(3, "hold")},
		{name: "a pair grows, nothing said", now: of(2, "fallback"), file: of(3, "")},
		{name: "the rule was forgotten", now: of(2, "fallback"), file: of(3, "fallback"), err: "quorum_loss fallback is for two peers, and here are 3"},
		{name: "a rule for another list", now: of(3, ""), file: of(3, "fallback"), err: "quorum_loss fallback is for two peers, and here are 3: the others could agree without this node; say hold"},
		{name: "a rule that changes nothing", now: of(3, ""), file: of(3, "hold")},
		{name: "a pair is left", now: of(3, ""), file: of(2, ""), fallback: true},
		{name: "a pair is left that wants an outage", now: of(3, ""), file: of(2, "hold")},
		{name: "the rule alone waits for a start", now: of(2, "fallback"), file: of(2, "hold"), fallback: true},
	} {
		m := member{daemon: new(daemon)}
		m.local.Store(&config.Local{Membership: c.now})
		err := m.examineList(&config.Plan{View: state.New().View(), Local: config.Local{Membership: c.file}})
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		}
		if c.err != "" {
			continue
		}
		if got := followed(c.now, c.file); got.Fallback() != c.fallback || len(got.Peers) != len(c.file.Peers) {
			t.Errorf("%s: %d peers, fallback %v, want %d and %v", c.name, len(got.Peers), got.Fallback(), len(c.file.Peers), c.fallback)
		}
	}
}
