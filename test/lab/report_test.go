//go:build linux

package lab

import (
	"slices"
	"testing"
	"time"
)

const tick = time.Millisecond

func TestLongest(t *testing.T) {
	for name, c := range map[string]struct {
		moments []time.Duration
		want    window
	}{
		"nothing at all":            {nil, window{100, 200}},
		"every ten":                 {[]time.Duration{90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200}, window{90, 100}},
		"from before the fault":     {[]time.Duration{70, 130, 150, 170, 190}, window{70, 130}},
		"until the end":             {[]time.Duration{90, 110, 130}, window{130, 200}},
		"in the middle":             {[]time.Duration{95, 110, 180, 199}, window{110, 180}},
		"what is outside is no gap": {[]time.Duration{0, 90, 110, 130, 150, 170, 190, 300}, window{90, 110}},
	} {
		if got := longest(c.moments, window{100, 200}); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestStalls(t *testing.T) {
	r := Report{gap: window{100, 150}}
	r.stalls([]lateness{{90, 5}, {102, 7}, {140, 3}, {160, 12}, {180, 20}, {300, 90}}, window{80, 200})
	if r.Late != 20 || r.Stall != 12 {
		t.Errorf("got late %d, in the gap %d; want 20, 12", r.Late, r.Stall)
	}
}

func TestRequests(t *testing.T) {
	var r Report
	r.requests([]probe{
		{start: 10, end: 11, outcome: answered, node: 0}, // before
		{start: 95, end: 101, outcome: answered, node: 0},
		{start: 100, end: 130, outcome: answered, node: 1}, // begun first, ended last
		{start: 96, end: 102, outcome: reset},
		{start: 110, end: 112, outcome: refused},
		{start: 120, end: 140, outcome: answered, node: 0},
		{start: 150, end: 950, outcome: silent},
		{start: 201, end: 202, outcome: answered, node: 2}, // after
	}, window{100, 200}, func(i int) string { return string(rune('a' + i)) })
	if r.Requests != 6 || r.Answered != 3 || r.Reset != 1 || r.Refused != 1 || r.Lost != 1 {
		t.Errorf("got %+v, want 6 requests: 3 answered, one reset, one refused, one lost", r)
	}
	if r.First != 30 {
		t.Errorf("first answer: got %d, want 30: those that were under way do not count", r.First)
	}
	if want := []string{"a", "b", "a"}; !slices.Equal(r.AnsweredBy, want) {
		t.Errorf("answered by %v, want %v", r.AnsweredBy, want)
	}
}

func TestMoves(t *testing.T) {
	var r Report
	yes := func(start time.Duration, client uint8, server int8) probe {
		return probe{start: start, end: start + 1, outcome: answered, client: client, server: server}
	}
	r.moves([]probe{
		yes(10, 1, 0), yes(20, 1, 1), yes(30, 2, 0), yes(40, 3, 0),
		{start: 50, end: 51, outcome: refused, client: 4},
		yes(110, 1, 1), yes(120, 2, 2), yes(130, 2, 2), yes(140, 4, 0), yes(150, 2, 0),
		yes(210, 3, 2), // after the time that is looked at
	}, window{100, 200})
	if r.Clients != 2 || r.Moved != 1 {
		t.Errorf("got %d clients, %d moved; want 2 known before and seen since, one of them moved", r.Clients, r.Moved)
	}
}

func TestOwners(t *testing.T) {
	var all []answers
	for at, nodes := range []uint8{1, 1, 0, 2, 3, 3, 2, 2, 1} {
		all = appendAnswer(all, question{time.Duration(at) * askEvery, nodes})
	}
	if len(all) != 6 {
		t.Fatalf("got %d rows, want 6", len(all))
	}
	name := func(i int) string { return string(rune('a' + i)) }
	var r Report
	r.owners(all, window{0, time.Second}, name)
	if r.Doubles != 2 || r.Overlap != 2*askEvery {
		t.Errorf("got %d doubles in %v, want 2 in %v", r.Doubles, r.Overlap, 2*askEvery)
	}
	if want := []string{"a", "b", "a", "b", "a"}; !slices.Equal(r.Owners, want) {
		t.Errorf("got %v, want %v", r.Owners, want)
	}
	for at, want := range map[time.Duration][]string{
		0: {"a"}, askEvery: {"a"}, 2 * askEvery: nil, 2*askEvery + tick: nil, 4*askEvery + tick: {"a", "b"},
	} {
		if got := ownersAt(all, at, name); !slices.Equal(got, want) {
			t.Errorf("at %v: got %v, want %v", at, got, want)
		}
	}
	r = Report{}
	r.owners(all, window{5 * askEvery, 5 * askEvery}, name)
	if r.Doubles != 1 {
		t.Errorf("in a part of the time: got %d doubles, want 1", r.Doubles)
	}
}

func TestWithout(t *testing.T) {
	at := func(ms int, node int, has bool) addressChange {
		return addressChange{time.Duration(ms) * time.Millisecond, node, has}
	}
	all := []addressChange{at(100, 0, true), at(500, 0, false), at(530, 0, true), at(700, 1, true), at(800, 0, false), at(900, 1, false), at(960, 1, true), at(1500, 1, false)}
	for _, c := range []struct{ from, to, want int }{
		{200, 1000, 60}, {200, 850, 30}, {0, 400, 100}, {600, 890, 0}, {940, 1000, 20}, {1400, 2000, 500}, {1600, 1700, 100}, {510, 520, 10},
	} {
		got := without(all, window{time.Duration(c.from) * time.Millisecond, time.Duration(c.to) * time.Millisecond})
		if got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("from %d to %d ms: %v, want %d ms", c.from, c.to, got, c.want)
		}
	}
}
