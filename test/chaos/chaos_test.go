//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pen/test/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

// The short form: a few faults, always the same ones. The machine is busy with
// other tests, so the address may be away for longer; what must never be is never
// allowed.
func TestFewFaults(t *testing.T) {
	rig.NeedRoot(t)
	file := filepath.Join(t.TempDir(), "chaos.md")
	if err := os.WriteFile(file, []byte("before\n"+markBegin+"old\n"+markEnd+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := options{bin: rig.Bin(t), faults: 20, from: 1, seed: 12, logs: t.ArtifactDir(), markdown: file, limit: 2 * time.Second}
	var said strings.Builder
	if err := o.run(t.Context(), &said); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n" + markBegin, "| **violations** | **0** |", "| seed | 12 |", markEnd + "after\n"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the report does not have %q:\n%s", want, got)
		}
	}
	t.Log(said.String())
}

func TestReportNeedsItsPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chaos.md")
	if err := os.WriteFile(file, []byte("no place\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeReport(file, outing{}, newTally()); err == nil || !strings.Contains(err.Error(), "does not have the lines") {
		t.Errorf("got %v", err)
	}
}

func TestPrintDoesNothing(t *testing.T) {
	var out strings.Builder
	if err := (options{faults: 10, from: 5, to: 7, seed: 1, print: true}).run(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "fault 4: ") || !strings.Contains(got, "fault 7: ") || strings.Contains(got, "fault 10:") {
		t.Errorf("got %s, want the rounds of the faults 5 to 7", got)
	}
}
