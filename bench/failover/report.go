//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What stands between the markers is written by this program; the rest of the
// document belongs to people and to the other measurements.
const (
	beginMarker = "<!-- begin: measured by go run ./bench/failover -->\n"
	endMarker   = "<!-- end: measured by go run ./bench/failover -->\n"
)

// marked is the document at path with text between the markers.
func marked(path, text string) ([]byte, error) {
	document, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	before, rest, ok := bytes.Cut(document, []byte(beginMarker))
	if !ok {
		return nil, fmt.Errorf("%s: no line %q", path, strings.TrimSpace(beginMarker))
	}
	_, after, ok := bytes.Cut(rest, []byte(endMarker))
	if !ok {
		return nil, fmt.Errorf("%s: no line %q after the first", path, strings.TrimSpace(endMarker))
	}
	return slices.Concat(before, []byte(beginMarker+"\n"+strings.TrimSpace(text)+"\n\n"+endMarker), after), nil
}

// String is the measured part of the document, in Markdown.
func (r *results) String() string {
	var b strings.Builder
	r.choose()
	fmt.Fprintf(&b, "Measured on %s by `go run ./bench/failover`: each fault %s times for each contender.\nMachine: %s. "+
		"All nodes, clients, servers and observers share it.\n\n", r.Date.Format(time.DateOnly), r.times(), machine())
	b.WriteString("| contender | version | configuration |\n| --- | --- | --- |\n")
	for _, c := range r.contenders {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Name, c.version(), c.Config)
	}
	b.WriteString("\n| fault | what happens |\n| --- | --- |\n")
	for _, f := range r.faults {
		fmt.Fprintf(&b, "| %s | %s |\n", f.Name, f.What)
	}
	b.WriteString(r.goals())
	b.WriteString(r.gaps())
	b.WriteString(r.others())
	b.WriteString(r.Load.String())
	b.WriteString(r.New.String())
	b.WriteString(r.remarks())
	return b.String()
}

// choose takes those contenders and faults that something is known of, in this
// run or from an earlier one.
func (r *results) choose() {
	r.contenders, r.faults = nil, nil
	some := map[string]bool{}
	for name := range r.Samples {
		some[name] = true
	}
	for _, c := range contenders(r.bin) {
		if slices.ContainsFunc(faults(), func(f fault) bool { return some[nameOf(c.Name, f.Name)] }) {
			r.contenders = append(r.contenders, c)
		}
	}
	for _, f := range faults() {
		if slices.ContainsFunc(r.contenders, func(c contender) bool { return some[nameOf(c.Name, f.Name)] }) {
			r.faults = append(r.faults, f)
		}
	}
}

// times is how often each fault was measured.
func (r *results) times() string {
	least, most := 0, 0
	for _, all := range r.Samples {
		if least == 0 || len(all) < least {
			least = len(all)
		}
		most = max(most, len(all))
	}
	if least == most {
		return fmt.Sprint(most)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

func (r *results) gaps() string {
	var b strings.Builder
	b.WriteString("\n### Time without an answer, ms\n\n| fault | contender | median | p95 | max |\n| --- | --- | ---: | ---: | ---: |\n")
	r.each(func(f fault, c contender, all []sample) {
		g := values(all, func(s sample) float64 { return ms(s.Gap) })
		fmt.Fprintf(&b, "| %s | %s | %.0f | %.0f | %.0f |\n", f.Name, c.Name, rank(g, 0.5), rank(g, 0.95), rank(g, 1))
	})
	return b.String()
}

func (r *results) others() string {
	var b strings.Builder
	b.WriteString("\n### What else clients saw\n\nConnects refused and lost, and connections that ended or stayed without an answer: median. ")
	b.WriteString("Two nodes answering ARP for the address, ms: median and max, in the time looked at. ")
	b.WriteString("Clients whose server changed: in all rounds. Time without an answer when the node comes back, ms: median and max.\n\n")
	b.WriteString("| fault | contender | refused | lost | cut off | two answer | clients moved | at the return |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	r.each(func(f fault, c contender, all []sample) {
		two := values(all, func(s sample) float64 { return ms(s.Overlap) })
		back := values(all, func(s sample) float64 { return ms(s.Return) })
		moved, of := 0, 0
		for _, s := range all {
			moved, of = moved+s.Moved, of+s.Clients
		}
		fmt.Fprintf(&b, "| %s | %s | %.0f | %.0f | %.0f | %.0f / %.0f | %d of %d | %.0f / %.0f |\n", f.Name, c.Name,
			rank(values(all, func(s sample) float64 { return float64(s.Refused) }), 0.5),
			rank(values(all, func(s sample) float64 { return float64(s.Lost) }), 0.5),
			rank(values(all, func(s sample) float64 { return float64(s.CutOff) }), 0.5),
			rank(two, 0.5), rank(two, 1), moved, of, rank(back, 0.5), rank(back, 1))
	})
	return b.String()
}

func (r *results) each(row func(fault, contender, []sample)) {
	for _, f := range r.faults {
		for _, c := range r.contenders {
			if all := r.Samples[nameOf(c.Name, f.Name)]; len(all) > 0 {
				row(f, c, all)
			}
		}
	}
}

// goal is a figure of pen that the design asks for.
type goal struct {
	what, fault string
	quantile    float64
	limit       float64
	of          func(sample) float64
}

func gap(s sample) float64     { return ms(s.Gap) }
func overlap(s sample) float64 { return ms(s.Overlap) }
func moved(s sample) float64   { return float64(s.Moved) }
func turned(s sample) float64  { return float64(s.Refused + s.Lost) }

var goals = []goal{
	{"killed, median of the gap, ms", "killed", 0.5, 30, gap},
	{"killed, longest gap, ms", "killed", 1, 150, gap},
	{"all killed, median of the gap, ms", "all killed", 0.5, 150, gap},
	{"power lost, median of the gap, ms", "power lost", 0.5, 250, gap},
	{"power lost, p99 of the gap, ms", "power lost", 0.99, 450, gap},
	{"frozen, median of the gap, ms", "frozen", 0.5, 300, gap},
	{"planned, longest gap, ms", "planned", 1, 20, gap},
	{"planned, connects refused or lost", "planned", 1, 0, turned},
	{"two nodes answering, longest, ms", "", 1, 0, overlap},
	{"clients that lost their server", "", 1, 0, moved},
}

func (r *results) goals() string {
	var b strings.Builder
	for _, g := range goals {
		var all []sample
		for _, f := range r.faults {
			if g.fault == "" || g.fault == f.Name {
				all = append(all, r.Samples[nameOf(ours, f.Name)]...)
			}
		}
		if len(all) == 0 {
			continue
		}
		reached, verdict := rank(values(all, g.of), g.quantile), "yes"
		if reached > g.limit {
			verdict = "**no**"
		}
		fmt.Fprintf(&b, "| %s | <= %.0f | %.0f | %s |\n", g.what, g.limit, reached, verdict)
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n### Goals of pen\n\n| what | goal | reached | |\n| --- | ---: | ---: | --- |\n" + b.String()
}

func (r *results) remarks() string {
	var notes []string
	late := time.Duration(0)
	for _, all := range r.Samples {
		for _, s := range all {
			late = max(late, s.Late)
		}
	}
	notes = append(notes, fmt.Sprintf("The observers come round every 2 and 5 ms: a gap of less than about 8 ms is their own pace. "+
		"They themselves did not run for at most %.0f ms.", ms(late)))
	var counts []string
	for _, c := range r.contenders {
		counts = append(counts, fmt.Sprintf("%s %d", c.Name, r.Retaken[c.Name]))
	}
	notes = append(notes, "A round in whose gap the observers stood still, for 10 ms or more and for more than a tenth of the gap, was taken again, at most twice, for each contender alike: "+
		strings.Join(counts, ", ")+".")
	for _, c := range r.contenders {
		if n := r.Stalled[c.Name]; n > 0 {
			notes = append(notes, fmt.Sprintf("%d rounds of %s count although the observers stood still in the third attempt, too.", n, c.Name))
		}
	}
	return "\n### Remarks\n\n- " + strings.Join(append(notes, r.Notes...), "\n- ") + "\n"
}

func values(all []sample, of func(sample) float64) []float64 {
	v := make([]float64, 0, len(all))
	for _, s := range all {
		v = append(v, of(s))
	}
	slices.Sort(v)
	return v
}

// rank is the nearest rank of sorted values: p95 of 20 is the 19th.
func rank(sorted []float64, quantile float64) float64 {
	n := len(sorted)
	i := int(quantile*float64(n)+0.9999999) - 1
	return sorted[min(max(i, 0), n-1)]
}

func machine() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // it knows its name
	info, _ := os.ReadFile("/proc/cpuinfo")
	model := "unknown processor"
	for line := range strings.Lines(string(info)) {
		if word, value, _ := strings.Cut(line, ":"); strings.TrimSpace(word) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d CPUs, %s, Linux %s", runtime.NumCPU(), model, unix.ByteSliceToString(name.Release[:]))
}
