package proxy

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"pen/state"
)

// Whatever the settings and whatever happens, a trial ends after one round, no
// limit is passed, and every place that was taken is given back.
func TestTrialsKeepTheirRules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 5).Draw(rt, "servers")
		w := newWorld(t, n)
		small := rapid.IntRange(-1, 3)
		all := []int{state.Emergency, state.Abuse}
		for i := range n {
			all = append(all, i)
		}
		for _, i := range all {
			if i < 0 && rapid.Bool().Draw(rt, "without") {
				continue
			}
			soft, hard := small.Draw(rt, "soft"), small.Draw(rt, "hard")
			weight, prio, acl := small.Draw(rt, "weight"), small.Draw(rt, "prio"), small.Draw(rt, "acl")
			w.server(i, func(s *state.Server) {
				s.Soft, s.Hard, s.Weight, s.Prio, s.ACL = soft, hard, weight, prio, state.Numbered(acl)
			}, state.FieldSoft|state.FieldHard|state.FieldWeight|state.FieldPrio|state.FieldACL)
		}
		w.deny(1, clientN(1).String())
		w.deny(2, clientN(2).String())
		for _, o := range []state.Option{state.OptWeight, state.OptPrio, state.OptRoundRobin, state.OptStubborn} {
			w.set(o, state.Bool(rapid.IntRange(0, 3).Draw(rt, o.String()) == 0))
		}
		w.set(state.OptHash, state.Int(rapid.IntRange(0, 2).Draw(rt, "hash")))
		w.set(state.OptBlacklist, state.Int(rapid.SampledFrom([]int{0, 30}).Draw(rt, "blacklist")))
		w.set(state.OptClientACL, state.Int(rapid.IntRange(0, 2).Draw(rt, "client_acl")))

		type link struct {
			v     *server
			trial trial
			who   int
			open  bool
		}
		var links []*link
		drop := func(i int) { links = append(links[:i], links[i+1:]...) }
		advance := func(l *link) bool {
			tg, ok := w.next(&l.trial, clientN(l.who), w.now)
			if !ok {
				return false
			}
			l.v = tg.server
			seat := w.plan.Load().seat(l.v.index)
			if got, most := l.v.places.Load(), int64(max(seat.soft, seat.hard)); seat.soft != 0 && got > most {
				rt.Fatalf("server %d has %d places taken, at most %d", l.v.index, got, most)
			}
			w.attempting(&l.trial, l.v, clientN(l.who), w.now)
			return true
		}
		rt.Repeat(map[string]func(*rapid.T){
			"come": func(t *rapid.T) {
				l := &link{who: rapid.IntRange(0, 4).Draw(t, "client")}
				l.trial = w.begin(clientN(l.who), 1, w.now)
				if advance(l) {
					links = append(links, l)
				}
			},
			"happen": func(t *rapid.T) {
				if len(links) == 0 {
					t.Skip("nobody is there")
				}
				i := rapid.IntRange(0, len(links)-1).Draw(t, "link")
				l := links[i]
				switch what := rapid.IntRange(0, 3).Draw(t, "what"); {
				case l.open:
					w.release(l.v)
					drop(i)
				case what == 0:
					w.abandon(l.v)
					drop(i)
				case what == 1:
					w.connected(l.v, w.now)
					l.open = true
				default:
					for tries := 1; ; tries++ {
						if tries > n+2 {
							t.Fatal("a trial of more than one round")
						}
						w.failed(l.v, errors.New("refused"), w.now)
						if !advance(l) {
							drop(i)
							break
						}
					}
				}
			},
			"wait": func(t *rapid.T) { w.now += state.Time(rapid.IntRange(0, 40_000).Draw(t, "ms")) },
			"": func(t *rapid.T) {
				places, pending := map[*server]int64{}, int64(0)
				for _, l := range links {
					places[l.v]++
					if !l.open {
						pending++
					}
				}
				for _, i := range all {
					if seat := w.plan.Load().seat(i); seat != nil && seat.server.places.Load() != places[seat.server] {
						t.Fatalf("server %d has %d places taken, want %d", i, seat.server.places.Load(), places[seat.server])
					}
				}
				if w.pending.Load() != pending {
					t.Fatalf("%d attempts under way, want %d", w.pending.Load(), pending)
				}
			},
		})
	})
}
