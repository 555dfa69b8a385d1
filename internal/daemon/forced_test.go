package daemon

import (
	"strings"
	"testing"
)

func TestWhatIsForced(t *testing.T) {
	for _, c := range []struct {
		line, command string
		force         bool
	}{
		{"cluster force server 0 max 5\n", "server 0 max 5\n", true},
		{"  cluster  force  service web server 0 max 5", "service web server 0 max 5", true},
		{"cluster force", "cluster force", false},
		{"cluster force  \r\n", "cluster force  \r\n", false},
		{"cluster remove force x", "cluster remove force x", false},
		{"force server 0 max 5", "force server 0 max 5", false},
		{"cluster forced x", "cluster forced x", false},
		{"", "", false},
	} {
		if command, force := forcedCommand(c.line); command != c.command || force != c.force {
			t.Errorf("%q: %q, %t; want %q, %t", c.line, command, force, c.command, c.force)
		}
	}
}

func TestTheTableShowsWhatWasForced(t *testing.T) {
	p := three()
	p.Forced = 3
	const want = "forced changes that the cluster has not agreed on yet: 3\n"
	if text := tableOf(t, p); !strings.HasSuffix(text, "\n\n"+want) {
		t.Errorf("got\n%s\nwant at the end\n%s", text, want)
	}
}
