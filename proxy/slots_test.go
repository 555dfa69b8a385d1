package proxy

import (
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// The script was recorded from the original with 6 connections: who opens gets
// the slot behind the letter, minus closes.
func TestSlotsAreTakenInTheOriginalsOrder(t *testing.T) {
	const script = "a0 b1 c2 d3 -b e4 -a f5 g0 -c -d h1 i2 j3 -h -i k1 l2 -l -k m2 n1"
	var s slots
	s.grow(6)
	at := map[byte]int{}
	for _, step := range strings.Fields(script) {
		if step[0] == '-' {
			s.give(at[step[1]])
			continue
		}
		n, ok := s.take()
		if want := int(step[1] - '0'); !ok || n != want {
			t.Fatalf("%c: got slot %d %v, want %d", step[0], n, ok, want)
		}
		at[step[0]] = n
	}
	if max, used, last := s.figures(); max != 6 || used != 6 || last != 1 {
		t.Errorf("got %d max, %d used, %d last, want 6, 6, 1", max, used, last)
	}
	if _, ok := s.take(); ok {
		t.Error("a slot was free when all are taken")
	}
}

// naive is the original's way: a walk over all slots.
type naive struct {
	busy []bool
	last int
}

func (s *naive) take() (int, bool) {
	for step := range s.busy {
		i := (s.last + step) % len(s.busy)
		if !s.busy[i] {
			s.busy[i], s.last = true, i
			return i, true
		}
	}
	return 0, false
}

func TestSlotsAnswerLikeAWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s slots
		model := naive{busy: make([]bool, rapid.IntRange(1, 300).Draw(t, "max"))}
		s.grow(len(model.busy))
		var taken []int
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(t, "n") {
					got, ok := s.take()
					want, wantOK := model.take()
					if got != want || ok != wantOK {
						t.Fatalf("got %d %v, want %d %v", got, ok, want, wantOK)
					}
					if ok {
						taken = append(taken, got)
					}
				}
			},
			"give": func(t *rapid.T) {
				for range min(len(taken), rapid.IntRange(1, 80).Draw(t, "n")) {
					i := rapid.IntRange(0, len(taken)-1).Draw(t, "i")
					s.give(taken[i])
					model.busy[taken[i]] = false
					taken = append(taken[:i], taken[i+1:]...)
				}
			},
			"grow": func(t *rapid.T) {
				max := rapid.IntRange(1, 5000).Draw(t, "max")
				s.grow(max)
				if more := max - len(model.busy); more > 0 {
					model.busy = append(model.busy, make([]bool, more)...)
				}
			},
		})
	})
}

func TestSlotsAreNeverTakenTwice(t *testing.T) {
	var s slots
	s.grow(100)
	var held [100]sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				if n, ok := s.take(); ok {
					if !held[n].TryLock() {
						t.Errorf("slot %d was taken twice", n)
						return
					}
					held[n].Unlock()
					s.give(n)
				}
			}
		})
	}
	wg.Wait()
	if _, used, _ := s.figures(); used != 0 {
		t.Errorf("%d slots are left in use", used)
	}
}
