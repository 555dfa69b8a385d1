//go:build linux

package main

import (
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pen/test/lab"
)

func row(from, to int, nodes ...string) lab.Answer {
	return lab.Answer{Nodes: nodes, From: at(from), To: at(to), Questions: 1}
}

func visit(client int, server string, when int) lab.Visit {
	return lab.Visit{Client: client, Server: server, Node: "pen1", Began: at(when), Ended: at(when + 1)}
}

func TestJudge(t *testing.T) {
	due := []duty{{span: span{at(0), at(3000)}}}
	whole := row(0, 3000, "pen1")
	for name, c := range map[string]struct {
		sight lab.Sight
		dues  []duty
		want  string // empty: nothing is wrong
		void  int
	}{
		"all is well":             {lab.Sight{Answers: []lab.Answer{whole}}, due, "", 0},
		"two answer":              {lab.Sight{Answers: []lab.Answer{whole, row(10, 10, "pen1", "pen2")}}, due, "two nodes answered for the address: pen1 and pen2", 0},
		"nobody, and none is due": {lab.Sight{}, nil, "", 0},
		"nobody":                  {lab.Sight{}, due, "nobody held the address for 3000 ms", 0},
		"nobody for 800 ms":       {lab.Sight{Answers: []lab.Answer{row(800, 1000, "pen1"), row(1000, 1700), row(1800, 3000, "pen2")}}, due, "", 0},
		"nobody for 801 ms":       {lab.Sight{Answers: []lab.Answer{row(0, 1000, "pen1"), row(1801, 3000, "pen2")}}, due, "nobody held the address for 801 ms", 0},
		"nobody at the end":       {lab.Sight{Answers: []lab.Answer{row(0, 2000, "pen1")}}, due, "nobody held the address for 1000 ms", 0},
		"the observer slept": {lab.Sight{
			Answers: []lab.Answer{row(0, 1000, "pen1"), row(1900, 3000, "pen2")},
			Stalls:  []lab.Stall{{At: at(1500), By: 150 * ms}},
		}, due, "", 1},
		"the observer slept at another time": {lab.Sight{
			Answers: []lab.Answer{row(0, 1000, "pen1"), row(1900, 3000, "pen2")},
			Stalls:  []lab.Stall{{At: at(2500), By: 150 * ms}},
		}, due, "nobody held the address for 900 ms", 0},
		"a client is moved":     {lab.Sight{Visits: []lab.Visit{visit(1, "web1", 10), visit(1, "web1", 1100), visit(1, "web2", 2100)}}, nil, "client 1, at web1 since", 0},
		"a new client is moved": {lab.Sight{Visits: []lab.Visit{visit(1, "web1", 10), visit(1, "web2", 1000)}}, nil, "", 0},
		"blind":                 {lab.Sight{Err: errBlind}, nil, "not to be trusted", 0},
	} {
		j := judge{limit: holdTime, since: at(0)}
		v := j.look(c.sight, c.dues, nil, at(3000))
		got := strings.Join(v.wrong, "\n")
		if !strings.Contains(got, c.want) || (c.want == "") != (got == "") || v.void != c.void {
			t.Errorf("%s: got %q and %d void, want %q and %d", name, got, v.void, c.want, c.void)
		}
	}
}

type blind struct{}

func (blind) Error() string { return "blind" }

var errBlind = blind{}

func TestForgottenClientsMayMove(t *testing.T) {
	j := judge{limit: holdTime}
	j.look(lab.Sight{Visits: []lab.Visit{visit(1, "web1", 10)}}, nil, nil, at(100))
	j.forget()
	j.born = at(3000)
	s := lab.Sight{Visits: []lab.Visit{visit(1, "web1", 2900), visit(1, "web2", 3100)}}
	if v := j.look(s, nil, nil, at(4000)); len(v.wrong) > 0 {
		t.Errorf("got %q: it is another cluster", v.wrong)
	}
}

func TestHolderIsDue(t *testing.T) {
	for name, c := range map[string]struct {
		witness bool
		do      func(w *world)
		want    bool
	}{
		"all are well":                             {false, func(*world) {}, true},
		"one is away":                              {false, func(w *world) { w.nodes[0].running = false }, true},
		"two are away":                             {false, func(w *world) { w.nodes[0].running, w.nodes[2].linked = false, false }, false},
		"one is away, one has come back":           {false, func(w *world) { w.nodes[0].running, w.nodes[2].sure = false, false }, false},
		"all apart":                                {false, func(w *world) { w.cuts[1] = []way{{0, 1}, {1, 2}, {2, 0}} }, false},
		"two apart":                                {false, func(w *world) { w.cuts[1] = []way{{0, 1}, {1, 0}} }, true},
		"two apart, the third is away":             {false, func(w *world) { w.cuts[1], w.nodes[2].running = []way{{1, 0}}, false }, false},
		"two are drained, and are enough":          {false, func(w *world) { w.nodes[0].drained, w.nodes[1].drained, w.nodes[2].running = true, true, false }, false},
		"two are drained, the third not":           {false, func(w *world) { w.nodes[0].drained, w.nodes[1].drained = true, true }, true},
		"a witness and one":                        {true, func(w *world) { w.nodes[0].running = false }, true},
		"a witness and a drained one":              {true, func(w *world) { w.nodes[0].running, w.nodes[1].drained = false, true }, false},
		"one is unfit, one is away, and a witness": {true, func(w *world) { w.nodes[0].running, w.nodes[1].unfit = false, true }, false},
		"something is being done":                  {false, func(w *world) { w.busy = 1 }, false},
	} {
		of := three
		if c.witness {
			of = witness
		}
		w := newWorld(of)
		from := time.Now()
		w.note(func() {
			for i := range w.nodes {
				w.nodes[i].sure = true
			}
			c.do(w)
		})
		if got := len(w.dues(from, time.Now())) > 0; got != c.want {
			t.Errorf("%s: got due %t, want %t", name, got, c.want)
		}
	}
}

func TestTwoClustersAreNoticed(t *testing.T) {
	led := func(formation string) status { return status{Formation: formation, Leader: "x", Quorum: true} }
	for name, c := range map[string]struct {
		all  []status
		want bool
	}{
		"one":                       {[]status{led("a"), led("a"), led("a")}, false},
		"two":                       {[]status{led("a"), led("b"), {}}, true},
		"one that leads nobody":     {[]status{led("a"), {Formation: "b"}, led("a")}, false},
		"one that can not be asked": {[]status{led("a"), {Formation: "b", Leader: "x", Quorum: true, err: errBlind}}, false},
	} {
		if got := twoClusters(c.all); (got != "") != c.want {
			t.Errorf("%s: got %q, want two: %t", name, got, c.want)
		}
	}
}

func TestTwoNodes(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(w *world)
		want need
	}{
		"both are well":                     {func(*world) {}, soon},
		"the other is away":                 {func(w *world) { w.nodes[1].running = false }, soon},
		"the holder is away":                {func(w *world) { w.nodes[0].running = false }, late},
		"the holder is away, who?":          {func(w *world) { w.keeper, w.nodes[1].linked = -1, false }, late},
		"apart":                             {func(w *world) { w.cuts[1] = []way{{0, 1}, {1, 0}} }, soon},
		"apart, the holder alone":           {func(w *world) { w.cuts[1] = []way{{0, 1}, {1, 0}, {0, gatewaySide}} }, late},
		"only the holder can not hear":      {func(w *world) { w.cuts[1] = []way{{1, 0}, {gatewaySide, 0}} }, none},
		"the port is cut off":               {func(w *world) { w.muted = true }, soon},
		"the port is cut off, who holds?":   {func(w *world) { w.muted, w.keeper = true, -1 }, none},
		"the other has just come back":      {func(w *world) { w.nodes[1].sure = false }, soon},
		"both have just come back":          {func(w *world) { w.nodes[0].sure, w.nodes[1].sure = false, false }, none},
		"the holder is back, and was apart": {func(w *world) { w.joined = false }, soon},
	} {
		w := newWorld(pair)
		w.note(func() {
			w.nodes[0].sure, w.nodes[1].sure, w.keeper = true, true, 0
			c.do(w)
		})
		if got := w.phases[len(w.phases)-1].due; got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

// Only a network that is cut in two for long excuses two that answer, and only
// while it lasts and a second after it.
func TestTwoMayAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(pair)
		begin := time.Now()
		cut := func(ways ...way) { w.note(func() { w.cuts[1] = ways }) }
		for _, c := range []struct {
			lasts time.Duration
			ways  []way
			want  []span
		}{
			{2 * time.Second, []way{{0, 1}, {1, 0}}, nil},
			{4 * time.Second, []way{{0, gatewaySide}}, nil},
			{4 * time.Second, []way{{0, 1}}, []span{{begin.Add(9 * time.Second), begin.Add(11 * time.Second)}}},
		} {
			cut(c.ways...)
			time.Sleep(c.lasts)
			cut()
			if got := w.excuses(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v for %v: got %v, want %v", c.ways, c.lasts, got, c.want)
			}
		}
		time.Sleep(healing + 1)
		w.excuses()
		if got := w.excuses(); len(got) > 0 {
			t.Errorf("got %v later", got)
		}
	})
}
