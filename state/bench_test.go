package state

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

const million = 1_000_000

func address(i int) netip.Addr {
	i *= 2654435761
	return netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
}

// crowd returns a machine that knows n clients, who came in another order than
// that of their slots.
func crowd(n int) *Machine {
	m := New()
	m.Apply(Command{Time: 1000, Ops: []Op{SetServer{Index: 99}, Set{Option: OptClientsMax, Value: Int(n)}}})
	fill(m, 0, n)
	order := rand.Perm(n)
	visit(m, n, func(i int) int { return order[i] })
	return m
}

func fill(m *Machine, from, to int) {
	visit(m, to-from, func(i int) int { return from + i })
}

func visit(m *Machine, n int, which func(int) int) {
	v := Visits{Service: 1}
	for i := range n {
		v.Clients = append(v.Clients, Visit{address(which(i)), i % 100, 0})
		if len(v.Clients) == 2048 || i == n-1 {
			m.Apply(Command{Time: 1000, Ops: []Op{v}})
			v.Clients = v.Clients[:0]
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
	}{{"1e3", 1000}, {"1e6", million}} {
		table := crowd(c.n).View().Service("").Clients()
		addrs := make([]netip.Addr, 1<<16)
		for i := range addrs {
			addrs[i] = address(rand.N(c.n))
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := table.Lookup(addrs[i%len(addrs)]); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
}

// BenchmarkLookupBesideApply shows what look-ups suffer while commands of 2,048
// visits are applied without a pause.
func BenchmarkLookupBesideApply(b *testing.B) {
	m := crowd(million)
	table := m.View().Service("").Clients()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := million; ; i += 2048 {
			select {
			case <-stop:
				return
			default:
				fill(m, i, i+2048)
			}
		}
	}()
	var worst time.Duration
	for b.Loop() {
		began := time.Now()
		table.Lookup(address(rand.N(million)))
		worst = max(worst, time.Since(began))
	}
	close(stop)
	<-stopped
	b.ReportMetric(float64(worst.Microseconds()), "worst-µs")
}

func BenchmarkVisitNew(b *testing.B) {
	m := crowd(million)
	n := million
	for b.Loop() {
		fill(m, n, n+2048)
		n += 2048
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2048, "ns/visit")
}

// BenchmarkSnapshot shows how long the machine is kept by Snapshot itself, and
// how long the writing takes, which keeps nobody.
func BenchmarkSnapshot(b *testing.B) {
	m := crowd(million)
	var worst, write time.Duration
	var size int
	for b.Loop() {
		began := time.Now()
		s := m.Snapshot()
		worst = max(worst, time.Since(began))
		began = time.Now()
		var out bytes.Buffer
		out.Grow(size)
		if _, err := s.WriteTo(&out); err != nil {
			b.Fatal(err)
		}
		write += time.Since(began)
		size = out.Len()
		s.Release()
	}
	b.ReportMetric(float64(worst.Microseconds()), "worst-hold-µs")
	b.ReportMetric(float64(write.Milliseconds())/float64(b.N), "write-ms")
	b.ReportMetric(float64(size)/million, "B/client")
}

func BenchmarkRestore(b *testing.B) {
	snapshot := saved(b, crowd(million))
	for b.Loop() {
		if err := New().Restore(bytes.NewReader(snapshot)); err != nil {
			b.Fatal(err)
		}
	}
}

// raced tells that the race detector is on.
var raced bool

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// TestMemoryOfAMillionClients asserts what a client costs, the index included,
// also while a snapshot is held and everything has changed since.
func TestMemoryOfAMillionClients(t *testing.T) {
	if testing.Short() || raced {
		t.Skip("a million clients take a while")
	}
	before := heap()
	m := crowd(million)
	check := func(what string, most uint64) {
		t.Helper()
		if each := (heap() - before) / million; each > most {
			t.Errorf("%s: got %d bytes for each client, want at most %d", what, each, most)
		} else {
			t.Logf("%s: %d bytes for each client", what, each)
		}
	}
	check("at rest", 50)
	s := m.Snapshot()
	fill(m, million/2, million*3/2)
	check("with a snapshot held", 100)
	s.Release()
	runtime.KeepAlive(m)
	runtime.KeepAlive(s)
}
