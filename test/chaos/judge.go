//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pen/test/lab"
)

// What must never be, in numbers.
const (
	heartbeat = 200 * time.Millisecond // of `timing lan`
	holdTime  = 4 * heartbeat          // the limit of a judge
	known     = time.Second            // who had a server for that long keeps it
	evidence  = 6 * time.Second        // what one of two nodes needs to take the place of the other, beside the limit
)

// judge looks at what was seen from outside.
type judge struct {
	limit   time.Duration // until somebody holds the address, where somebody can
	since   time.Time     // when it looked last
	born    time.Time     // when the cluster of these clients began
	servers map[int]*belonging
}

// belonging is the server that a client has, and since when.
type belonging struct {
	server string
	since  time.Time
}

// forget is for clients of a cluster that begins anew.
func (j *judge) forget() { j.servers, j.born = nil, time.Now() }

// verdict is what a look has brought.
type verdict struct {
	wrong    []string
	worst    span            // the longest span without a holder where one was due
	taken    time.Duration   // the same where one of two nodes had to find out that it is alone
	doubles  int             // times in which two answered, which was to be expected
	void     int             // spans that would be too long if the observer had run
	dues     int             // spans in which a holder was due
	answered []time.Time     // when clients were
	stalls   []lab.Stall     // of the observers
	owners   map[string]bool // who answered for the address
}

// look judges all that was seen since the last one.
func (j *judge) look(s lab.Sight, dues []duty, excuses []span, to time.Time) verdict {
	v := verdict{stalls: s.Stalls, dues: len(dues), owners: map[string]bool{}}
	if s.Err != nil {
		v.wrong = append(v.wrong, "the observers are not to be trusted: "+s.Err.Error())
	}
	for _, a := range s.Answers {
		for _, n := range a.Nodes {
			v.owners[n] = true
		}
		switch {
		case len(a.Nodes) < 2:
		case excused(a, excuses):
			v.doubles += a.Questions
		default:
			v.wrong = append(v.wrong, fmt.Sprintf("two nodes answered for the address: %s, the same %d questions, from %s to %s",
				strings.Join(a.Nodes, " and "), a.Questions, clock(a.From), clock(a.To)))
		}
	}
	for _, d := range dues {
		v.held(d, s, j.limit)
	}
	if j.servers == nil {
		j.servers = map[int]*belonging{}
	}
	for _, x := range s.Visits {
		if x.Began.Before(j.born) {
			continue
		}
		v.answered = append(v.answered, x.Ended)
		if moved := j.visit(x); moved != "" {
			v.wrong = append(v.wrong, moved)
		}
	}
	j.since = to
	return v
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

// held looks for the longest span without a holder in one in which there must be
// one. Where the observers themselves did not run for a part of it, it is void.
func (v *verdict) held(due duty, s lab.Sight, limit time.Duration) {
	gap := unheld(due.span, s.Answers)
	switch {
	case due.late:
		limit += evidence
		v.taken = max(v.taken, gap.length())
	case gap.length() > v.worst.length():
		v.worst = gap
	}
	if gap.length() <= limit {
		return
	}
	if gap.length()-stalled(gap, s.Stalls) <= limit {
		v.void++
		return
	}
	v.wrong = append(v.wrong, fmt.Sprintf("nobody held the address for %d ms, from %s on, where somebody could (due from %s to %s)",
		gap.length().Milliseconds(), clock(gap.from), clock(due.from), clock(due.to)))
}

// excused tells whether two may have answered: all of it is in a span in which
// nothing else was to be expected.
func excused(a lab.Answer, excuses []span) bool {
	return slices.ContainsFunc(excuses, func(e span) bool { return !a.From.Before(e.from) && !a.To.After(e.to) })
}

// unheld is the longest span in due without an answer.
func unheld(due span, answers []lab.Answer) (gap span) {
	last := due.from
	look := func(to time.Time) {
		if g := (span{last, to}); g.length() > gap.length() {
			gap = g
		}
	}
	for _, a := range answers {
		if len(a.Nodes) == 0 || a.To.Before(due.from) || a.From.After(due.to) {
			continue
		}
		look(a.From)
		if a.To.After(last) {
			last = a.To
		}
	}
	look(due.to)
	return gap
}

func stalled(in span, stalls []lab.Stall) (sum time.Duration) {
	for _, l := range stalls {
		if from := l.At.Add(-l.By); from.Before(in.to) && l.At.After(in.from) {
			sum += l.By
		}
	}
	return sum
}

// visit says what is wrong with an answer to a client.
func (j *judge) visit(x lab.Visit) string {
	b := j.servers[x.Client]
	if b == nil || b.server == x.Server {
		if b == nil {
			j.servers[x.Client] = &belonging{x.Server, x.Ended}
		}
		return ""
	}
	had := *b
	*b = belonging{x.Server, x.Ended}
	if x.Began.Sub(had.since) <= known {
		return ""
	}
	return fmt.Sprintf("client %d, at %s since %s, came to %s through %s at %s", x.Client, had.server, clock(had.since), x.Server, x.Node, clock(x.Ended))
}

// gap is the longest span without an answer to any client.
func (v verdict) gap(from, to time.Time) time.Duration {
	gap, last := time.Duration(0), from
	for _, t := range v.answered {
		if t.After(from) && t.Before(to) {
			gap, last = max(gap, t.Sub(last)), t
		}
	}
	return max(gap, to.Sub(last))
}

func (v verdict) summary(from, healed, to time.Time) string {
	text := fmt.Sprintf("well %d ms after the last healing; clients waited %d ms at most",
		to.Sub(healed).Milliseconds(), v.gap(from, to).Milliseconds())
	if v.dues > 0 {
		text += fmt.Sprintf(", the address %d ms where a holder was due", v.worst.length().Milliseconds())
	}
	if v.taken > 0 {
		text += fmt.Sprintf(", %d ms where one of two was alone", v.taken.Milliseconds())
	}
	if v.doubles > 0 {
		text += fmt.Sprintf("; two answered %d times, as was to be expected", v.doubles)
	}
	if v.void > 0 {
		text += fmt.Sprintf("; %d void", v.void)
	}
	return text
}
