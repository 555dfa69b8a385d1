package cluster

import (
	flags "flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flags.Bool("update", false, "write what is missing in testdata/format; what is there stays")

// golden returns what a file of a format held when it was made. Files are only
// added: they are what programs of that version send, or have left on disks.
func golden(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "format", name)
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, now, 0o644))
		return now
	}
	must(t, err)
	return b
}

func goldenHello() Hello {
	return Hello{
		Min: 1, Max: 2, Cluster: "shop", Formation: ID{1}, Generation: 2, Node: ID{3}, Boot: ID{4}, Name: "lb1", Addr: memAddr(1), Purpose: PurposeForm,
		Heartbeat: 200 * time.Millisecond, Priority: -7, Witness: true, StateVersion: 2, Level: 1,
	}
}

// TestHelloFormatStays: what the first version says, and the second. What later
// versions append is passed over, and those with no protocol in common tell so.
func TestHelloFormatStays(t *testing.T) {
	h := goldenHello()
	now := h.appendTo(nil)
	first := h
	first.Max, first.StateVersion, first.Level = 1, 1, 0
	for name, want := range map[string]Hello{"hello-1.bin": first, "hello-2.bin": h} {
		b := want.appendTo(nil)
		if name == "hello-1.bin" {
			b = b[:len(b)-4] // it knew of no level in use
		}
		kept := golden(t, name, b)
		if got, err := decodeHello(kept); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
		if string(kept) != string(b) {
			t.Errorf("%s: %x is said now, and was %x", name, b, kept)
		}
	}
	if got, err := decodeHello(append(now, "of a later version"...)); err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("with more in it: %+v, %v", got, err)
	}
	later := h
	later.Min, later.Max = 9, 11
	if r := h.fits(later); r == nil || r.Error() != "refused: incompatible version: ours 1 to 2, theirs 9 to 11" {
		t.Errorf("later protocols: %v", r)
	}
	later = h
	later.Node, later.Boot, later.StateVersion, later.Level = ID{5}, ID{6}, 9, 9
	if r := h.fits(later); r == nil || r.Reason != OtherVersion || !strings.Contains(r.Detail, "9") {
		t.Errorf("a later level: %v", r)
	}
}

// TestPapersFormatStays: with the checksum, and as they were before it.
func TestPapersFormatStays(t *testing.T) {
	want := somePapers()
	now, err := want.text()
	must(t, err)
	kept := golden(t, "node-2.json", now)
	if string(kept) != string(now) {
		t.Errorf("%s is written now, and was %s", now, kept)
	}
	for _, name := range []string{"node-1.json", "node-2.json"} {
		got, err := parsePapers(golden(t, name, nil))
		got.Sum = ""
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
}
