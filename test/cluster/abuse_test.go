//go:build linux

package cluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pen/test/lab"
	"pen/test/rig"
)

// stranger is somebody without the key at the port of the cluster.
type stranger struct {
	name string
	hold int // connections that he keeps open
	do   func(c net.Conn)
}

var garbage = func() []byte {
	b := make([]byte, 64<<10)
	_, _ = rand.Read(b)
	return b
}()

// record is the head of a TLS record of the largest length there is.
var record = []byte{22, 3, 1, 0xff, 0xff}

var strangers = []stranger{
	{"silent", 500, func(net.Conn) {}},
	{"hasty", 0, func(net.Conn) {}},
	{"garbage", 100, func(c net.Conn) { _, _ = c.Write(garbage) }},
	{"large frames", 100, func(c net.Conn) { _, _ = c.Write(append(record, garbage...)) }},
	{"TLS without a certificate", 10, func(c net.Conn) {
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) //nolint:gosec // he does not care
		_, _ = s.Write(garbage)
		_, _ = io.ReadFull(s, make([]byte, 1))
	}},
	{"slow", 200, func(c net.Conn) {
		go func() {
			for _, b := range append(record, garbage[:60]...) { // until he is cut off
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
	}},
}

// abuse does what the strangers do, all at once, until so many have connected.
func (s *suite) abuse(ctx context.Context, to string, connects int64) *atomic.Int64 {
	var made atomic.Int64
	var wg sync.WaitGroup
	for _, who := range strangers {
		wg.Go(func() {
			var held []net.Conn
			for ctx.Err() == nil && made.Load() < connects {
				c, err := s.Connect(to, time.Second)
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				made.Add(1)
				c.SetDeadline(time.Now().Add(2 * time.Second))
				who.do(c)
				if held = append(held, c); len(held) > who.hold {
					held[0].Close()
					held = held[1:]
				}
			}
			<-ctx.Done()
			for _, c := range held {
				c.Close()
			}
		})
	}
	s.t.Cleanup(wg.Wait)
	return &made
}

// Thousands of strangers at the holder's port, who have no key: the holder stays, its
// clients notice nothing, memory is bounded, and an honest node joins as ever.
func TestAbuse(t *testing.T) {
	s := begin(t)
	w, err := s.Watch(clients)
	must(t, err)
	time.Sleep(1500 * time.Millisecond)
	holder := s.holder(t)
	before, err := s.Pen(holder).RSS()
	must(t, err)
	term, lapses := s.term(t, holder), s.lapses(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	from := time.Now()
	made := s.abuse(ctx, fmt.Sprintf("%s:7950", holder.Addr), 5000)

	// Meanwhile another node ends and comes again.
	honest := s.others(holder)[0]
	s.Pen(honest).Signal(syscall.SIGKILL)
	s.Pen(honest).Wait(rig.Patience)
	began := time.Now()
	must(t, s.Start(honest))
	s.well(t)
	joined := time.Since(began)
	most := int64(0)
	if !rig.Eventually(6*rig.Patience, func() bool {
		now, err := s.Pen(holder).RSS()
		must(t, err)
		most = max(most, now)
		return made.Load() >= 5000
	}) {
		t.Errorf("only %d connects", made.Load())
	}
	took := time.Since(from)
	cancel()
	r := w.Report(from, time.Now())
	t.Logf("%d connects in %v, %d KiB more memory, an honest node was back after %v, and:\n%s", made.Load(), took.Round(time.Millisecond), (most-before)>>10, joined.Round(time.Millisecond), r)
	if most-before > 32<<20 {
		t.Errorf("%d KiB more memory, want at most 32 MiB", (most-before)>>10)
	}
	if joined > pick(rig.Patience, time.Second) { // beside other tests, and all of them on two cores
		t.Errorf("an honest node was back after %v", joined)
	}
	if now := s.term(t, holder); now != term && held(r, lapses, s.lapses(t)) && r.Doubles == 0 {
		t.Logf("term %d, was %d, while the machine did not run everybody", now, term)
	} else {
		fault{stays: true, smooth: true}.judge(t, r, r, holder)
		if now != term {
			t.Errorf("term %d, was %d: the leader was not kept", now, term)
		}
	}
	s.refusesStrangers(t, holder)
}

func (s *suite) term(t testing.TB, n *lab.Node) uint64 {
	t.Helper()
	var seen struct{ Term uint64 }
	must(t, json.Unmarshal([]byte(s.ask(t, n, "cluster", "json")), &seen))
	return seen.Term
}

// refusesStrangers checks what an operator can see of the strangers.
func (s *suite) refusesStrangers(t testing.TB, n *lab.Node) {
	t.Helper()
	var seen struct {
		Refused []struct {
			Peer   string
			Reason string
			Count  uint64
		}
	}
	must(t, json.Unmarshal([]byte(s.ask(t, n, "cluster", "json")), &seen))
	count := uint64(0)
	for _, r := range seen.Refused {
		if r.Peer == "10.0.0.100" {
			count += r.Count
		}
	}
	t.Logf("refused: %+v", seen.Refused)
	if count < 1000 {
		t.Errorf("cluster json knows of %d refusals, want those of thousands: %+v", count, seen.Refused)
	}
	if table := s.ask(t, n, "cluster"); !strings.Contains(table, "refused 10.0.0.100") {
		t.Errorf("the table does not name the stranger:\n%s", table)
	}
	s.logs(t, n, "refused", "10.0.0.100")
	if lines := strings.Count(s.Pen(n).Log(), "\n"); lines > 200 {
		t.Errorf("%d lines in the log", lines)
	}
}
