//go:build linux

package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pen/test/lab"
	"pen/test/rig"
)

// TestDiskFull: the file system of the holder's data_dir becomes full.
// Another node takes the address, status says why, pen goes on, and
// follows by itself when there is room again.
func TestDiskFull(t *testing.T) {
	s := prepare(t, "no hash")
	for _, n := range s.Nodes {
		dir := filepath.Join(n.Dir, "data")
		must(t, os.Mkdir(dir, 0o755))
		must(t, unix.Mount("pen-test", dir, "tmpfs", 0, "size=48m"))
		t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	}
	t.Cleanup(func() {
		for _, n := range s.Nodes {
			s.Pen(n).Signal(unix.SIGKILL)
		}
	})
	must(t, s.Start(s.Nodes...))
	s.well(t)
	for _, c := range []struct {
		name, want string
		harm, heal func(dir string) error
	}{
		{"full", "disk full: ", func(dir string) error {
			return fill(filepath.Join(dir, "fill"))
		}, func(dir string) error { return os.Remove(filepath.Join(dir, "fill")) }},
	} {
		if !t.Run(c.name, func(t *testing.T) {
			old := s.holder(t)
			dir := filepath.Join(old.Dir, "data")
			began := time.Now()
			must(t, c.harm(dir))
			if !rig.Eventually(15*time.Second, func() bool { return s.holder(t) != old }) {
				t.Fatalf("%s still holds the address: %s", old.Name, s.ask(t, old, "cluster"))
			}
			t.Logf("another node holds the address after %v", time.Since(began).Round(time.Millisecond))
			for _, n := range []*lab.Node{old, s.holder(t)} {
				if !rig.Eventually(5*time.Second, func() bool { return strings.Contains(s.ask(t, n, "cluster"), c.want) }) {
					t.Errorf("%s does not say %q: %s", n.Name, c.want, s.ask(t, n, "cluster"))
				}
			}
			must(t, c.heal(dir))
			s.well(t)
			if !rig.Eventually(10*time.Second, func() bool { return fit(s.ask(t, old, "cluster"), old.Name) }) {
				t.Errorf("it does not notice that its disk works: %s", s.ask(t, old, "cluster"))
			}
		}) {
			return
		}
	}
}

// fit tells whether the table calls a node eligible.
func fit(table, node string) bool {
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 7 && strings.TrimSuffix(f[0], "*") == node {
			return f[7] == "yes"
		}
	}
	return false
}

// fill writes a file until there is no room.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for b := make([]byte, 1<<16); ; {
		if _, err := f.Write(b); err != nil {
			return nil
		}
	}
}
