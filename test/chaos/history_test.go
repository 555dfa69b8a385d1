//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// at is a moment in a history.
func at(n int) time.Time { return time.Unix(1000, 0).Add(time.Duration(n) * time.Millisecond) }

func write(value, from, to int, o outcome) entry {
	return entry{write: true, value: value, called: at(from), ending: at(to), outcome: o}
}

func read(value, from, to int) entry {
	return entry{value: value, called: at(from), ending: at(to)}
}

func TestHistories(t *testing.T) {
	for name, c := range map[string]struct {
		loose, entries []entry
		good           bool
	}{
		"nothing happens":                  {nil, []entry{read(1, 10, 20)}, true},
		"a change is seen":                 {nil, []entry{write(2, 0, 5, done), read(2, 10, 20)}, true},
		"a change is lost":                 {nil, []entry{write(2, 0, 5, done), read(1, 10, 20)}, false},
		"a change is seen and gone":        {nil, []entry{write(2, 0, 100, done), read(2, 10, 20), read(1, 30, 40)}, false},
		"both are possible while it lasts": {nil, []entry{write(2, 0, 100, done), read(1, 10, 20), read(2, 30, 40)}, true},
		"a refused change is seen":         {nil, []entry{write(2, 0, 5, refused), read(2, 10, 20)}, false},
		"an unknown change comes late":     {nil, []entry{write(2, 0, 5, unknown), read(1, 10, 20), read(2, 30, 40)}, true},
		"an unknown change never comes":    {nil, []entry{write(2, 0, 5, unknown), read(1, 10, 20)}, true},
		"an unknown change comes and goes": {nil, []entry{write(2, 0, 5, unknown), read(2, 10, 20), read(1, 30, 40)}, false},
		"one from before comes late":       {[]entry{write(2, -50, -40, unknown)}, []entry{read(1, 10, 20), read(2, 30, 40)}, true},
		"one overtakes":                    {nil, []entry{write(2, 0, 50, done), write(3, 1, 49, done), read(3, 60, 70), read(2, 80, 90)}, false},
	} {
		h := history{began: at(0), values: []int{1}, loose: c.loose, entries: c.entries}
		if wrong := h.check([]string{"timeout"}); (len(wrong) == 0) != c.good {
			t.Errorf("%s: got %q, want good: %t", name, wrong, c.good)
		} else if !c.good && !strings.Contains(wrong[0], `"timeout" are not linearizable`) {
			t.Errorf("%s: got %q", name, wrong)
		}
	}
}

func TestLooseEndsGoOn(t *testing.T) {
	h := history{
		began: at(0), values: []int{1},
		loose:   []entry{write(2, -9990, -9980, unknown)},
		entries: []entry{write(3, 0, 5, unknown), write(4, 1, 5, unknown), write(5, 2, 6, refused), write(6, 3, 7, done)},
	}
	got := h.next([]int{4}, at(100)).loose
	if want := []entry{h.entries[0]}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: the others are too old, in force or not unknown", got, want)
	}
}
