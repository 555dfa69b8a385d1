package cluster

import (
	"testing"
	"time"
)

// The tables count in milliseconds after the start, with a heartbeat timeout of
// 200 and so a lease of 100.

var t0 = time.Unix(1_000_000, 0)

func at(n int) time.Time { return t0.Add(time.Duration(n) * ms) }

func since(t time.Time) int { return int(t.Sub(t0) / ms) }

func testRules() *rules { return newRules(t0, 200*ms, 200*ms) }

func TestWhenAVoteMayLeave(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *rules)
		want int
	}{
		{"after a start, silence for one timeout", func(*rules) {}, 200},
		{"a leader was heard", func(r *rules) { r.hear(at(500), "a", 3, 3) }, 700},
		{"a leader of a newer term was heard", func(r *rules) { r.hear(at(500), "a", 4, 3) }, 700},
		{"a leader of an old term counts for nothing", func(r *rules) { r.hear(at(500), "a", 2, 3) }, 200},
		{"it was released", func(r *rules) { r.hear(at(500), "a", 3, 3); r.release(at(510), 3, "", "me") }, 200},
		{"an earlier term was released", func(r *rules) { r.hear(at(500), "a", 3, 3); r.release(at(510), 2, "", "me") }, 700},
		{"a release does not end the silence after a start", func(r *rules) { r.hear(at(20), "a", 3, 3); r.release(at(30), 3, "", "me") }, 200},
		{"its process is gone: the lease and the margin for clocks", func(r *rules) { r.hear(at(500), "a", 3, 3); r.lose("a") }, 606},
		{"another process is gone", func(r *rules) { r.hear(at(500), "a", 3, 3); r.lose("b") }, 700},
		{"it was gone and is back", func(r *rules) { r.hear(at(500), "a", 3, 3); r.lose("a"); r.hear(at(550), "a", 4, 3) }, 750},
		{"the own lease", func(r *rules) {
			r.acked("a", 3, at(500))
			r.renew(at(501), "me", 3, []string{"me", "a", "b"})
		}, 600},
		{"the own lease, released", func(r *rules) {
			r.acked("a", 3, at(500))
			r.renew(at(501), "me", 3, []string{"me", "a", "b"})
			r.release(at(510), 3, "", "me")
		}, 200},
	} {
		r := testRules()
		if c.do(r); since(r.opens()) != c.want {
			t.Errorf("%s: a vote may leave at %d, want %d", c.name, since(r.opens()), c.want)
		}
	}
}

func TestWhenToAsk(t *testing.T) {
	for _, c := range []struct {
		name   string
		before int
		do     func(r *rules)
		want   int
	}{
		{"silence", 0, func(r *rules) { r.hear(at(500), "a", 3, 3) }, 700},
		{"silence, second in rank", 1, func(r *rules) { r.hear(at(500), "a", 3, 3) }, 715},
		{"released", 0, func(r *rules) { r.hear(at(500), "a", 3, 3); r.release(at(510), 3, "", "me") }, 510},
		{"released, second in rank", 1, func(r *rules) { r.hear(at(500), "a", 3, 3); r.release(at(510), 3, "", "me") }, 525},
		{"released, and heard once more", 0, func(r *rules) {
			r.hear(at(500), "a", 3, 3)
			r.release(at(510), 3, "", "me")
			r.hear(at(512), "a", 3, 3)
		}, 510},
		{"released to another, and heard once more", 0, func(r *rules) {
			r.hear(at(500), "a", 3, 3)
			r.release(at(510), 3, "b", "me")
			r.hear(at(512), "a", 3, 3)
		}, 712},
		{"yes was said to one whom raft refused then", 0, func(r *rules) {
			r.hear(at(500), "a", 3, 3)
			r.answer(at(700), "b", false)
			r.takeBack()
		}, 700},
		{"yes was said to one who leads by now", 0, func(r *rules) {
			r.hear(at(500), "a", 3, 3)
			r.answer(at(700), "b", false)
			r.hear(at(705), "b", 4, 4)
			r.release(at(710), 4, "", "me")
		}, 710},
		{"released to this node", 0, func(r *rules) { r.hear(at(500), "a", 3, 3); r.release(at(510), 3, "me", "me") }, 510},
		{"released to another", 0, func(r *rules) { r.hear(at(500), "a", 3, 3); r.release(at(510), 3, "b", "me") }, 700},
		{"released, but there is a later leader", 0, func(r *rules) { r.hear(at(500), "b", 4, 4); r.release(at(510), 3, "", "me") }, 700},
		{"gone", 0, func(r *rules) { r.hear(at(500), "a", 3, 3); r.lose("a") }, 606},
		{"a vote was granted", 0, func(r *rules) { r.hear(at(500), "a", 3, 3); r.restart(at(705)) }, 905},
		{"yes was said to another", 0, func(r *rules) { r.hear(at(500), "a", 3, 3); r.answer(at(700), "b", false) }, 740},
		{"no was heard", 0, func(r *rules) { r.hear(at(500), "a", 3, 3); r.ask(); r.asked(at(710), false) }, 730},
	} {
		r := testRules()
		if c.do(r); since(r.due(c.before)) != c.want {
			t.Errorf("%s: due at %d, want %d", c.name, since(r.due(c.before)), c.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	quiet := func() *rules { r := testRules(); r.hear(at(500), "a", 3, 3); return r }
	if r := quiet(); r.answer(at(699), "b", false) {
		t.Error("yes while the leader may have a lease")
	}
	r := quiet()
	if !r.answer(at(700), "b", true) || !r.answer(at(710), "b", true) {
		t.Error("no to the one it said yes to")
	}
	if r.answer(at(711), "c", true) || !r.answer(at(750), "c", true) {
		t.Error("a yes binds for 40 ms, not less or more")
	}
	r = quiet()
	r.ask()
	if r.answer(at(700), "b", true) {
		t.Error("the better rank gave way")
	}
	if !r.answer(at(700), "b", false) {
		t.Error("the lesser rank did not give way")
	}
	if r.asked(at(701), true) {
		t.Error("it stands although it has just said yes to another")
	}
	r = quiet()
	r.ask()
	r.hear(at(702), "a", 3, 3)
	if r.asked(at(703), true) {
		t.Error("it stands although the leader has spoken")
	}
	r = quiet()
	r.ask()
	if !r.asked(at(703), true) || since(r.since) != 703 {
		t.Error("it does not stand although all say yes")
	}
}

func TestLease(t *testing.T) {
	three, five := []string{"me", "a", "b"}, []string{"me", "a", "b", "c", "d"}
	for _, c := range []struct {
		name   string
		voters []string
		do     func(r *rules)
		want   int // 0: none
	}{
		{"nobody has acknowledged", three, func(*rules) {}, 0},
		{"one of three, from when it was sent", three, func(r *rules) { r.acked("a", 3, at(500)) }, 600},
		{"the newer of two", three, func(r *rules) { r.acked("a", 3, at(500)); r.acked("b", 3, at(520)) }, 620},
		{"an older reply comes later", three, func(r *rules) { r.acked("a", 3, at(520)); r.acked("a", 3, at(500)) }, 620},
		{"of another term", three, func(r *rules) { r.acked("a", 2, at(500)) }, 0},
		{"of one that does not vote", three, func(r *rules) { r.acked("x", 3, at(500)) }, 0},
		{"one of five", five, func(r *rules) { r.acked("a", 3, at(500)) }, 0},
		{"the second newest of five", five, func(r *rules) {
			r.acked("a", 3, at(500))
			r.acked("b", 3, at(510))
			r.acked("c", 3, at(505))
		}, 605},
		{"a voter that promises less", three, func(r *rules) { r.timeouts["b"] = 100 * ms; r.acked("a", 3, at(500)) }, 550},
		{"a voter that promises more", three, func(r *rules) { r.timeouts["b"] = 900 * ms; r.acked("a", 3, at(500)) }, 600},
		{"alone", []string{"me"}, func(*rules) {}, 630},
		{"itself without a vote", []string{"a", "b", "c"}, func(r *rules) { r.acked("a", 3, at(500)) }, 0},
		{"it was released", three, func(r *rules) { r.acked("a", 3, at(500)); r.release(at(501), 3, "", "me") }, 0},
	} {
		r := testRules()
		c.do(r)
		l := r.renew(at(530), "me", 3, c.voters)
		if got := r.lease(at(530), true, 3); got.Valid != (c.want != 0) || got.Valid && since(l.Until) != c.want {
			t.Errorf("%s: %v until %d, want %d", c.name, got.Valid, since(l.Until), c.want)
		}
	}
}

func TestLeaseEnds(t *testing.T) {
	r := testRules()
	r.acked("a", 3, at(500))
	r.renew(at(501), "me", 3, []string{"me", "a", "b"})
	for _, c := range []struct {
		name  string
		now   int
		leads bool
		term  uint64
		want  bool
	}{
		{"in time", 599, true, 3, true},
		{"over", 600, true, 3, false},
		{"not leader", 550, false, 3, false},
		{"another term", 550, true, 4, false},
	} {
		if got := r.lease(at(c.now), c.leads, c.term).Valid; got != c.want {
			t.Errorf("%s: valid %v", c.name, got)
		}
	}
	// While it is given away it is over for this node, and does not grow.
	r.own.Handing = true
	r.acked("a", 3, at(550))
	r.renew(at(551), "me", 3, []string{"me", "a", "b"})
	if l := r.lease(at(551), true, 3); l.Valid || !l.Handing || since(l.Until) != 600 {
		t.Errorf("handing over: %+v", l)
	}
	// What was given away comes back in another term only.
	r.release(at(560), 3, "", "me")
	r.acked("a", 3, at(570))
	r.renew(at(571), "me", 3, []string{"me", "a", "b"})
	if r.lease(at(571), true, 3).Valid {
		t.Error("a released term came back")
	}
	r.acked("a", 4, at(580))
	r.renew(at(581), "me", 4, []string{"me", "a", "b"})
	if l := r.lease(at(581), true, 4); !l.Valid || l.Handing {
		t.Errorf("the next term: %+v", l)
	}
}
