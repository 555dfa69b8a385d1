package config

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Timing is how long a node may give no sign until it is taken for dead.
func (m Membership) Timing() time.Duration { return cmp.Or(m.Heartbeat, DefaultHeartbeat) }

// Fallback tells whether a node decides by evidence when there is no majority: only
// of two peers, and unless hold is asked for.
func (m Membership) Fallback() bool { return len(m.Peers) == 2 && m.QuorumLoss != "hold" }

// Differs names the words in which two memberships differ, in the order of the
// manual. The order of peers and of virtual addresses makes no difference.
func (m Membership) Differs(other Membership) []string {
	var words []string
	for _, d := range []struct {
		word string
		same bool
	}{
		{"cluster", m.Cluster == other.Cluster},
		{"cluster_key", m.ClusterKey == other.ClusterKey},
		{"peers", slices.Equal(sorted(m.Peers, comparePeers), sorted(other.Peers, comparePeers))},
		{"vip", slices.Equal(sorted(m.VIPs, compareVIPs), sorted(other.VIPs, compareVIPs))},
		{"self", m.Self == other.Self},
		{"timing", m.Timing() == other.Timing()},
		{"preempt", m.Preempt == other.Preempt},
		{"quorum_loss", m.QuorumLoss == other.QuorumLoss || m.Fallback() == other.Fallback()},
		{"gateway", cmp.Or(m.Gateway, "auto") == cmp.Or(other.Gateway, "auto")},
		{"notify", m.Notify == other.Notify},
	} {
		if !d.same {
			words = append(words, d.word)
		}
	}
	return words
}

func sorted[T any](all []T, compare func(a, b T) int) []T {
	return slices.SortedFunc(slices.Values(all), compare)
}

func comparePeers(a, b Peer) int { return a.Addr.Compare(b.Addr) }

func compareVIPs(a, b VIP) int {
	return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.Link, b.Link))
}

// complete fills in what follows from being in a cluster and was not said.
func (l *Local) complete() {
	if !l.Clustered() {
		return
	}
	l.DataDir = cmp.Or(l.DataDir, DefaultClusterDir)
	l.Heartbeat = l.Timing()
	if !l.Self.Addr().IsValid() || l.Self.Port() != 0 {
		return
	}
	l.Self = netip.AddrPortFrom(l.Self.Addr(), DefaultClusterPort)
	for _, p := range l.Peers {
		if p.Addr.Addr() == l.Self.Addr() {
			l.Self = p.Addr
			return
		}
	}
}
