package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pen/cluster"
	"pen/vip"
)

// three is a picture of three nodes, of which the first holds the address and
// the second is asked.
func three() *picture {
	now := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	p := &picture{Now: now, Clients: 1234, Services: 1, Settled: true, Address: &addressPicture{Carrier: true}}
	p.Level = cluster.LevelStatus{Now: 2, Known: 2}
	p.Cluster, p.Term, p.Quorum, p.Voters, p.Living = "shop", 7, true, 3, 3
	for i := range 3 {
		m := cluster.MemberStatus{
			ID: cluster.ID{byte(i + 1)}, Name: "pen" + string(rune('1'+i)), Role: "voter", Alive: true, Eligible: true,
			Addr:    netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(11 + i)}), 7950),
			Applied: 99, Version: "1.0", Digest: 5, Heartbeat: 200 * time.Millisecond, Heard: now.Add(-80 * time.Millisecond),
		}
		p.Members = append(p.Members, m)
	}
	holder := &p.Members[0]
	holder.Leader, holder.Holding, holder.HoldingSince = true, true, now.Add(-time.Minute)
	holder.Unreplicated, holder.UnreplicatedAge = 12, 8*time.Millisecond
	p.Members[1].Self = true
	p.Self, p.Leader = p.Members[1].ID, holder.ID.String()
	p.Moves = 2
	p.LastMove = cluster.Move{From: p.Members[2].ID.String(), To: p.Leader, At: now.Add(-time.Minute), Term: 7, Reason: "released"}
	return p
}

func tableOf(t *testing.T, p *picture) string {
	t.Helper()
	var b strings.Builder
	if err := p.table(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestClusterTable(t *testing.T) {
	want := `cluster shop, seen from pen2: quorum, 3 of 3 alive
holder pen1 since 1m0s ago, term 7, heard 80ms ago
moves 2, the last from pen3 to pen1 1m0s ago in term 7: released
clients 1234, not replicated 12, the oldest for 8ms (pen1's figures)
state level 2

NODE   ROLE   STATE           ADDRESS         PRIO  APPLIED  LAG  ELIGIBLE  VERSION  FILE
pen1   voter  HOLDER(quorum)  10.0.0.11:7950  0     99       0    yes       1.0      same
pen2*  voter  standby         10.0.0.12:7950  0     99       0    yes       1.0      same
pen3   voter  standby         10.0.0.13:7950  0     99       0    yes       1.0      same
`
	if diff := cmp.Diff(want, tableOf(t, three())); diff != "" {
		t.Error(diff)
	}
}

func TestClusterTableOfTrouble(t *testing.T) {
	p := three()
	p.Quorum, p.Living, p.Leader = false, 1, ""
	for _, i := range []int{0, 2} {
		m := &p.Members[i]
		m.Alive, m.Eligible, m.Why, m.Heard = false, false, "not heard of", p.Now.Add(-9*time.Second)
	}
	p.Members[2].Digest, p.Members[2].Heartbeat = 6, time.Second
	p.Members[2].Heard = time.Time{}
	p.Address.Conflicts = []vip.Conflict{{Addr: netip.MustParseAddr("10.0.0.10"), Link: "eth0", MAC: "02:00:00:00:00:01", Last: p.Now.Add(-time.Second), Count: 3}}
	p.Refused = []cluster.Refusal{
		{Peer: netip.MustParseAddr("10.0.0.99"), Reason: cluster.WrongKey, Detail: "theirs is another", Last: p.Now.Add(-2 * time.Second), Count: 4},
		{Peer: netip.MustParseAddr("10.0.0.98"), Reason: cluster.Closed, Last: p.Now, Count: 1},
	}
	want := `cluster shop, seen from pen2: no quorum, 1 of 3 alive: nothing can be changed, and nobody holds the address
holder unknown; it was pen1, last heard 9s ago
moves 2, the last from pen3 to pen1 1m0s ago in term 7: released
clients 1234
state level 2

NODE   ROLE   STATE          ADDRESS         PRIO  APPLIED  LAG  ELIGIBLE          VERSION  FILE
pen1   voter  silent for 9s  10.0.0.11:7950  0     99       0    no: not heard of  1.0      same
pen2*  voter  standby        10.0.0.12:7950  0     99       0    yes               1.0      same
pen3   voter  silent         10.0.0.13:7950  0     99       0    no: not heard of  1.0      DIFFERS

address: 10.0.0.10 was claimed by 02:00:00:00:00:01 on eth0, 3 times, last 1s ago
pen3 has another timing: 1s instead of 200ms; the smallest counts
refused 10.0.0.99, 4 times: wrong key: theirs is another (last 2s ago)
`
	if diff := cmp.Diff(want, tableOf(t, p)); diff != "" {
		t.Error(diff)
	}
}

// TestClusterTableOfNoMember: who was removed, or left behind, claims to know nothing
// of a quorum or a holder.
func TestClusterTableOfNoMember(t *testing.T) {
	p := three()
	p.Out, p.Quorum, p.Leader, p.Moves = "removed by ann; it takes part again when it is started again", false, "", 0
	p.Members[0].Leader, p.Members[0].Holding = false, false
	self := &p.Members[1]
	self.Role, self.Eligible, self.Why = "absent", false, p.Out
	p.Members = p.Members[:2]
	want := `cluster shop, seen from pen2: NOT PART OF THE CLUSTER: removed by ann; it takes part again when it is started again
holder unknown here; a node that is a member knows it
moves 0 since this node started
clients 1234
state level 2

NODE   ROLE    STATE               ADDRESS         PRIO  APPLIED  LAG  ELIGIBLE                                                          VERSION  FILE
pen1   voter   unknown here        10.0.0.11:7950  0     99       0    yes                                                               1.0      same
pen2*  absent  not in the cluster  10.0.0.12:7950  0     99       0    no: removed by ann; it takes part again when it is started again  1.0      same
`
	if diff := cmp.Diff(want, tableOf(t, p)); diff != "" {
		t.Error(diff)
	}
}

func TestNodesOfOneNameAreCalledByTheirAddress(t *testing.T) {
	p := three()
	for i := range p.Members {
		p.Members[i].Name = "localhost"
	}
	if got := tableOf(t, p); !strings.Contains(got, "seen from 10.0.0.12:") || strings.Contains(got, "localhost") {
		t.Error(got)
	}
}
