//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// The generated part of docs/chaos.md.
const (
	markBegin = "<!-- chaos: begin (written by: make chaos) -->\n"
	markEnd   = "<!-- chaos: end -->\n"
)

// outing is one run of the program.
type outing struct {
	began   time.Time
	took    time.Duration
	seed    uint64
	version string
	machine string
	limit   time.Duration
}

// writeReport puts the report in its place in a file.
func writeReport(file string, o outing, t *tally) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), markBegin)
	_, after, closed := strings.Cut(rest, markEnd)
	if !ok || !closed {
		return fmt.Errorf("%s does not have the lines %q and %q", file, strings.TrimSpace(markBegin), strings.TrimSpace(markEnd))
	}
	return os.WriteFile(file, []byte(before+markBegin+report(o, t)+markEnd+after), 0o644)
}

func report(o outing, t *tally) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "\n| | |\n| --- | --- |\n")
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, fmt.Sprintf(format, args...))
	}
	row("date", "%s, %s long", o.began.UTC().Format("2006-01-02 15:04 UTC"), o.took.Round(time.Second))
	row("version", "%s", o.version)
	row("machine", "%s", o.machine)
	row("seed", "%d", o.seed)
	row("**faults**", "**%d** in %d rounds, %d of them with faults that overlap, %d in a cluster with a witness, %d in one of two nodes",
		t.faults, t.rounds, t.overlapped, t.clusters[witness], t.clusters[pair])
	row("**violations**", "**%d**", len(t.violations))
	row("well again after the last healing", "%s", spread(t.healing))
	row("without a holder where one was due, the longest of each round", "%s; %d is the limit", spread(t.worst), o.limit.Milliseconds())
	row("times in which a holder was due", "%d, %d of them void since the observer itself did not run", t.dues, t.void)
	row("observer did not run", "%d times, %d ms at most", t.stalls, t.stall.Milliseconds())
	row("requests of clients answered", "%d", t.visits)
	row("changes of settings", "%d in force, %d not applied, %d of unknown outcome", t.writes.done, t.writes.refused, t.writes.unknown)
	row("reads of settings", "%d behind a change of one's own, %d of what a node has", t.writes.reads, t.writes.local)
	fmt.Fprintf(&b, "\n| fault | times | nobody was answered, ms: median (longest), of rounds with this fault alone |\n| --- | --- | --- |\n")
	for i := range kinds {
		k := t.kinds[kinds[i].name]
		if k == nil {
			continue
		}
		gaps := "-"
		if len(k.gaps) > 0 {
			gaps = fmt.Sprintf("%d (%d), of %d", quantile(k.gaps, 0.5).Milliseconds(), quantile(k.gaps, 1).Milliseconds(), len(k.gaps))
		}
		fmt.Fprintf(&b, "| %s | %d | %s |\n", kinds[i].name, k.count, gaps)
	}
	for _, v := range t.violations {
		fmt.Fprintf(&b, "\n    %s\n", strings.ReplaceAll(v, "\n", "\n    "))
	}
	return b.String() + "\n"
}

func spread(all []time.Duration) string {
	return fmt.Sprintf("median %d ms, 90 %% within %d, longest %d",
		quantile(all, 0.5).Milliseconds(), quantile(all, 0.9).Milliseconds(), quantile(all, 1).Milliseconds())
}

// thisMachine is what the figures depend on.
func thisMachine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d processors, Linux %s, %s", runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
}
