package config

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pen/state"
)

var update = flag.Bool("update", false, "write the golden files anew")

// noon is the time of all commands here.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)

// names is a resolver for tests: it knows two names and no others.
func names(_ context.Context, host string) (netip.Addr, error) {
	switch host {
	case "www1":
		return netip.MustParseAddr("10.0.1.1"), nil
	case "www6":
		return netip.MustParseAddr("2001:db8::6"), nil
	}
	return netip.Addr{}, errors.New("no such host")
}

func planner() Planner { return Planner{Resolve: names, Now: noon} }

// read parses a file that has to be good.
func read(t *testing.T, text string) []Statement {
	t.Helper()
	statements, err := ParseReader("pen.conf", strings.NewReader(text))
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return statements
}

// plan carries statements out on a new state.
func plan(t *testing.T, statements []Statement) *Plan {
	t.Helper()
	p, err := planner().Plan(t.Context(), statements)
	if err != nil {
		t.Fatalf("plan: %v", err)
	}
	return p
}

// ops are operations as text, one each line.
func ops(all []state.Op) string {
	var b strings.Builder
	for _, o := range all {
		b.WriteString(o.String() + "\n")
	}
	return b.String()
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	values := cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})
	if d := cmp.Diff(want, got, values); d != "" {
		t.Errorf("%s: got + want -\n%s", what, d)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, name, got, string(want))
}

func write(t *testing.T, v *state.View, l Local) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, v, l, noon); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func asRefused(err error) (*Refused, bool) { return errors.AsType[*Refused](err) }
