package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pen/state"
)

// forcedCommand is a change as it is kept.
func forcedCommand(i int) state.Command {
	c := permit(i)
	c.Ops = append([]state.Op{state.Request{ID: state.RequestID(NewID())}}, c.Ops...)
	return c
}

func testForced(t *testing.T, dir string) *forced {
	t.Helper()
	a, err := openArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	f, err := openForced(a, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestForcedChangesAreBounded(t *testing.T) {
	f := testForced(t, t.TempDir())
	all := make([]state.Command, MaxForced)
	for i := range all {
		all[i] = forcedCommand(i)
	}
	if err := f.keep(all); err != nil {
		t.Fatal(err)
	}
	if err := f.add(forcedCommand(0)); err == nil || !strings.Contains(err.Error(), "256 changes were forced already") {
		t.Errorf("one more: %v", err)
	}
	if n := len(f.commands()); n != MaxForced {
		t.Errorf("%d are kept, want %d", n, MaxForced)
	}
	large := forcedCommand(0)
	large.Ops = append(large.Ops, state.SeedWith{Seed: make([]byte, MaxForcedBytes)})
	if err := f.keep([]state.Command{large}); err == nil || !strings.Contains(err.Error(), "more than 1048576 are not kept") {
		t.Errorf("a large one: %v", err)
	}
}

func TestForcedChangesThatAreDamagedAreNamed(t *testing.T) {
	good, err := encodeForced([]state.Command{forcedCommand(1), forcedCommand(2)})
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(good)/2] ^= 1
	for _, c := range []struct {
		name, want string
		b          []byte
	}{
		{"empty", "it is no such file", nil},
		{"another file", "it is no such file", []byte("something else altogether")},
		{"cut", "its checksum is wrong", good[:len(good)-5]},
		{"a bit", "its checksum is wrong", flipped},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, forcedName)
			if err := os.WriteFile(path, c.b, 0o600); err != nil {
				t.Fatal(err)
			}
			a, err := openArchive(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer a.close()
			want := path + ": the changes that were forced on this node can not be read: " + c.want + "; without the file they are forgotten, and nothing else is"
			if _, err := openForced(a, slog.New(slog.DiscardHandler)); err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// The one that is left forces a change, stops, and comes back; then the other does.
func TestForcedChangesHappenOnce(t *testing.T) {
	c := newTestCluster(t, 2)
	var log lockedBuffer
	c.log = slog.New(slog.NewTextHandler(&log, nil))
	c.start(0)
	c.start(1)
	c.holder()
	await(t, "two members", 10*time.Second, c.members(2))
	seed, err := state.Command{Ops: state.Ops(state.New().View())}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	settings := state.Command{By: "start", Ops: []state.Op{state.SeedWith{Seed: seed}}}
	if r, err := c.nodes[0].Propose(t.Context(), settings); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	if err := c.nodes[0].Force(permit(1)); !errors.Is(err, ErrNotAlone) {
		t.Errorf("with a quorum: %v", err)
	}
	c.kill(1)
	n := c.nodes[0]
	await(t, "it holds alone", 10*time.Second, func() bool { return !n.Lease().Valid && n.HoldAlone(true) })
	for i := range 2 {
		if err := n.Force(permit(1 + i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Force(state.Command{Ops: []state.Op{state.RemoveServer{Index: 7}}}); err == nil {
		t.Error("what can not be is forced")
	}
	if got := len(entries(n)); got != 2 || n.Forced() != 2 || n.Status().Forced != 2 {
		t.Errorf("%d entries, %d wait; want 2 of both", got, n.Forced())
	}
	// One that nobody takes when there is a quorum.
	bad := forcedCommand(0)
	bad.Ops[1] = state.RemoveServer{Index: 7}
	if err := n.forced.add(bad); err != nil {
		t.Fatal(err)
	}
	c.kill(0)
	n = c.start(0)
	if n.Forced() != 3 {
		t.Errorf("%d wait after a restart, want 3", n.Forced())
	}
	c.start(1)
	await(t, "all are proposed", 10*time.Second, func() bool { return n.Forced() == 0 })
	await(t, "both have them", 10*time.Second, func() bool { return len(entries(c.nodes[0])) >= 2 && len(entries(c.nodes[1])) >= 2 })
	for i, n := range c.nodes {
		if got := entries(n); len(got) != 2 || !strings.Contains(got[0].String(), "10.1.0.1 ") {
			t.Errorf("node %d has %v, want the two, in order", i, got)
		}
	}
	if !strings.Contains(log.String(), "a forced change is dropped: it does not apply any more") {
		t.Error("the log does not tell what was dropped")
	}
	// Asked for again, as after a stop between the agreement and the disk: nothing.
	again := forcedCommand(3)
	if r, err := n.Propose(t.Context(), again); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	if err := n.forced.add(again); err != nil {
		t.Fatal(err)
	}
	await(t, "it is proposed again", 10*time.Second, func() bool { return n.Forced() == 0 })
	if got := len(entries(n)); got != 3 {
		t.Errorf("%d entries, want 3", got)
	}
}

func FuzzForced(f *testing.F) {
	for n := range 3 {
		var all []state.Command
		for i := range n {
			all = append(all, forcedCommand(i))
		}
		b, err := encodeForced(all)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeForced(b)
		b = binary.BigEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
		all, err := decodeForced(b)
		if err != nil {
			return
		}
		again, err := encodeForced(all)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x was read and became %x, %v", b, again, err)
		}
	})
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
