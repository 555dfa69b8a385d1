//go:build linux

package main

import (
	"slices"
	"sync"
	"time"
)

// tally is what is counted over all episodes.
type tally struct {
	mu         sync.Mutex // guards the rest
	faults     int
	rounds     int
	clusters   [pair + 1]int // rounds
	overlapped int           // rounds with more than one fault
	kinds      map[string]*kindTally
	healing    []time.Duration // from the last healing until the cluster was well
	worst      []time.Duration // without a holder where one was due, per round
	void       int
	dues       int
	visits     int
	stall      time.Duration // the longest of an observer
	stalls     int
	writes     writes
	violations []string
}

// kindTally is about the rounds with faults of a kind.
type kindTally struct {
	count int
	gaps  []time.Duration // without an answer to any client, where nothing else happened
}

func newTally() *tally { return &tally{kinds: map[string]*kindTally{}} }

func (t *tally) round(r round, v verdict, from, healed, to time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rounds++
	for _, s := range r.strikes {
		t.faults++
		k := t.kinds[s.kind.name]
		if k == nil {
			k = &kindTally{}
			t.kinds[s.kind.name] = k
		}
		k.count++
		if len(r.strikes) == 1 {
			k.gaps = append(k.gaps, v.gap(from, to))
		}
	}
	if len(r.strikes) > 1 {
		t.overlapped++
	}
	t.healing = append(t.healing, to.Sub(healed))
	t.worst = append(t.worst, v.worst.length())
	t.void += v.void
	t.dues += v.dues
	t.visits += len(v.answered)
	t.stalls += len(v.stalls)
	for _, s := range v.stalls {
		t.stall = max(t.stall, s.By)
	}
}

// add takes over what a writer has counted.
func (t *tally) add(w writes) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writes.done += w.done
	t.writes.refused += w.refused
	t.writes.unknown += w.unknown
	t.writes.reads += w.reads
	t.writes.local += w.local
}

// quantile of durations; 0: there are none.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
