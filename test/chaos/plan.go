package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// role says whom a fault strikes: nodes are told apart by what they are when the
// round begins.
type role uint8

const (
	nobody role = iota // it needs no node, or all of them
	holder
	second // the first of the others
	third
)

func (r role) String() string { return [...]string{"", "holder", "second", "third"}[r] }

// strike is one fault: when it begins within its round, and how long it lasts.
type strike struct {
	number int // from 1, in the whole plan
	kind   *kind
	role   role
	at     time.Duration
	lasts  time.Duration
	draw   uint64 // what else is random in it
}

func (s strike) String() string {
	text := s.kind.name
	if s.role != nobody {
		text += ", " + s.role.String()
	}
	if s.lasts > 0 {
		text += fmt.Sprintf(", for %d ms", s.lasts.Milliseconds())
	}
	return fmt.Sprintf("%s (at %d ms)", text, s.at.Milliseconds())
}

// round is a few faults that overlap. After it the cluster has to be well.
type round struct {
	episode int
	strikes []strike
}

// has tells whether a fault of that kind is in it.
func (r round) has(kind string) bool {
	return slices.ContainsFunc(r.strikes, func(s strike) bool { return s.kind.name == kind })
}

// episode is a part of a plan that has a cluster of its own.
type episode struct {
	number  int
	witness bool
	rounds  []round
}

// Sizes of the parts of a plan.
const (
	perEpisode = 100 // faults
	witnessed  = 4   // each so many-th episode has a witness
)

// planOf is a pure function of the seed. A longer plan begins as a shorter one.
func planOf(seed uint64, faults int) (episodes []episode) {
	r := rand.New(rand.NewPCG(seed, 0x70656e))
	for number := 0; number < faults; {
		e := episode{number: len(episodes) + 1}
		e.witness = e.number%witnessed == 0
		for end := min(number+perEpisode, faults); number < end; {
			next := roundOf(r, e.witness)
			next.episode = e.number
			for i := range next.strikes {
				number++
				next.strikes[i].number = number
			}
			e.rounds = append(e.rounds, next)
		}
		episodes = append(episodes, e)
	}
	return episodes
}

// roundOf draws one fault, or up to three that overlap.
func roundOf(r *rand.Rand, witness bool) round {
	first := strikeOf(r, witness, false)
	all := []strike{first}
	roles := r.Perm(3)
	if !first.kind.alone {
		for range r.IntN(3) {
			s := strikeOf(r, witness, true)
			s.at = between(r, 0, all[len(all)-1].lasts+200*time.Millisecond) + all[len(all)-1].at
			all = append(all, s)
		}
	}
	aim(all, roles)
	return round{strikes: all}
}

// aim gives each fault a node of its own: what a process suffers twice at once it
// suffers once. What only a holder can suffer has the first choice.
func aim(all []strike, roles []int) {
	free := map[role]bool{holder: true, second: true, third: true}
	for i := range all {
		all[i].role = nobody
		if all[i].kind.atHolder && free[holder] {
			all[i].role, free[holder] = holder, false
		}
	}
	for i := range all {
		for _, n := range roles {
			if who := holder + role(n); all[i].kind.aimed && all[i].role == nobody && free[who] {
				all[i].role, free[who] = who, false
			}
		}
	}
}

// strikeOf draws a kind by its weight.
func strikeOf(r *rand.Rand, witness, beside bool) strike {
	fits := func(k *kind) bool {
		return (!beside || !k.alone && !k.first) && (!witness || !k.full)
	}
	total := 0
	for i := range kinds {
		if fits(&kinds[i]) {
			total += kinds[i].weight
		}
	}
	n := r.IntN(total)
	for i := range kinds {
		k := &kinds[i]
		if !fits(k) {
			continue
		}
		if n -= k.weight; n < 0 {
			return strike{kind: k, lasts: between(r, k.least, k.most), draw: r.Uint64()}
		}
	}
	panic("the weights do not add up")
}

// between is a time in whole milliseconds.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(r.Int64N((most-least).Milliseconds()+1))*time.Millisecond
}
