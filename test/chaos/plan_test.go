//go:build linux

package main

import (
	"fmt"
	"reflect"
	"testing"
)

// text is a plan as it is printed.
func text(plan []episode) (lines []string) {
	for _, e := range plan {
		for _, r := range e.rounds {
			for _, s := range r.strikes {
				lines = append(lines, fmt.Sprintf("%d %v %d %v %x", e.number, e.lineup, s.number, s, s.draw))
			}
		}
	}
	return lines
}

func TestSeedGivesThePlan(t *testing.T) {
	one, again := text(planOf(7, 1000)), text(planOf(7, 1000))
	if len(one) < 1000 || len(one) > 1002 {
		t.Errorf("got %d faults, want 1000 and what completes a round", len(one))
	}
	if !reflect.DeepEqual(one, again) {
		t.Error("the same seed gave two plans")
	}
	if reflect.DeepEqual(one, text(planOf(8, 1000))) {
		t.Error("two seeds gave the same plan")
	}
}

func TestShorterPlanIsTheBeginning(t *testing.T) {
	whole, part := text(planOf(7, 1000)), text(planOf(7, 60))
	if len(part) < 60 || !reflect.DeepEqual(part, whole[:len(part)]) {
		t.Errorf("got %q", part)
	}
}

func TestEveryKindOccurs(t *testing.T) {
	all := map[string]int{}
	for seed := range uint64(20) {
		seen := map[string]int{}
		for _, e := range planOf(seed+1, 1000) {
			for _, r := range e.rounds {
				for _, s := range r.strikes {
					seen[s.kind.name]++
				}
			}
		}
		for i := range kinds {
			all[kinds[i].name] += seen[kinds[i].name]
			if seen[kinds[i].name] == 0 && !kinds[i].pair { // of those with two nodes there are few
				t.Errorf("seed %d: %q does not occur", seed+1, kinds[i].name)
			}
		}
	}
	for i := range kinds {
		if all[kinds[i].name] < 10 {
			t.Errorf("%q occurs %d times in 20 plans", kinds[i].name, all[kinds[i].name])
		}
	}
}

func TestRoundsAreAsTheirKindsWant(t *testing.T) {
	for _, e := range planOf(3, 3000) {
		for _, r := range e.rounds {
			struck := map[role]bool{}
			for i, s := range r.strikes {
				k := s.kind
				switch {
				case k.alone && len(r.strikes) > 1:
					t.Errorf("%v: not alone", s)
				case k.first && i > 0:
					t.Errorf("%v: not the first", s)
				case !k.in(e.lineup):
					t.Errorf("%v: in a cluster of %v", s, e.lineup)
				case k.atHolder && s.role != holder, k.aimed != (s.role != nobody), k.aimed && struck[s.role], int(s.role) > e.lineup.nodes():
					t.Errorf("%v: the wrong node in %v", s, r.strikes)
				case s.lasts < k.least || s.lasts > k.most:
					t.Errorf("%v: want between %v and %v", s, k.least, k.most)
				}
				struck[s.role] = true
			}
		}
	}
}
