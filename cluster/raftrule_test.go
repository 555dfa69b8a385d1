package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// voter is one node of raft as it comes, without anything of ours round it, in a
// cluster of three whose others the test plays.
type voter struct {
	t    *testing.T
	raft *raft.Raft
	b, c *raft.InmemTransport
}

const ruleChanged = "raft's vote rule is another than the one on which the lease rests (cluster/DESIGN.md, Why there are never two leases). " +
	"Before this version of raft is used: read the diff of its raft.go, mend the argument or the rules in lease.go, and run PEN_SIM=20 go test -run Sim ./cluster"

func withVoter(t *testing.T, f func(v *voter)) {
	synctest.Test(t, func(t *testing.T) {
		v := &voter{t: t}
		config := raft.DefaultConfig()
		config.LocalID, config.Logger, config.NoLegacyTelemetry = "a", hclog.NewNullLogger(), true
		store, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
		_, at := raft.NewInmemTransport("a")
		_, v.b = raft.NewInmemTransport("b")
		_, v.c = raft.NewInmemTransport("c")
		for _, o := range []*raft.InmemTransport{v.b, v.c} {
			o.Connect("a", at)
		}
		at.Connect("b", v.b)
		at.Connect("c", v.c)
		found := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}, {ID: "b", Address: "b"}, {ID: "c", Address: "c"}}}
		if err := raft.BootstrapCluster(config, store, store, snaps, at, found); err != nil {
			t.Fatal(err)
		}
		r, err := raft.NewRaft(config, simFSM{}, store, store, snaps, at)
		if err != nil {
			t.Fatal(err)
		}
		v.raft = r
		f(v)
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
		for _, o := range []*raft.InmemTransport{at, v.b, v.c} {
			_ = o.Close()
		}
		time.Sleep(time.Minute) // what was asked of the others has run out
	})
}

func header(id string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)}
}

// beat is a heartbeat of b.
func (v *voter) beat(term uint64) *raft.AppendEntriesResponse {
	v.t.Helper()
	var p raft.AppendEntriesResponse
	if err := v.b.AppendEntries("a", "a", &raft.AppendEntriesRequest{RPCHeader: header("b"), Term: term}, &p); err != nil {
		v.t.Fatal(err)
	}
	return &p
}

// ask is c's request for a vote.
func (v *voter) ask(term uint64, transfer bool) *raft.RequestVoteResponse {
	v.t.Helper()
	var p raft.RequestVoteResponse
	q := &raft.RequestVoteRequest{RPCHeader: header("c"), Term: term, LastLogIndex: 9, LastLogTerm: term - 1, LeadershipTransfer: transfer}
	if err := v.c.RequestVote("a", "a", q, &p); err != nil {
		v.t.Fatal(err)
	}
	return &p
}

func (v *voter) pre(term uint64) *raft.RequestPreVoteResponse {
	v.t.Helper()
	var p raft.RequestPreVoteResponse
	q := &raft.RequestPreVoteRequest{RPCHeader: header("c"), Term: term, LastLogIndex: 9, LastLogTerm: term - 1}
	if err := v.c.RequestPreVote("a", "a", q, &p); err != nil {
		v.t.Fatal(err)
	}
	return &p
}

func (v *voter) want(ok bool, what string) {
	v.t.Helper()
	if !ok {
		v.t.Errorf("%s: %s", what, ruleChanged)
	}
}

// TestRaftVoteRule is what the proof of the lease takes from raft.
func TestRaftVoteRule(t *testing.T) {
	timeout := raft.DefaultConfig().HeartbeatTimeout
	withVoter(t, func(v *voter) {
		v.want(v.beat(5).Success && v.raft.CurrentTerm() == 5, "a heartbeat of a newer term is acknowledged, and brings the term")
		time.Sleep(timeout * 9 / 10)
		v.want(!v.ask(6, false).Granted && v.raft.CurrentTerm() == 5, "who has heard a leader within the timeout votes for no other, and keeps its term")
		v.want(!v.pre(6).Granted && v.raft.CurrentTerm() == 5, "nor in a pre-vote")
		v.want(v.beat(5).Success, "it goes on to acknowledge the leader")
	})
	withVoter(t, func(v *voter) {
		v.beat(5)
		v.want(v.ask(6, true).Granted && v.raft.CurrentTerm() == 6, "a vote that the leader has asked for is given at once")
		p := v.beat(5)
		v.want(!p.Success && p.Term == 6, "who has voted in a newer term acknowledges nothing of an older one")
		v.want(v.ask(6, true).Granted, "the same vote again")
	})
	withVoter(t, func(v *voter) {
		v.want(v.ask(6, false).Granted, "who knows no leader votes")
		var p raft.RequestVoteResponse
		q := &raft.RequestVoteRequest{RPCHeader: header("b"), Term: 6, LastLogIndex: 9, LastLogTerm: 5}
		if err := v.b.RequestVote("a", "a", q, &p); err != nil {
			t.Fatal(err)
		}
		v.want(!p.Granted, "but once in a term")
		v.want(!v.ask(5, false).Granted && v.raft.CurrentTerm() == 6, "and in no older one")
	})
	withVoter(t, func(v *voter) {
		v.beat(5)
		time.Sleep(timeout * 9 / 10)
		v.want(v.raft.State() == raft.Follower, "it does not stand before the timeout")
		var answer raft.TimeoutNowResponse
		if err := v.b.TimeoutNow("a", "a", &raft.TimeoutNowRequest{RPCHeader: header("b")}, &answer); err != nil {
			t.Fatal(err)
		}
		rpc := <-v.c.Consumer()
		q, ok := rpc.Command.(*raft.RequestVoteRequest)
		v.want(ok && q.Term == 6 && q.LeadershipTransfer, "TimeoutNow makes it stand at once, without a pre-vote, with the flag that others vote in spite of a leader")
		rpc.Respond(&raft.RequestVoteResponse{RPCHeader: header("c"), Term: 6}, nil)
	})
	withVoter(t, func(v *voter) {
		v.beat(5)
		rpc := <-v.c.Consumer()
		_, ok := rpc.Command.(*raft.RequestPreVoteRequest)
		v.want(ok, "silence makes it ask for a pre-vote first")
		v.want(v.raft.CurrentTerm() == 5, "which costs no term")
		rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: header("c"), Term: 5}, nil)
	})
}
