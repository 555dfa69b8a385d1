package proxy

import (
	"fmt"
	"strings"
	"testing"
)

// crowdOf is a table with flows of one service, named after their places: 0 is a.
type crowdOf struct {
	flows
	f *front
	n int32
}

// come makes flows of clients, one for each letter.
func (c *crowdOf) come(clients string) {
	for _, client := range clients {
		c.add(c.n, c.f, flowKey{client: [16]byte{byte(client)}, port: uint32(c.n) + 1})
		c.n++
	}
}

// talk has the flows used again after an answer.
func (c *crowdOf) talk(flows string) {
	for _, f := range flows {
		c.at(f - 'a').answered = true
		c.used(f - 'a')
	}
}

// leave returns who leaves for flows of a client, one after the other.
func (c *crowdOf) leave(client byte, most int) string {
	var all strings.Builder
	for {
		place, ok := c.victim(c.crowd(c.f), [16]byte{client}, most)
		if !ok {
			return all.String()
		}
		c.remove(place)
		fmt.Fprintf(&all, "%c", 'a'+place)
	}
}

func TestWhoLeavesForANewFlow(t *testing.T) {
	for _, c := range []struct {
		about, clients, talk, used string
		client                     byte
		most                       int
		want                       string
	}{
		{"the oldest", "1234", "", "", '5', 9, "abcd"},
		{"by last use", "1234", "", "aca", '5', 9, "bdca"},
		{"conversations last", "12345", "bd", "", '6', 9, "acebd"},
		{"conversations by last use", "12345", "bd", "b", '6', 9, "acedb"},
		{"his own, while he has many", "12122", "", "", '2', 2, "bdace"},
		{"his own, proven or not", "1222", "bcd", "", '2', 3, "bacd"},
		{"his own by last use", "122", "", "b", '2', 2, "cab"},
	} {
		w := &crowdOf{f: &front{}}
		w.come(c.clients)
		w.talk(c.talk)
		for _, f := range c.used {
			w.used(f - 'a')
		}
		if got := w.leave(c.client, c.most); got != c.want {
			t.Errorf("%s: got %s, want %s", c.about, got, c.want)
		}
		if len(w.table) != 0 || len(w.crowds) != 0 {
			t.Errorf("%s: left over: %d flows, %d crowds", c.about, len(w.table), len(w.crowds))
		}
	}
}
