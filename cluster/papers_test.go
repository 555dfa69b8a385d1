package cluster

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestPapers(t *testing.T) {
	dir := t.TempDir()
	a, err := openArchive(dir)
	must(t, err)
	if a.past || a.papers.Node.IsZero() {
		t.Errorf("a new directory: %+v", a)
	}
	if _, err := openArchive(dir); err == nil {
		t.Error("two have it open")
	}
	p := a.papers
	s, err := openWAL(filepath.Join(dir, logDir), newHealth(dir, quiet()), hclog.NewNullLogger())
	must(t, err)
	must(t, s.Close())
	p.Heartbeat, p.Formation, p.Promise = 200*ms, NewID(), &promise{NewID(), p.Node, []member{{p.Node, memAddr(1)}}}
	must(t, a.save(p))
	a.close()
	a, err = openArchive(dir)
	must(t, err)
	if !a.past || a.papers.Node != p.Node || a.papers.Formation != p.Formation || a.papers.Promise.Members[0].Addr != memAddr(1) {
		t.Errorf("read %+v, want %+v", a.papers, p)
	}
	a.close()
	must(t, os.WriteFile(filepath.Join(dir, papersName), []byte("{}"), 0o600))
	if _, err := openArchive(dir); err == nil || !strings.Contains(err.Error(), "no node id: it is damaged: take the cluster's directory away") {
		t.Errorf("papers without a node: %v", err)
	}
}

func somePapers() papers {
	return papers{
		Node: ID{1}, Heartbeat: 200 * ms, Formation: ID{2}, Generation: 3, Level: 2, Overtaken: 4, Found: true, Brings: true, Recover: true,
		Promise: &promise{ID{5}, ID{1}, []member{{ID{1}, memAddr(0)}}},
	}
}

// TestPapersFlippedBit: whatever bit turns, the node knows what it knew or does not
// start.
func TestPapersFlippedBit(t *testing.T) {
	whole, err := somePapers().text()
	must(t, err)
	want, err := parsePapers(whole)
	must(t, err)
	refused := 0
	for i := range 8 * len(whole) {
		bad := bytes.Clone(whole)
		bad[i/8] ^= 1 << (i % 8)
		p, err := parsePapers(bad)
		switch {
		case err != nil && strings.HasSuffix(err.Error(), "it is damaged: take the cluster's directory away, and this node joins as a new one"):
			refused++
		case err != nil:
			t.Fatalf("bit %d: %v", i, err)
		default:
			p.Sum = want.Sum // if it is the field's name that is another now
			if !reflect.DeepEqual(p, want) {
				t.Fatalf("bit %d: it starts with %+v, want %+v", i, p, want)
			}
		}
	}
	if accepted := 8*len(whole) - refused; accepted > 8*len("sum") {
		t.Errorf("%d damages go unnoticed", accepted)
	}
	dir := t.TempDir()
	bad := bytes.Replace(whole, []byte(`"generation": 3`), []byte(`"generation": 2`), 1)
	must(t, os.WriteFile(filepath.Join(dir, papersName), bad, 0o600))
	if _, err := openArchive(dir); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, papersName)+": its checksum does not match: it is damaged") {
		t.Errorf("got %v", err)
	}
}

// TestPapersOfOtherVersions: those of before have no checksum, later ones have more
// in them, and both read what is written here.
func TestPapersOfOtherVersions(t *testing.T) {
	p := somePapers()
	old, err := json.MarshalIndent(p, "", "\t")
	must(t, err)
	if got, err := parsePapers(old); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("of before: %+v, %v", got, err)
	}
	text, err := p.text()
	must(t, err)
	p.Sum = ""
	later := bytes.Replace(text, []byte("{\n"), []byte("{\n\t\"later\": 7,\n"), 1)
	if _, err := parsePapers(later); err == nil {
		t.Error("a field that was put there without a new checksum")
	}
	if later = resum(later); !bytes.Contains(later, []byte("later")) {
		t.Fatalf("%s", later)
	}
	got, err := parsePapers(later)
	got.Sum = ""
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("of a later one: %+v, %v", got, err)
	}
}

// resum gives papers their checksum anew.
func resum(b []byte) []byte {
	at := bytes.LastIndex(b, []byte(papersSum)) + len(papersSum)
	b = bytes.Clone(b)
	copy(b[at:], papersNoSum)
	copy(b[at:], sumOf(b))
	return b
}

func FuzzPapers(f *testing.F) {
	b, err := somePapers().text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"node":"01000000000000000000000000000000"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePapers(b)
		if err != nil {
			return
		}
		again, err := p.text()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parsePapers(again); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}
