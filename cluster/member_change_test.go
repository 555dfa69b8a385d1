package cluster

import (
	"bytes"
	"cmp"
	"io"
	"net/netip"
	"testing"

	"github.com/hashicorp/raft"

	"pen/state"
)

func TestReconfigure(t *testing.T) {
	id := func(n byte) ID { return ID{n} }
	server := func(n byte, addr int, s raft.ServerSuffrage) raft.Server {
		return raft.Server{Suffrage: s, ID: raft.ServerID(id(n).String()), Address: raft.ServerAddress(memAddr(addr).String())}
	}
	alive := func(n byte, addr int, applied uint64) heardNote {
		return heardNote{note: note{Applied: applied}, hello: Hello{Node: id(n), Addr: memAddr(addr)}}
	}
	at := func(addr int) Peer { return Peer{Addr: memAddr(addr)} }
	boot := func(h heardNote, n byte) heardNote {
		h.hello.Boot = ID{n}
		return h
	}
	gone := func(h heardNote) heardNote {
		h.Out = "ann"
		return h
	}
	peers := []Peer{{Addr: memAddr(1)}, {Addr: memAddr(2)}, {Addr: memAddr(3)}}
	three := []raft.Server{server(1, 1, raft.Voter), server(2, 2, raft.Voter), server(3, 3, raft.Voter)}
	for _, c := range []struct {
		name    string
		servers []raft.Server
		alive   []heardNote
		want    memberAct
		whom    byte
		list    []Peer
		here    int
	}{
		{"all as it should be", three, []heardNote{alive(2, 2, 100), alive(3, 3, 100)}, memberKeep, 0, nil, 0},
		{"a dead one stays", three, []heardNote{alive(2, 2, 100)}, memberKeep, 0, nil, 0},
		{"a new one learns", three[:2], []heardNote{alive(2, 2, 100), alive(3, 3, 0)}, memberLearn, 3, nil, 0},
		{"one that is not listed does not", three[:2], []heardNote{alive(2, 2, 100), alive(3, 9, 0)}, memberKeep, 0, nil, 0},
		{"a learner that is behind waits", []raft.Server{three[0], three[1], server(3, 3, raft.Nonvoter)}, []heardNote{alive(3, 3, 10)}, memberKeep, 0, nil, 0},
		{"a learner that has caught up votes", []raft.Server{three[0], three[1], server(3, 3, raft.Nonvoter)}, []heardNote{alive(3, 3, 50)}, memberVote, 3, nil, 0},
		{"its place was taken: the old one goes", three, []heardNote{alive(2, 2, 100), alive(9, 3, 0)}, memberRemove, 3, nil, 0},
		{"but not when that would leave no majority", three, []heardNote{alive(9, 3, 0)}, memberKeep, 0, nil, 0},
		{"nor while the old one lives", three, []heardNote{alive(2, 2, 100), alive(3, 4, 100), alive(9, 3, 0)}, memberVote, 3, nil, 0},
		{"its address has changed", three, []heardNote{alive(2, 2, 100), alive(3, 4, 100)}, memberVote, 3, nil, 0},
		{"one that is not listed any more goes", three, []heardNote{alive(2, 2, 100), alive(3, 3, 100)}, memberRemove, 3, peers[:2], 0},
		{"also when it is dead", three, []heardNote{alive(2, 2, 100)}, memberRemove, 3, peers[:2], 0},
		{"but not when that would leave no majority", three, []heardNote{alive(3, 3, 100)}, memberKeep, 0, peers[:2], 0},
		{"nor while a place of the list is free: it may move there", three, []heardNote{alive(2, 2, 100), alive(3, 3, 100)}, memberKeep, 0, []Peer{peers[0], peers[1], at(4)}, 0},
		{"nor while who is there does not vote yet", append(three[:3:3], server(4, 4, raft.Nonvoter)), []heardNote{alive(2, 2, 100), alive(3, 3, 100), alive(4, 4, 1)}, memberKeep, 0, []Peer{peers[0], peers[1], at(4)}, 0},
		{"then it goes", append(three[:3:3], server(4, 4, raft.Voter)), []heardNote{alive(2, 2, 100), alive(3, 3, 100), alive(4, 4, 1)}, memberRemove, 3, []Peer{peers[0], peers[1], at(4)}, 0},
		{"nobody goes when all addresses are others", three, []heardNote{alive(2, 2, 100), alive(3, 3, 100)}, memberKeep, 0, []Peer{at(4), at(5), at(6)}, 0},
		{"nor who leads", three, []heardNote{alive(2, 2, 100), alive(3, 3, 100)}, memberKeep, 0, peers[1:], 0},
		{"who leads has another address", three, []heardNote{alive(2, 2, 100), alive(3, 3, 100)}, memberVote, 1, []Peer{at(7), peers[1], peers[2]}, 7},
		{"who leads has the address of another until that one has told its own", three, []heardNote{alive(2, 4, 100), alive(3, 3, 100)}, memberVote, 2, []Peer{peers[1], at(4), peers[2]}, 2},
		{"one that was removed does not come back", three[:2], []heardNote{alive(2, 2, 100), boot(alive(5, 3, 100), 55)}, memberKeep, 0, nil, 0},
		{"until it is started again", three[:2], []heardNote{alive(2, 2, 100), boot(alive(5, 3, 100), 56)}, memberLearn, 5, nil, 0},
		{"nor does one that says that it was", three[:2], []heardNote{alive(2, 2, 100), gone(alive(6, 3, 100))}, memberKeep, 0, nil, 0},
	} {
		all := map[ID]heardNote{}
		for _, h := range c.alive {
			all[h.hello.Node] = h
		}
		list := peers
		if c.list != nil {
			list = c.list
		}
		r := roster{servers: c.servers, alive: all, peers: list, self: id(1).String(), addr: memAddr(cmp.Or(c.here, 1)), last: 100, out: map[ID]ID{id(5): {55}}}
		got, s, _ := r.due()
		if got != c.want || got != memberKeep && idOf(s.ID) != id(c.whom) {
			t.Errorf("%s: %d for %s, want %d for %s", c.name, got, s.ID, c.want, id(c.whom))
		}
	}
}

func TestMachineThroughSnapshot(t *testing.T) {
	from, to := newFSM(state.New()), newFSM(state.New())
	for i := range 50 {
		b, err := permit(i).Append(nil)
		must(t, err)
		r := from.ApplyBatch([]*raft.Log{{Index: uint64(i + 10), Type: raft.LogCommand, Data: b}, {Index: uint64(i + 11), Type: raft.LogConfiguration}})
		if r[0].(state.Result).Err != nil || r[1] != nil {
			t.Fatal(r)
		}
	}
	snap, err := from.Snapshot()
	must(t, err)
	store := raft.NewInmemSnapshotStore()
	sink, err := store.Create(1, 60, 1, raft.Configuration{}, 0, nil)
	must(t, err)
	must(t, snap.Persist(sink))
	snap.Release()
	_, r, err := store.Open(sink.ID())
	must(t, err)
	must(t, to.Restore(r))
	if ok, _ := to.reached(60); !ok || to.machine.View().Index != from.machine.View().Index || len(to.machine.View().ACL[0].Entries) != 50 {
		t.Errorf("restored: entry 60 %v, command %d, %d rules", ok, to.machine.View().Index, len(to.machine.View().ACL[0].Entries))
	}
	if err := to.Restore(io.NopCloser(bytes.NewReader([]byte("short")))); err == nil || len(to.machine.View().ACL[0].Entries) != 50 {
		t.Errorf("a broken snapshot: %v", err)
	}
}

func FuzzMessage(f *testing.F) {
	for _, m := range []message{
		{N: 1, Ask: &question{From: ID{1}.String(), LastIndex: 7}},
		{N: 2, Released: &releasedTerm{Term: 3, Heir: ID{2}.String(), Why: "transfer: drained"}},
		{N: 3, Note: &note{Applied: 1, Why: "witness", Lead: &lead{Term: 2, Reason: MoveSilent, Applied: 9, From: ID{1}.String(), AgoMS: 5}, Facts: &facts{true, 5, 6, 7}}},
		{Change: &change{To: "lb1"}},
		{Change: &change{Remove: true, To: ID{1}.String(), By: "ann", Force: true}},
		{Removed: &removal{By: "ann"}},
		{Note: &note{Rank: &rank{true, -3}, Out: "ann"}},
		{Form: &formAsk{Promise: &promise{ID{1}, ID{2}, []member{{ID{3}, netip.MustParseAddrPort("10.0.0.1:1")}}}}},
	} {
		var b bytes.Buffer
		if err := sendMessage(&b, m, []byte("body")); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, body, err := receiveMessage(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		if len(body) > len(b) {
			t.Fatalf("a body of %d bytes out of %d", len(body), len(b))
		}
		var again bytes.Buffer
		if err := sendMessage(&again, m, body); err != nil {
			t.Fatal(err)
		}
		if _, body2, err := receiveMessage(&again, 1<<20); err != nil || !bytes.Equal(body, body2) {
			t.Fatalf("sent again: %v", err)
		}
	})
}
