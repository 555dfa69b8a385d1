package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// reported is what a report is made of.
type reported struct {
	Command string
	Date    time.Time
	Machine string
	Rounds  int
	Time    time.Duration
	Private bool        // every sample had a network namespace of its own
	Proxies [][3]string // name, version, configuration
	Cases   []loadCase
	*results
}

// String is the measured part of the document, in Markdown.
func (r reported) String() string {
	var b strings.Builder
	for _, section := range []func() string{
		r.preface, r.goals, r.ratioTable, r.cpuTable, r.rateTable, r.latencyTable,
		r.idleTable, r.knownTable, r.startTable, r.remarks,
	} {
		if text := section(); text != "" {
			b.WriteString(text + "\n")
		}
	}
	return b.String()
}

func (r reported) preface() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s by `%s`, in %s of %v for each load.\n",
		r.Date.Format("2006-01-02"), r.Command, count(r.Rounds, "round"), r.Time)
	fmt.Fprintf(&b, "Machine: %s.\n", r.Machine)
	if !r.Private {
		b.WriteString("Without the privilege for network namespaces: the samples share the machine's.\n")
	}
	b.WriteString("\n")
	t := newTable("proxy", "version", "configuration")
	t.words = true
	for _, p := range r.Proxies {
		t.add(p[:]...)
	}
	b.WriteString(t.text())
	return b.String()
}

// names are the proxies that have a sample in any of the cases, in order.
func (r reported) names(cases ...string) []string {
	var names []string
	for _, p := range append(r.Proxies, [3]string{direct}) {
		for _, c := range cases {
			if r.has(key{c, p[0]}) {
				names = append(names, p[0])
				break
			}
		}
	}
	return names
}

// measured are the load cases that have been measured.
func (r reported) measured(wanted func(loadCase) bool) []loadCase {
	var cases []loadCase
	for _, c := range r.Cases {
		if wanted(c) && len(r.names(c.Name)) > 0 {
			cases = append(cases, c)
		}
	}
	return cases
}

func anyCase(loadCase) bool { return true }

// byCase is a table with a column for each load case.
func (r reported) byCase(cases []loadCase, unit func(loadCase) string, cell func(c, proxy string) string) string {
	head := []string{"proxy"}
	var names []string
	for _, c := range cases {
		head = append(head, c.Name+unit(c))
		names = append(names, c.Name)
	}
	t := newTable(head...)
	for _, proxy := range r.names(names...) {
		row := []string{proxy}
		filled := false
		for _, c := range names {
			text := cell(c, proxy)
			filled = filled || text != "-"
			row = append(row, text)
		}
		if filled {
			t.add(row...)
		}
	}
	return t.text()
}

func (r reported) ratioTable() string {
	text := r.byCase(r.measured(anyCase), func(loadCase) string { return "" }, func(c, proxy string) string {
		if proxy == ours || proxy == direct {
			return "-"
		}
		return spread(r.against(key{c, ours}, key{c, proxy}, cpuEach), "%.2f")
	})
	return titled("CPU time of pen, as a part of what the other needs", text,
		"Below 1 pen is cheaper. Median of the rounds, and the range.")
}

func (r reported) cpuTable() string {
	text := r.byCase(r.measured(anyCase), func(c loadCase) string {
		if c.bulk() {
			return ", s/GB"
		}
		return ", us"
	}, func(c, proxy string) string {
		return figure(r.median(key{c, proxy}, cpuEach))
	})
	return titled("CPU time of the proxy for one operation", text, "")
}

func (r reported) rateTable() string {
	text := r.byCase(r.measured(anyCase), func(c loadCase) string {
		if c.bulk() {
			return ", GB/s"
		}
		return ", 1/s"
	}, func(c, proxy string) string {
		return figure(r.median(key{c, proxy}, rate))
	})
	return titled("Rate", text, "The core that generates the load is the limit in many of these: compare the CPU time.")
}

func (r reported) latencyTable() string {
	cases := r.measured(func(c loadCase) bool { return !c.bulk() })
	text := r.byCase(cases, func(loadCase) string { return ", p50 / p99 us" }, func(c, proxy string) string {
		k := key{c, proxy}
		if !r.has(k) {
			return "-"
		}
		return number(r.median(k, p50), "%.0f") + " / " + number(r.median(k, p99), "%.0f")
	})
	return titled("Latency", text, "")
}

// titled puts a heading and a remark to a table, and leaves nothing of an empty
// one.
func titled(title, table, remark string) string {
	if table == "" {
		return ""
	}
	if remark != "" {
		remark += "\n\n"
	}
	return "### " + title + "\n\n" + remark + table
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// number writes a figure, a dash if there is none.
func number(v float64, format string) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

// figure writes a figure with as many digits as mean something.
func figure(v float64) string {
	switch {
	case v < 5:
		return number(v, "%.2f")
	case v < 1000:
		return number(v, "%.1f")
	}
	return number(v, "%.0f")
}

// remarks are what the reader must know besides.
func (r reported) remarks() string {
	var lines []string
	var others []float64
	for k := range r.samples {
		others = append(others, present(r.values(k, foreign))...)
	}
	if len(others) > 0 {
		lines = append(lines, fmt.Sprintf(
			"Other work on the two cores during a sample: median %.1f %%, at most %.1f %%.",
			100*median(others), 100*slices.Max(others)))
	}
	lines = append(lines, r.Notes...)
	if len(lines) == 0 {
		return ""
	}
	return "### Remarks\n\n- " + strings.Join(lines, "\n- ") + "\n"
}
