//go:build linux

package main

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(nodeEnv) != "" { // started by newcomersFor
		main()
		return
	}
	os.Exit(m.Run())
}

func TestNewcomers(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors")
	}
	r, err := newcomersFor(t.Context(), time.Second, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	// Machines differ; that some are replicated and measured must be so on all.
	if r.Rate < newRate/10 || len(r.Quiet) != newParts || len(r.Crowded) != newParts || r.Requests == 0 || r.Batch <= 0 {
		t.Errorf("got %+v", r)
	}
}

func TestRank(t *testing.T) {
	twenty := make([]float64, 20)
	for i := range twenty {
		twenty[i] = float64(i + 1)
	}
	for _, c := range []struct {
		values         []float64
		quantile, want float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 1, 7},
		{[]float64{1, 2, 3}, 0.5, 2},
		{twenty, 0.5, 10},
		{twenty, 0.95, 19},
		{twenty, 0.99, 20},
		{twenty, 1, 20},
	} {
		if got := rank(c.values, c.quantile); got != c.want {
			t.Errorf("%g of %v: got %g, want %g", c.quantile, c.values, got, c.want)
		}
	}
}

func TestVersionIn(t *testing.T) {
	for line, want := range map[string]string{
		"Keepalived v2.2.7 (01/16,2022)":         "2.2.7",
		"HAProxy version 2.6.12-1+deb12u4 2026/": "2.6.12-1+deb12u4",
		"pen 1.2.3":                              "1.2.3",
		"pen":                                    "pen",
	} {
		if got := versionIn(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	r := results{
		Date: time.Now(), Retaken: map[string]int{ours: 2}, Stalled: map[string]int{ours: 1}, Notes: []string{"something else"},
		Samples: map[string][]sample{
			nameOf(ours, "killed"): {
				{Gap: 20 * time.Millisecond, Clients: 200, Return: 5 * time.Millisecond, Late: 3 * time.Millisecond},
				{Gap: 190 * time.Millisecond, Clients: 200, Moved: 3, Refused: 4},
			},
			nameOf("keepalived 1s + haproxy", "killed"): {{Gap: 3 * time.Second, Overlap: time.Second}},
		},
		Load: &loaded{For: time.Minute, Moves: 1, Busy: 0.97, Answered: 6000},
		New:  &newcomers{Rate: 50_000, Quiet: []float64{100, 90, 300}, Crowded: []float64{105, 110, 100}},
	}
	text := r.String()
	for _, want := range []string{
		"| killed, median of the gap, ms | <= 30 | 20 | yes |",
		"| killed, longest gap, ms | <= 150 | 190 | **no** |",
		"| two nodes answering, longest, ms | <= 0 | 0 | yes |",
		"| clients that lost their server | <= 0 | 3 | **no** |",
		"| killed | pen | 20 | 190 | 190 |",
		"| killed | keepalived 1s + haproxy | 3000 | 3000 | 3000 |",
		"| killed | pen | 0 | 0 | 0 | 0 / 0 | 3 of 400 | 0 / 5 |",
		"| 1000 / 1000 |",
		"each fault 1 to 2 times",
		"pen 2, keepalived 1s + haproxy 0",
		"1 rounds of pen count although",
		"did not run for at most 3 ms",
		"- something else",
		"| elections | 0 | 1 | **no** |",
		"busy for 97 % of the time, with 100 requests a second",
		"| p99 beside them, us | <= +10 % | 105 (+5 %) | yes |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "power lost") {
		t.Error("a goal without a measurement is told")
	}
}

func TestStalled(t *testing.T) {
	for _, c := range []struct {
		gap, stall time.Duration
		want       bool
	}{{20, 9, false}, {20, 10, true}, {99, 10, true}, {100, 10, false}, {3000, 200, false}, {3000, 310, true}} {
		s := sample{Gap: c.gap * time.Millisecond, Stall: c.stall * time.Millisecond}
		if got := s.stalled(); got != c.want {
			t.Errorf("a stall of %d ms in a gap of %d ms: got %t, want %t", c.stall, c.gap, got, c.want)
		}
	}
}

// The whole measurement must not take longer than people wait.
func TestEstimate(t *testing.T) {
	usual := slices.DeleteFunc(contenders("bin"), func(c contender) bool { return c.extra })
	r := results{rounds: 20, contenders: usual, faults: faults()}
	if got := r.estimate(); got > 45*time.Minute || got < 20*time.Minute {
		t.Errorf("got %v, want 20 to 45 minutes", got)
	}
}

func TestResultsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results")
	r, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	r.Samples[nameOf(ours, "killed")] = []sample{{Gap: time.Second, Moved: 2}}
	r.Load = &loaded{Moves: 3}
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	got, err := readResults(path)
	if err != nil || len(got.Samples) != 1 || got.Samples[nameOf(ours, "killed")][0].Gap != time.Second || got.Load.Moves != 3 || got.New != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readResults(path); err == nil {
		t.Error("a file that is none of ours: got no error")
	}
}

func TestMarked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + beginMarker + "old\n" + endMarker + "after\n")
	got, err := marked(path, "new")
	if want := "before\n" + beginMarker + "\nnew\n\n" + endMarker + "after\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, text := range []string{"", beginMarker, endMarker, endMarker + beginMarker} {
		write(text)
		if _, err := marked(path, "new"); err == nil {
			t.Errorf("%q: got no error", text)
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-rounds", "3", "-run", "killed", "-contenders", "pen"}, io.Discard)
	if err != nil || o.rounds != 3 || !o.faults.MatchString("all killed") || o.contenders.MatchString("keep") {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-rounds", "0"}, {"-rounds", "-1", "-results", "x"}, {"-load", "-1s"}, {"-run", "("}, {"-contenders", "("}, {"stray"}, {"-nonsense"}} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q: got no error, want one", args)
		}
	}
}
