package cluster

import (
	"testing"
	"time"
)

// TestHeirAfterAFailure: the best heir did not take the address a moment ago, and
// is still the best by its rank.
func TestHeirAfterAFailure(t *testing.T) {
	now := time.Now()
	soon, past := now.Add(time.Second), now.Add(-time.Second)
	failed := func(ids ...string) giver {
		var g giver
		for _, id := range ids {
			g.fail(id, soon)
		}
		return g
	}
	for _, c := range []struct {
		name    string
		g       giver
		best    string
		serves  bool
		another string
		want    string
	}{
		{"the first time", giver{}, "a", false, "b", "a"},
		{"nobody is there", giver{}, "", false, "", ""},
		{"it failed, and another is there", failed("a"), "a", false, "b", "b"},
		{"it failed, and nobody else is there", failed("a"), "a", false, "", ""},
		{"it failed, and this node can hold it", failed("a"), "a", true, "b", ""},
		{"it failed long ago", giver{failed: map[string]time.Time{"a": past}}, "a", false, "b", "a"},
		{"it failed, and another is the best now", failed("a"), "b", false, "c", "b"},
		{"both failed", failed("a", "b"), "a", false, "", ""},
		{"it was given away a moment ago", giver{pause: soon}, "a", false, "b", ""},
	} {
		if got := c.g.heir(now, c.best, c.serves, func() string { return c.another }); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
