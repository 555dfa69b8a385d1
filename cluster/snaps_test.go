package cluster

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// trimmed is a data_dir as it is after two snapshots: the log begins after the
// newest. It returns the directory of the newest.
func trimmed(t testing.TB) (data, newest string) {
	t.Helper()
	data = t.TempDir()
	dir := filepath.Join(data, "cluster")
	a, err := openArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	a.close()
	s, err := openWAL(filepath.Join(dir, logDir), newHealth(dir, quiet()), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range uint64(20) {
		if err := s.StoreLog(entry(i+1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []uint64{10, 15} {
		newest = takeSnapshot(t, dir, s, end)
		if err := s.DeleteRange(1, end); err != nil {
			t.Fatal(err)
		}
	}
	return data, newest
}

// takeSnapshot makes one that ends with an entry, and returns where it is.
func takeSnapshot(t testing.TB, dir string, logs raft.LogStore, end uint64) string {
	t.Helper()
	snaps, err := openSnapshots(dir, logs, quiet())
	if err != nil {
		t.Fatal(err)
	}
	members := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(ID{1}.String()), Address: "10.0.0.1:7950"}, {ID: raft.ServerID(ID{2}.String()), Address: "10.0.0.2:7950"}}}
	_, trans := raft.NewInmemTransport("")
	sink, err := snaps.Create(1, end, 1, members, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	f := newFSM(newMachine())
	f.reach(end)
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	if err := snap.Persist(sink); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, snapsDir, sink.ID())
}

// reopened opens log and snapshots, and returns what raft would begin with.
func reopened(dir string) (*raft.SnapshotMeta, []byte, error) {
	logs, err := openWAL(filepath.Join(dir, logDir), newHealth(dir, quiet()), hclog.NewNullLogger())
	if err != nil {
		return nil, nil, err
	}
	defer logs.Close()
	s, err := openSnapshots(dir, logs, quiet())
	if err != nil {
		return nil, nil, err
	}
	all, err := s.List()
	if err != nil || len(all) == 0 {
		return nil, nil, err
	}
	meta, r, err := s.Open(all[0].ID)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return meta, b, err
}

// TestSnapshotFlippedBit: whatever bit turns in the newest snapshot, raft begins
// with what was kept, or the node does not start: it never takes an older one.
func TestSnapshotFlippedBit(t *testing.T) {
	data, newest := trimmed(t)
	dir := filepath.Join(data, "cluster")
	want, state, err := reopened(dir)
	must(t, err)
	if want.Index != 15 {
		t.Fatalf("it begins with the snapshot of entry %d", want.Index)
	}
	logs, err := openWAL(filepath.Join(dir, logDir), newHealth(dir, quiet()), hclog.NewNullLogger())
	must(t, err)
	defer logs.Close()
	for _, name := range []string{snapMeta, snapState, snapSum} {
		path := filepath.Join(newest, name)
		whole, err := os.ReadFile(path)
		must(t, err)
		refused := 0
		for i := range whole {
			bad := bytes.Clone(whole)
			bad[i] ^= 1 << (i % 8)
			must(t, os.WriteFile(path, bad, 0o600))
			snaps, err := openSnapshots(dir, logs, quiet())
			if err != nil {
				refused++
				if !strings.Contains(err.Error(), newest) || !strings.HasSuffix(err.Error(), "take the cluster's directory away, and this node joins as a new one") {
					t.Fatalf("%s, byte %d: %v", name, i, err)
				}
				continue
			}
			all, err := snaps.List()
			if err != nil || len(all) != 1 || !reflect.DeepEqual(all[0], want) {
				t.Fatalf("%s, byte %d: raft begins with %+v, want %+v (%v)", name, i, all, want, err)
			}
			_, r, err := snaps.Open(all[0].ID)
			must(t, err)
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, state) {
				t.Fatalf("%s, byte %d: another state, %v", name, i, err)
			}
			r.Close()
		}
		// A name in JSON may be written in large or in small letters.
		if least := len(whole) * 9 / 10; refused < least {
			t.Errorf("%s: refused in %d of %d cases, want %d", name, refused, len(whole), least)
		}
		must(t, os.WriteFile(path, whole, 0o600))
	}
}

// TestSnapshotGone: what an operator reads when the beginning of the state is lost.
func TestSnapshotGone(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(newest string) error
		want string
	}{
		{"state damaged", func(s string) error { return flip(filepath.Join(s, snapState)) }, "state.bin: it does not match the checksum in meta.json"},
		{"state cut", func(s string) error { return os.Truncate(filepath.Join(s, snapState), 20) }, "state.bin: 20 bytes, and meta.json says "},
		{"state gone", func(s string) error { return os.Remove(filepath.Join(s, snapState)) }, "state.bin: it is missing"},
		{"papers gone", func(s string) error { return os.Remove(filepath.Join(s, snapMeta)) }, "meta.json: "},
		{"papers damaged", func(s string) error { return flip(filepath.Join(s, snapMeta)) }, "meta.json: "},
		{"newest gone", os.RemoveAll, ": the snapshot ends with entry 10, and the log begins with entry 16"},
		{"all gone", func(s string) error { return os.RemoveAll(filepath.Dir(s)) }, "snapshots: the log begins with entry 16, and the snapshot of what was before is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, newest := trimmed(t)
			must(t, c.harm(newest))
			cfg := nodeConfig(1, nil)
			n, err := Open(Config{Name: "shop", Key: cfg.Key, Peers: []Peer{{Addr: memAddr(0)}, {Addr: memAddr(1)}}, Self: memAddr(0), Node: "lb0", Dir: data, Heartbeat: 200 * ms, Log: quiet()})
			if err == nil {
				n.Close()
				t.Fatal("it starts")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "take the cluster's directory away") {
				t.Errorf("got %q, want %q in it", err, c.want)
			}
		})
	}
}

// flip turns a bit in the middle of a file.
func flip(path string) error {
	b, err := os.ReadFile(path)
	if err == nil {
		b[len(b)/2] ^= 1
		err = os.WriteFile(path, b, 0o600)
	}
	return err
}

// TestSnapshotOfTheVersionBefore has no checksum of its papers.
func TestSnapshotOfTheVersionBefore(t *testing.T) {
	data, newest := trimmed(t)
	must(t, os.Remove(filepath.Join(newest, snapSum)))
	if meta, _, err := reopened(filepath.Join(data, "cluster")); err != nil || meta.Index != 15 {
		t.Errorf("got %+v, %v", meta, err)
	}
}

// TestSnapshotRemovedInPart: a process died while it removed an old one.
func TestSnapshotRemovedInPart(t *testing.T) {
	for _, name := range []string{snapMeta, snapState, snapSum} {
		data, newest := trimmed(t)
		all, err := filepath.Glob(filepath.Join(filepath.Dir(newest), "*-10-*"))
		must(t, err)
		must(t, os.Remove(filepath.Join(all[0], name)))
		if meta, _, err := reopened(filepath.Join(data, "cluster")); err != nil || meta.Index != 15 {
			t.Errorf("without %s: %+v, %v", name, meta, err)
		}
	}
}

// TestSnapshotBeyondTheEndOfTheLog: a process died when it had got a snapshot from
// the leader and had not yet cleared its log. It goes on after the snapshot.
func TestSnapshotBeyondTheEndOfTheLog(t *testing.T) {
	data, _ := trimmed(t)
	dir := filepath.Join(data, "cluster")
	logs, err := openWAL(filepath.Join(dir, logDir), newHealth(dir, quiet()), hclog.NewNullLogger())
	must(t, err)
	defer logs.Close()
	takeSnapshot(t, dir, logs, 50)
	if err := logs.StoreLog(entry(51, 1)); err == nil {
		t.Fatal("the log has a gap")
	}
	_, err = openSnapshots(dir, logs, quiet())
	must(t, err)
	must(t, logs.StoreLog(entry(51, 1)))
	if first, err := logs.FirstIndex(); first != 51 || err != nil {
		t.Errorf("the log begins with entry %d, %v", first, err)
	}
}
