package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pen/state"
)

func TestLevelThatAllKnow(t *testing.T) {
	for _, c := range []struct {
		name  string
		all   []knower
		want  state.Level
		waits []string
	}{
		{"alone", nil, 3, nil},
		{"all new", []knower{{name: "b", heard: true, knows: 3}, {name: "c", heard: true, knows: 4}}, 3, nil},
		{"one between", []knower{{name: "b", heard: true, knows: 3}, {name: "c", heard: true, knows: 2}}, 2, []string{"c knows up to 2"}},
		{"one says nothing of it", []knower{{name: "b", heard: true, knows: 0}}, 1, []string{"b knows up to 1"}},
		{"one is away", []knower{{name: "b", heard: false, knows: 3}, {name: "c", heard: true, knows: 2}}, 1, []string{"b is not heard of", "c knows up to 2"}},
	} {
		got, waits := commonLevel(c.all, 3)
		if got != c.want || !slices.Equal(waits, c.waits) {
			t.Errorf("%s: got %d %q, want %d %q", c.name, got, waits, c.want, c.waits)
		}
	}
}

func TestNodesOfOneNameAreTold(t *testing.T) {
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	_, waits := commonLevel(distinct([]knower{
		{name: "vm", heard: true, knows: 1, at: at("10.0.0.12:7951")},
		{name: "vm", heard: true, knows: 1, at: at("10.0.0.13:7951")},
		{name: "lb4", heard: true, knows: 1, at: at("10.0.0.14:7951")},
		{name: "lb1", at: at("10.0.0.15:7951")},
		{name: "10.0.0.16:7951", at: at("10.0.0.16:7951")},
		{name: "10.0.0.16:7951", at: at("10.0.0.16:7951")},
	}, "lb1"), 2)
	want := []string{
		"vm (10.0.0.12:7951) knows up to 1", "vm (10.0.0.13:7951) knows up to 1", "lb4 knows up to 1",
		"lb1 (10.0.0.15:7951) is not heard of", "10.0.0.16:7951 is not heard of", "10.0.0.16:7951 is not heard of",
	}
	if !slices.Equal(waits, want) {
		t.Errorf("got %q, want %q", waits, want)
	}
}

// settle gives a cluster its first settings.
func (c *testCluster) settle(n *testNode) {
	c.t.Helper()
	seed, err := state.Command{}.Append(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := n.Propose(c.t.Context(), state.Command{Ops: []state.Op{state.SeedWith{Seed: seed}}})
	if err = errors.Join(err, r.Err); err != nil {
		c.t.Fatal(err)
	}
}

func TestLevelRisesWhenAllAreThere(t *testing.T) {
	c := newTestCluster(t, 3)
	a, b := c.start(0), c.start(1)
	<-a.Formed()
	<-b.Formed()
	c.settle(a)
	time.Sleep(2 * noteEvery)
	if s := a.Status().Level; s.Now != 1 || len(s.Waits) != 1 || !strings.Contains(s.Waits[0], "is not heard of") {
		t.Errorf("while one is away: got %+v", s)
	}
	last := c.start(2)
	for i, n := range []*testNode{a, b, last} {
		await(t, "level 2", 20*time.Second, func() bool {
			return n.Status().Level.Now == state.Newest && n.wire.Hello().Level == uint32(state.Newest)
		})
		if s := n.Status().Level; len(s.Waits) > 0 {
			t.Errorf("node %d: %+v", i, s)
		}
	}
	old := b.wire.Hello()
	old.StateVersion, old.Level = 1, 0
	r := a.wire.Hello().fits(old)
	if want := "state level 2 is in use, lb1 knows up to 1: install a newer version there"; r == nil || r.Reason != OtherVersion || r.Detail != want {
		t.Errorf("an old program: got %v, want %s", r, want)
	}
	c.kill(2)
	// A program from before, on the disk of one that has seen level 2.
	name := filepath.Join(c.path(2), "cluster", papersName)
	var p papers
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil || p.Level != uint32(state.Newest) {
		t.Fatalf("papers say level %d, %v", p.Level, err)
	}
	if text, err = json.Marshal(papers{Node: p.Node, Level: p.Level + 1}); err == nil {
		err = os.WriteFile(name, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{Name: "shop", Key: c.key, Peers: c.peers, Self: c.peers[2].Addr, Dir: c.path(2), Heartbeat: c.hb, Log: slog.New(slog.DiscardHandler)})
	if want := "the cluster uses state level 3, and this program knows up to 2: install a version that knows it"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestQuery(t *testing.T) {
	c := newTestCluster(t, 2)
	c.answer = func(_ context.Context, what string) ([]byte, error) {
		if what == "nonsense" {
			return nil, errors.New("that is nonsense")
		}
		return []byte("you asked for " + what), nil
	}
	a, b := c.start(0), c.start(1)
	<-a.Formed()
	<-b.Formed()
	await(t, "both", 20*time.Second, func() bool { return len(a.Status().Members) == 2 && a.Status().Living == 2 })
	for _, node := range []string{"lb0", "lb1"} {
		if got, err := a.Query(t.Context(), node, "this"); err != nil || string(got) != "you asked for this" {
			t.Errorf("%s: got %q, %v", node, got, err)
		}
		if _, err := a.Query(t.Context(), node, "nonsense"); err == nil || !strings.Contains(err.Error(), "that is nonsense") {
			t.Errorf("%s: got %v", node, err)
		}
	}
	if _, err := a.Query(t.Context(), "lb7", "this"); err == nil || !strings.Contains(err.Error(), `no member is called "lb7"`) {
		t.Errorf("got %v", err)
	}
	b.wire.change(func(h *Hello) { h.Max = 1 })
	if _, err := a.Query(t.Context(), "lb1", "this"); !errors.Is(err, ErrOldNode) {
		t.Errorf("got %v, want %v", err, ErrOldNode)
	}
}
