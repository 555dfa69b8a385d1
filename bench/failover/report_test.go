//go:build linux

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pen/test/lab"
)

func TestRank(t *testing.T) {
	twenty := make([]float64, 20)
	for i := range twenty {
		twenty[i] = float64(i + 1)
	}
	for _, c := range []struct {
		values         []float64
		quantile, want float64
	}{
		{[]float64{7}, 0.5, 7}, {[]float64{7}, 1, 7}, {[]float64{1, 2, 3}, 0.5, 2},
		{twenty, 0.5, 10}, {twenty, 0.95, 19}, {twenty, 0.99, 20}, {twenty, 1, 20},
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
	r := results{rounds: 2, date: time.Now(), contenders: contenders("bin")[:2], faults: faults()[:1], samples: map[key][]sample{
		{ours, "killed"}: {
			{fault: lab.Report{Gap: 20 * time.Millisecond, Clients: 200}, repair: lab.Report{Gap: 5 * time.Millisecond}},
			{fault: lab.Report{Gap: 190 * time.Millisecond, Clients: 200, Moved: 3, Refused: 4}},
		},
		{"keepalived 1s + haproxy", "killed"}: {{fault: lab.Report{Gap: 3 * time.Second, Overlap: time.Second}}},
	}}
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
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "power lost") {
		t.Error("a goal without a measurement is told")
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
	for _, args := range [][]string{{"-rounds", "0"}, {"-run", "("}, {"-contenders", "("}, {"stray"}, {"-nonsense"}} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q: got no error, want one", args)
		}
	}
}
