package state

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
)

// serverOf ties a client to its server, so that a reader who mixes two records
// notices.
func serverOf(a netip.Addr) int {
	b := a.As16()
	return (int(b[13])*31 + int(b[14])*7 + int(b[15])) % 1000
}

// TestLookupsBesideApply has regulars who come again with every command and so
// must be found at every moment, and passers-by who push each other out. The
// index grows, records move, pages are copied for snapshots meanwhile.
func TestLookupsBesideApply(t *testing.T) {
	const regulars = 500
	m := New()
	m.Apply(Command{Time: 1000, Ops: []Op{
		SetServer{Index: 999},
		Set{Option: OptClientsMax, Value: Int(6000)},
		Set{Option: OptTracking, Value: Int(3600)},
	}})
	regular := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	commands := 300
	if testing.Short() || raced {
		commands = 100
	}
	batch := func(n int) Command {
		v := Visits{Service: 1}
		for i := range regulars {
			v.Clients = append(v.Clients, Visit{regular(i), serverOf(regular(i)), 0})
		}
		for range 1000 {
			a := netip.AddrFrom4([4]byte{11, 0, byte(rand.N(256)), byte(rand.N(256))})
			v.Clients = append(v.Clients, Visit{a, serverOf(a), 0})
		}
		return Command{Time: Time(n) * 1000, Ops: []Op{v}}
	}
	m.Apply(batch(1))

	var done atomic.Bool
	var wg sync.WaitGroup
	table := m.View().Service("").Clients()
	for range 3 {
		wg.Go(func() {
			for !done.Load() {
				a := regular(rand.N(regulars))
				if e, ok := table.Lookup(a); !ok || e.Client != a || e.Server != serverOf(a) {
					t.Errorf("regular %v: got %v %v", a, e, ok)
					return
				}
				b := netip.AddrFrom4([4]byte{11, 0, byte(rand.N(256)), byte(rand.N(256))})
				if e, ok := table.Lookup(b); ok && (e.Client != b || e.Server != serverOf(b)) {
					t.Errorf("passer-by %v: got %v", b, e)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for !done.Load() {
			for e := range table.All() {
				if e.Server != serverOf(e.Client) {
					t.Errorf("all: got %v, want server %d", e, serverOf(e.Client))
					return
				}
			}
		}
	})
	deny := Command{Ops: []Op{AppendACL{1, ACLEntry{Addr: regular(1)}}}}
	wg.Go(func() {
		for !done.Load() {
			v := m.View()
			if dry, err := v.With(deny); err != nil || len(dry.ACL[1].Entries) != len(v.ACL[1].Entries)+1 {
				t.Errorf("with: %v", err)
				return
			}
		}
	})
	for n := range commands {
		m.Apply(batch(n + 2))
		m.Apply(deny)
		if n%10 == 0 {
			s, want := m.Snapshot(), m.View()
			wg.Go(func() { checkSnapshot(t, s, want) })
		}
	}
	done.Store(true)
	wg.Wait()
	if table.Len() != 6000 {
		t.Errorf("got %d clients, want 6000: the test is too short", table.Len())
	}
}

// TestLookupsWhileTheIndexGrows has nothing but new clients come, so that
// buckets are split all the time.
func TestLookupsWhileTheIndexGrows(t *testing.T) {
	const regulars, crowd = 200, 200_000
	table := newTable(regulars + crowd)
	for i := range regulars {
		table.visit(Visit{Client: client(i), Server: i}, 1000)
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := 0; !done.Load(); i = (i + 1) % regulars {
				if e, ok := table.Lookup(client(i)); !ok || e.Server != i {
					t.Errorf("client %d: got %v %v", i, e, ok)
					return
				}
			}
		})
	}
	for i := range crowd {
		table.visit(Visit{Client: client(regulars + i), Server: None}, 1000)
	}
	done.Store(true)
	wg.Wait()
}

func checkSnapshot(t *testing.T, s *Snapshot, want *View) {
	defer s.Release()
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		t.Error(err)
		return
	}
	m := New()
	if err := m.Restore(&b); err != nil {
		t.Error(err)
		return
	}
	if got := m.View(); got.Index != want.Index || got.Time != want.Time {
		t.Errorf("got index %d, time %d, want %d, %d", got.Index, got.Time, want.Index, want.Time)
	}
	for e := range m.View().Service("").Clients().All() {
		if e.Server != serverOf(e.Client) || e.Used > want.Time {
			t.Errorf("restored %v, want server %d, used before %d", e, serverOf(e.Client), want.Time)
			return
		}
	}
}

// TestSnapshotIsOfOneMoment compares what is written late with what was written
// at once.
func TestSnapshotIsOfOneMoment(t *testing.T) {
	m := New()
	m.Apply(Command{Time: 1000, Ops: []Op{Set{Option: OptClientsMax, Value: Int(5000)}}})
	for round := range 20 {
		visit := func(server int) {
			v := Visits{Service: 1}
			for range 700 {
				v.Clients = append(v.Clients, Visit{client(rand.N(9000)), server, 0})
			}
			m.Apply(Command{Time: Time(round) * 1000, Ops: []Op{v}})
		}
		visit(Emergency)
		early := saved(t, m)
		a, b := m.Snapshot(), m.Snapshot()
		visit(Abuse)
		a.Release()
		a.Release() // a second time does nothing
		visit(None)
		var late bytes.Buffer
		if _, err := b.WriteTo(&late); err != nil {
			t.Fatal(err)
		}
		b.Release()
		if !bytes.Equal(early, late.Bytes()) {
			t.Fatalf("round %d: the snapshot changed while it was held", round)
		}
	}
}
