//go:build linux

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
	number int
	lineup lineup
	rounds []round
}

// dual tells whether there is an address of IPv6, too.
func (e episode) dual() bool { return e.lineup == three && e.number%2 == 1 }

// lineup is what a plan is played on.
type lineup uint8

const (
	three   lineup = iota
	witness        // two nodes and a witness
	pair           // two nodes, which decide by evidence when one is gone
)

func (c lineup) String() string {
	return [...]string{"three nodes", "two nodes and a witness", "two nodes with fallback"}[c]
}

// nodes is how many it has.
func (c lineup) nodes() int {
	if c == pair {
		return 2
	}
	return 3
}

// Sizes of the parts of a plan.
const (
	perEpisode = 100 // faults
	perPair    = 30  // of an episode with two nodes, where many of them take seconds
	witnessed  = 4   // each so many-th episode has a witness
	paired     = 5   // each so many-th episode has two nodes
)

// clusterOf is what the episodes are played on.
func clusterOf(episode int) (c lineup, faults int) {
	switch {
	case episode%paired == 0:
		return pair, perPair
	case episode%witnessed == 0:
		return witness, perEpisode
	}
	return three, perEpisode
}

// planOf is a pure function of the seed. A longer plan begins as a shorter one.
func planOf(seed uint64, faults int) (episodes []episode) {
	r := rand.New(rand.NewPCG(seed, 0x70656e))
	for number := 0; number < faults; {
		e := episode{number: len(episodes) + 1}
		size := 0
		e.lineup, size = clusterOf(e.number)
		for end := min(number+size, faults); number < end; {
			next := roundOf(r, e.lineup)
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
func roundOf(r *rand.Rand, c lineup) round {
	first := strikeOf(r, c, false)
	all := []strike{first}
	roles := r.Perm(c.nodes())
	if !first.kind.alone {
		for range r.IntN(3) {
			s := strikeOf(r, c, true)
			s.at = between(r, 0, all[len(all)-1].lasts+200*time.Millisecond) + all[len(all)-1].at
			all = append(all, s)
		}
	}
	aim(all, roles)
	return round{strikes: slices.DeleteFunc(all, func(s strike) bool { return s.kind.aimed && s.role == nobody })}
}

// aim gives each fault a node of its own: what a process suffers twice at once it
// suffers once. What only a holder can suffer has the first choice. Where there are
// more faults than nodes, some get none.
func aim(all []strike, roles []int) {
	free := map[role]bool{}
	for _, n := range roles {
		free[holder+role(n)] = true
	}
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
func strikeOf(r *rand.Rand, c lineup, beside bool) strike {
	fits := func(k *kind) bool {
		return (!beside || !k.alone && !k.first) && k.in(c)
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
