package daemon

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pen/state"
)

var update = flag.Bool("update", false, "write what is missing in testdata/format; what is there stays")

// TestBackupFormatStays: backups of every level are read, whatever wrote them. The
// files are only added.
func TestBackupFormatStays(t *testing.T) {
	for level := state.Level(1); level <= state.Newest; level++ {
		path := filepath.Join("testdata", "format", fmt.Sprintf("backup-%d.pen", level))
		if _, err := os.Stat(path); os.IsNotExist(err) && *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, goldenBackup(t, level), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		h, v, err := readBackup(b)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if h.Level != level || h.Cluster != "shop" || h.Version != "1.0" || !h.Clients || h.Index != v.Index || !h.Time.Equal(time.Unix(100, 0)) {
			t.Errorf("%s: got %+v", path, h)
		}
		if v.Level() != level || v.Service("").Timeout != 7 || v.Service("web") == nil || v.Service("").Clients().Len() != 1 {
			t.Errorf("%s: level %d, timeout %d, %d clients", path, v.Level(), v.Service("").Timeout, v.Service("").Clients().Len())
		}
		if now := goldenBackup(t, level); !bytes.Equal(now, b) {
			t.Errorf("%s is written otherwise now: programs of that level could not read it", path)
		}
	}
}

// goldenBackup is one of a state of that level.
func goldenBackup(t *testing.T, level state.Level) []byte {
	t.Helper()
	m := state.New()
	ops := []state.Op{state.Set{Option: state.OptTimeout, Value: state.Int(7)}, state.AddService{Service: "web"}}
	if level > 1 {
		ops = append([]state.Op{state.SetLevel{Level: level}}, ops...)
	}
	for _, ops := range [][]state.Op{ops, {state.Visits{Service: m.View().Service("").ID, Clients: []state.Visit{{Client: netip.MustParseAddr("10.0.0.1"), Server: state.None}}}}} {
		if r := m.Apply(state.Command{Time: 100_000, By: "me", Ops: ops}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	snap := m.Snapshot()
	defer snap.Release()
	var b bytes.Buffer
	h := backupHead{Cluster: "shop", Version: "1.0", Time: time.Unix(100, 0).UTC(), Index: snap.Index(), Level: m.View().Level(), Clients: true}
	if err := writeBackup(&b, h, snap); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
