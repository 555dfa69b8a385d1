package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pen/cluster"
)

func TestWhoRehearses(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*picture)
		wish  string
		want  string // from to prober, or the error
	}{
		{"three", func(*picture) {}, "", "pen1 pen2 pen3"},
		{"the best", func(p *picture) { p.Members[2].Priority = 5 }, "", "pen1 pen3 pen2"},
		{"to one", func(*picture) {}, "10.0.0.13", "pen1 pen3 pen2"},
		{"to nobody", func(*picture) {}, "pen9", `no node that could take the address is called "pen9"`},
		{"to the holder", func(*picture) {}, "pen1", "pen1 holds the address already"},
		{"two", func(p *picture) { p.Members = p.Members[:2] }, "", "pen1 pen2 pen2"},
		{"two and a witness", func(p *picture) { p.Members[2].Role, p.Members[2].Eligible = "witness", false }, "", "pen1 pen2 pen3"},
		{"alone", func(p *picture) { p.Members = p.Members[:1] }, "", "pen1 is the only node that can hold the address"},
		{"one is drained", func(p *picture) { p.Members[2].Eligible, p.Members[2].Why = false, "drained" }, "", "pen3 could not take the address: drained"},
		{"nobody holds", func(p *picture) { p.Members[0].Holding = false }, "", "nobody is known to hold the address"},
		{"a witness is away", func(p *picture) { p.Members[2].Role, p.Members[2].Alive = "witness", false }, "", "pen3 is not heard of, and should be"},
	} {
		p := three()
		c.spoil(p)
		r, err := planRehearsal(p, c.wish)
		got := strings.Join(r.names[:], " ")
		if err != nil {
			got = err.Error()
		} else if r.third != (r.names[1] != r.names[2]) {
			t.Errorf("%s: third is %t with %s", c.name, r.third, got)
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// A network in which nobody answers for 40 ms: connects of the first 10 of them
// are refused, the others wait.
func TestProberMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProber(func(a netip.AddrPort) bool { return a.Port() == 80 })
		var refuses, waits atomic.Bool
		p.dial = func(ctx context.Context, _ string) (net.Conn, error) {
			switch {
			case refuses.Load():
				return nil, errors.New("connection refused")
			case waits.Load():
				<-ctx.Done()
				return nil, ctx.Err()
			}
			here, there := net.Pipe()
			there.Close()
			return here, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { p.run(ctx); close(ended) }()
		if _, err := p.answer(ctx, askProbe+"10.0.0.10:81"); err == nil || !strings.Contains(err.Error(), "no virtual address of this node") {
			t.Errorf("elsewhere: %v", err)
		}
		if _, err := p.answer(ctx, askProbe+"10.0.0.10:80"); err != nil {
			t.Fatal(err)
		}
		if _, err := p.answer(ctx, askProbe+"10.0.0.10:80"); err == nil || !strings.Contains(err.Error(), "another rehearsal is under way") {
			t.Errorf("again: %v", err)
		}
		if _, err := p.answer(ctx, askProbeRead); err != nil {
			t.Fatal(err)
		}
		time.Sleep(99 * time.Millisecond)
		refuses.Store(true)
		time.Sleep(10 * time.Millisecond)
		refuses.Store(false)
		waits.Store(true)
		time.Sleep(30 * time.Millisecond)
		waits.Store(false)
		time.Sleep(400 * time.Millisecond)
		b, err := p.answer(ctx, askProbeRead)
		var got probed
		if err == nil {
			err = json.Unmarshal(b, &got)
		}
		if err != nil || got.Lost != 8 || got.GapMS != 45 || got.Err != "connection refused" || got.Connects < 100 {
			t.Errorf("got %+v, %v; want 8 lost and 45 ms", got, err)
		}
		if _, err := p.answer(ctx, askProbeStop); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, err := p.answer(ctx, askProbeRead); err == nil || !strings.Contains(err.Error(), "no rehearsal") {
			t.Errorf("after the end: %v", err)
		}
		refuses.Store(true)
		if _, err := p.answer(ctx, askProbe+"10.0.0.10:80"); err == nil || !strings.Contains(err.Error(), "10.0.0.10:80 does not answer: connection refused") {
			t.Errorf("nobody there: %v", err)
		}
		cancel()
		<-ended
	})
}

func TestLevelInWords(t *testing.T) {
	for want, l := range map[string]cluster.LevelStatus{
		"state level 2":                    {Now: 2, Known: 2},
		"state level 1, and 2 in a moment": {Now: 1, Known: 2},
		"state level 1, and 2 when all know it: pen3 knows up to 1": {Now: 1, Known: 2, Waits: []string{"pen3 knows up to 1"}},
	} {
		p := &picture{}
		p.Level = l
		if got := p.level(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
