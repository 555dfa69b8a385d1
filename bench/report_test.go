package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReplaceBetweenLeavesTheProseAlone(t *testing.T) {
	document := "# Title\n\nProse.\n\n" + beginMarker + "old\n" + endMarker + "\nMore prose.\n"
	got, err := replaceBetween([]byte(document), "new\n")
	if err != nil {
		t.Fatal(err)
	}
	want := "# Title\n\nProse.\n\n" + beginMarker + "\nnew\n\n" + endMarker + "\nMore prose.\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	again, err := replaceBetween(got, "new\n")
	if err != nil || string(again) != want {
		t.Errorf("a second time: got %q, %v, want the same", again, err)
	}
}

func TestMissingMarkersAreAnError(t *testing.T) {
	for _, document := range []string{"", beginMarker, endMarker, endMarker + beginMarker} {
		if _, err := replaceBetween([]byte(document), "new"); err == nil {
			t.Errorf("%q: got no error, want one", document)
		}
	}
}

func TestTable(t *testing.T) {
	figures := newTable("proxy", "us")
	if got := figures.text(); got != "" {
		t.Errorf("nothing below the head: got %q, want nothing", got)
	}
	figures.add("pen", "1.0")
	if got, want := figures.text(), "| proxy | us |\n| --- | ---: |\n| pen | 1.0 |\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// fabricated are results of two rounds in which pen is better in the first case
// and worse in the second.
func fabricated() reported {
	var r results
	for round, noise := range []float64{1, 2} {
		r.add(round, key{"connrate", ours}, sample{cpuEach: 80 * noise, rate: 12_000, p50: 5000, p99: 9000, foreign: 0.01})
		r.add(round, key{"connrate", haproxy}, sample{cpuEach: 100 * noise, rate: 10_000, p50: 6000, p99: 9500})
		r.add(round, key{"down8", ours}, sample{cpuEach: 0.45 * noise, rate: 2.2})
		r.add(round, key{"down8", haproxy}, sample{cpuEach: 0.9 * noise, rate: 1.1})
		r.add(round, key{"idle9000", ours}, sample{startRSS: 12, eachRSS: 0.11, eachFile: 2})
		r.add(round, key{"known1000", ours}, sample{cpuEach: 80})
		r.add(round, key{"known1000000", ours}, sample{cpuEach: 84})
		r.add(round, key{"start", ours}, sample{first: 9 + noise})
	}
	r.add(1, key{"down8", nginx}, sample{cpuEach: 1.8, rate: 1})
	r.note("nginx is left out: %s.", "a reason")
	r.note("nginx is left out: %s.", "a reason")
	return reported{
		Command: "go run ./bench", Date: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Machine: "a machine",
		Rounds: 2, Time: time.Second, Private: true, Cases: loadCases, results: &r,
		Proxies: [][3]string{{ours, "v1", "defaults"}, {haproxy, "2.6", "tcp mode"}, {nginx, "1.22", "stream"}},
	}
}

func TestReport(t *testing.T) {
	text := fabricated().String()
	for _, want := range []string{
		"Measured on 2026-01-02 by `go run ./bench`, in 2 rounds of 1s for each load.\n",
		"| haproxy | 2.6 | tcp mode |\n",
		// Ratios are taken within the rounds: the noise between them is gone.
		"| connection, CPU time against haproxy | <= 0.90 | 0.80 (0.80 to 0.80) | yes |\n",
		"| bulk down, 8 connections, CPU time against haproxy | <= 0.40 | 0.50 (0.50 to 0.50) | **no** |\n",
		"| connection, 1,000,000 known clients against 1,000 | <= 1.10 | 1.05 (1.05 to 1.05) | yes |\n",
		"| start to first answer, ms | <= 30 | 10 (10 to 11) | yes |\n",
		"| proxy | connrate, us | down8, s/GB |\n| --- | ---: | ---: |\n| pen | 120.0 | 0.68 |\n",
		"| nginx | - | 0.50 |\n",
		"| pen | 5000 / 9000 |\n",
		"| pen | 9000 | 12.0 | 0.11 | 2.00 |\n",
		"| pen | 1000000 | 84.0 | 1.05 (1.05 to 1.05) |\n",
		"- Other work on the two cores during a sample: median 1.0 %, at most 1.0 %.\n- nginx is left out: a reason.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the report", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestReportOfNothingHasNoEmptySections(t *testing.T) {
	text := reported{results: &results{}, Cases: loadCases}.String()
	if strings.Contains(text, "###") {
		t.Errorf("got a section:\n%s", text)
	}
}

func TestResultsKeepRoundsApart(t *testing.T) {
	var r results
	k := key{"connrate", ours}
	r.add(2, k, sample{cpuEach: 7})
	got := r.values(k, cpuEach)
	if len(got) != 3 || !math.IsNaN(got[0]) || !math.IsNaN(got[1]) || got[2] != 7 {
		t.Errorf("got %v, want [NaN NaN 7]", got)
	}
}

func TestFiguresOfABadRunAreAnError(t *testing.T) {
	for _, done := range []outcome{
		{Took: time.Second},
		{Took: time.Second, Ops: 1000, Failures: 2, First: "closed"},
	} {
		if s, err := figures(done, false); err == nil {
			t.Errorf("%+v: got %v, want an error", done, s)
		}
	}
}

func TestFigures(t *testing.T) {
	done := outcome{Ops: 1000, Took: 2 * time.Second, CPU: time.Second, P50: time.Millisecond, P99: 2 * time.Millisecond}
	got, err := figures(done, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample{cpuEach: 1000, rate: 500, busy: 0.5, p50: 1000, p99: 2000}, got); diff != "" {
		t.Error(diff)
	}
	done = outcome{Bytes: 4e9, Took: 2 * time.Second, CPU: time.Second}
	if got, err = figures(done, true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample{cpuEach: 0.25, rate: 2, busy: 0.5}, got); diff != "" {
		t.Error(diff)
	}
}

func TestGoalsOfDatagrams(t *testing.T) {
	var r results
	r.add(0, key{"pp64", ours}, sample{cpuEach: 10})
	r.add(0, key{"udp64", ours}, sample{cpuEach: 14})
	r.add(0, key{"udp64", original}, sample{cpuEach: 16})
	text := reported{Cases: loadCases, results: &r, Proxies: [][3]string{{ours}, {original}}}.String()
	for _, want := range []string{
		"| 64 B round trip by UDP, 64 flows, CPU time against the original pen | <= 1.00 | 0.88 | yes |\n",
		"| 64 B round trip by UDP, 64 flows, CPU time against TCP | <= 1.30 | 1.40 | **no** |\n",
		"| proxy | pp64, us | udp64, us |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
