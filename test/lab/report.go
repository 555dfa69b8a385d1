//go:build linux

package lab

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Report is what was seen between two moments.
type Report struct {
	// Gap is the longest time without an answer to any client. At 5 ms it is the
	// observer's own pace.
	Gap time.Duration
	// First is the time from the beginning to the first answer to a request that was
	// begun after it; negative if there was none.
	First time.Duration

	// How the requests ended that were under way or begun.
	Requests int
	Answered int
	Refused  int // connects that were refused
	Lost     int // connects that nobody answered
	Reset    int // connections that ended without an answer
	Mute     int // connections without an answer and without an end
	Broken   int // for any other reason

	// Clients were answered before and since; Moved of them by another server.
	Clients, Moved int
	// AnsweredBy are the nodes that answered, in the order in which the requests were
	// begun. Two nodes that answer in turn come again and again.
	AnsweredBy []string

	// Overlap is for how long two nodes answered the same ARP question, and Doubles
	// how many questions these were.
	Overlap time.Duration
	Doubles int
	// Owners are the nodes that answered ARP, in order; one that comes again has
	// answered again after another.
	Owners        []string
	Announcements []Announcement
	// Strays are those of a node while another one answered.
	Strays []Announcement

	// Addresses says when the virtual address came to a node's kernel or went, the
	// state at the beginning included. It judges nothing.
	Addresses []string
	// Without is the longest time for which no node's kernel had the address.
	Without time.Duration

	// Late is the longest time by which an observer itself did not run, and Stall the
	// longest that fell into the gap: so much of the gap may be the observer's.
	Late, Stall time.Duration
	// Err says that an observer gave up or had no room left. The rest is then not
	// to be trusted.
	Err error

	gap window // when Gap was
}

// Report tells what was seen from one moment to another. It waits until all that
// was begun in this time has ended.
func (w *Watch) Report(from, to time.Time) Report {
	select {
	case <-time.After(time.Until(to) + probePatience + 100*time.Millisecond):
	case <-w.stop:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t := window{from.Sub(w.began), to.Sub(w.began)}
	r := Report{Err: w.trouble()}
	r.requests(w.probes, t, w.lab.nodeName)
	r.moves(w.probes, t)
	r.owners(w.answers, t, w.lab.nodeName)
	for _, a := range w.spoken {
		at := a.At.Sub(w.began)
		if !t.has(at) {
			continue
		}
		r.Announcements = append(r.Announcements, a)
		if owners := ownersAt(w.answers, at, w.lab.nodeName); len(owners) > 0 && !slices.Contains(owners, a.Node) {
			r.Strays = append(r.Strays, a)
		}
	}
	r.Addresses = addressStory(w.addresses, t, w.lab.nodeName)
	r.Without = without(w.addresses, t)
	r.stalls(w.lateness, t)
	return r
}

// trouble is why the observers are not to be trusted. It is called with mu held.
func (w *Watch) trouble() error {
	if w.lost > 0 {
		return fmt.Errorf("%d observations found no room: make the watch shorter", w.lost)
	}
	return w.err
}

// stalls looks for what the observers themselves did not see.
func (r *Report) stalls(all []lateness, t window) {
	for _, l := range all {
		if t.has(l.at) {
			r.Late = max(r.Late, l.by)
		}
		if l.at >= r.gap.from && l.at-l.by <= r.gap.to {
			r.Stall = max(r.Stall, l.by)
		}
	}
}

// window is the time that a report is about.
type window struct{ from, to time.Duration }

func (t window) has(at time.Duration) bool { return t.from <= at && at <= t.to }

func (l *Lab) nodeName(i int) string {
	if i < 0 || i >= len(l.Nodes) {
		return "?"
	}
	return l.Nodes[i].Name
}

func (r *Report) requests(all []probe, t window, name func(int) string) {
	r.First = -1
	var within []probe
	var ends []time.Duration
	for _, p := range all {
		if p.outcome == answered {
			ends = append(ends, p.end)
		}
		if p.start <= t.to && p.end >= t.from {
			within = append(within, p)
		}
	}
	r.gap = longest(ends, t)
	r.Gap = r.gap.to - r.gap.from
	slices.SortStableFunc(within, func(a, b probe) int { return cmp.Compare(a.start, b.start) })
	for _, p := range within {
		r.count(p.outcome)
		if p.outcome != answered {
			continue
		}
		if p.start >= t.from && (r.First < 0 || p.end-t.from < r.First) {
			r.First = p.end - t.from
		}
		r.AnsweredBy = appendNew(r.AnsweredBy, name(int(p.node)))
	}
}

func (r *Report) count(o outcome) {
	r.Requests++
	counter := map[outcome]*int{
		answered: &r.Answered, refused: &r.Refused, silent: &r.Lost,
		reset: &r.Reset, mute: &r.Mute, broken: &r.Broken,
	}[o]
	*counter++
}

// longest is the longest time between two moments, as far as it touches the
// window. The moments are in order.
func longest(moments []time.Duration, t window) (gap window) {
	last := t.from
	look := func(to time.Duration) {
		if to-last > gap.to-gap.from {
			gap = window{last, to}
		}
		last = to
	}
	for _, m := range moments {
		switch {
		case m < t.from:
			last = m
		case m <= t.to:
			look(m)
		}
	}
	look(t.to)
	return gap
}

// moves compares the servers that clients had last with those that they met since.
func (r *Report) moves(all []probe, t window) {
	before, since, moved := map[uint8]int8{}, map[uint8]bool{}, map[uint8]bool{}
	for _, p := range all {
		switch had, known := before[p.client]; {
		case p.outcome != answered:
		case p.end < t.from:
			before[p.client] = p.server
		case p.start >= t.from && p.start <= t.to && known:
			since[p.client] = true
			if p.server != had {
				moved[p.client] = true
			}
		}
	}
	r.Clients, r.Moved = len(since), len(moved)
}

func (r *Report) owners(all []answers, t window, name func(int) string) {
	for _, a := range all {
		if a.to < t.from || a.from > t.to || a.nodes == 0 {
			continue
		}
		for _, n := range a.names(name) {
			r.Owners = appendNew(r.Owners, n)
		}
		if !a.several() {
			continue
		}
		seen := min(a.to, t.to) - max(a.from, t.from)
		r.Overlap += seen + askEvery
		r.Doubles += min(a.questions, int(seen/askEvery)+1)
	}
}

func (a answers) names(name func(int) string) (names []string) {
	for i := range maxNodes {
		if a.nodes&(1<<i) != 0 {
			names = append(names, name(i))
		}
	}
	return names
}

// ownersAt are the nodes that answered at that moment. Between the last answer of
// one and the first of another there is none.
func ownersAt(all []answers, at time.Duration, name func(int) string) []string {
	for _, a := range all {
		if a.from <= at && at <= a.to {
			return a.names(name)
		}
	}
	return nil
}

// appendNew appends a name unless it is the last one already.
func appendNew(names []string, name string) []string {
	if n := len(names); n > 0 && names[n-1] == name {
		return names
	}
	return append(names, name)
}

func addressStory(all []addressChange, t window, name func(int) string) (story []string) {
	has := map[int]bool{}
	for _, c := range all {
		if c.at < t.from {
			has[c.node] = c.has
		}
	}
	for i := range maxNodes {
		if has[i] {
			story = append(story, name(i)+" has it")
		}
	}
	for _, c := range all {
		word := "gives it up"
		if c.has {
			word = "takes it"
		}
		if t.has(c.at) {
			story = append(story, fmt.Sprintf("%s %s after %.1f ms", name(c.node), word, milliseconds(c.at-t.from)))
		}
	}
	return story
}

// without is the longest time for which nobody had the address.
func without(all []addressChange, t window) (longest time.Duration) {
	has := map[int]bool{}
	since := time.Duration(0) // without
	for _, c := range all {
		if c.has && len(has) == 0 && c.at >= t.from {
			longest = max(longest, min(c.at, t.to)-max(since, t.from))
		}
		if has[c.node] = true; !c.has {
			delete(has, c.node)
		}
		if len(has) == 0 {
			since = c.at
		}
		if c.at > t.to {
			return longest
		}
	}
	if len(has) == 0 {
		longest = max(longest, t.to-max(since, t.from))
	}
	return longest
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// String is the report for people.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "gap %.1f ms, first answer after %.1f ms, answered by %s\n",
		milliseconds(r.Gap), milliseconds(r.First), strings.Join(r.AnsweredBy, ", "))
	fmt.Fprintf(&b, "requests %d: answered %d, refused %d, lost %d, reset %d, mute %d, broken %d\n",
		r.Requests, r.Answered, r.Refused, r.Lost, r.Reset, r.Mute, r.Broken)
	fmt.Fprintf(&b, "clients %d, of them moved %d\n", r.Clients, r.Moved)
	fmt.Fprintf(&b, "ARP answered by %s; by two at once for %.1f ms (%d questions); %d announcements, %d of them strays\n",
		strings.Join(r.Owners, ", "), milliseconds(r.Overlap), r.Doubles, len(r.Announcements), len(r.Strays))
	fmt.Fprintf(&b, "addresses: %s\n", strings.Join(r.Addresses, "; "))
	fmt.Fprintf(&b, "observers late by at most %.1f ms, in the gap %.1f ms\n", milliseconds(r.Late), milliseconds(r.Stall))
	if r.Err != nil {
		fmt.Fprintf(&b, "not to be trusted: %v\n", r.Err)
	}
	return b.String()
}
