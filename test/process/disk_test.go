//go:build linux

package process

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

// remembering starts a pen with a data directory and three servers, and lets
// three clients come: 2 gets b, 3 gets c, 4 gets a.
func remembering(t *testing.T) (d *daemon, args []string) {
	t.Helper()
	d = place(t)
	for i := range 3 {
		d.backend(i)
	}
	data := filepath.Join(d.dir, "data")
	args = []string{"--data-dir", data, "{listen}", "{a}", "{b}", "{c}"}
	d.start(args...)
	if got := d.fetch(2) + d.fetch(3) + d.fetch(4); got != "bca" {
		t.Fatalf("three clients get %q", got)
	}
	d.ask("blacklist 77")
	return d, args
}

// remembered checks that the clients still have their servers. They come in
// another order than before, so that choosing anew gives other servers.
func (d *daemon) remembered() {
	d.t.Helper()
	if got := d.fetch(4) + d.fetch(3) + d.fetch(2); got != "acb" {
		d.t.Errorf("clients 4, 3, 2 get %q, want acb", got)
	}
	if got := d.ask("blacklist"); got != "77\n" {
		d.t.Errorf("blacklist %q, want 77", got)
	}
}

// settled waits until the visits of clients must be on disk: they are written
// every 20 ms.
func settled() { time.Sleep(300 * time.Millisecond) }

func TestKilledProcessKeepsItsClients(t *testing.T) {
	t.Parallel()
	d, args := remembering(t)
	settled()
	for range 2 {
		d.Kill()
		d.start(args...)
		d.remembered()
	}
}

func TestEndedProcessKeepsItsClients(t *testing.T) {
	t.Parallel()
	d, args := remembering(t)
	d.Signal(syscall.SIGTERM)
	d.ends(0)
	d.start(args...)
	d.remembered()
}

// newest returns the file of the data directory that was written last.
func newest(t *testing.T, dir string) string {
	t.Helper()
	var path string
	var at time.Time
	filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() > 0 && info.ModTime().After(at) {
			path, at = p, info.ModTime()
		}
		return nil
	})
	if path == "" {
		t.Fatalf("no file in %s", dir)
	}
	return path
}

func TestTornTailIsCut(t *testing.T) {
	t.Parallel()
	d, args := remembering(t)
	settled()
	d.Kill()
	log := newest(t, filepath.Join(d.dir, "data"))
	for _, tail := range []string{"\x07", strings.Repeat("\x00", 40), "\x40\x00\x00\x00torn"} {
		f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(tail)
		f.Close()
		d.start(args...)
		d.remembered()
		settled()
		d.Kill()
	}
}

func TestDamagedDataIsRefused(t *testing.T) {
	t.Parallel()
	d, args := remembering(t)
	settled()
	d.Kill()
	log := newest(t, filepath.Join(d.dir, "data"))
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/3] ^= 0x55
	if err := os.WriteFile(log, b, 0o600); err != nil {
		t.Fatal(err)
	}
	complaint := d.fails(1, append(rig.AsRoot("-f", "-C", "{control}"), args...)...)
	contains(t, "complaint", complaint, filepath.Base(log))
	if again, _ := os.ReadFile(log); string(again) != string(b) {
		t.Error("the damaged file was changed")
	}
}

func TestDataDirectoryBelongsToOne(t *testing.T) {
	t.Parallel()
	d, args := remembering(t)
	other := place(t)
	other.dir = d.dir
	complaint := other.fails(1, append(rig.AsRoot("-f", "-C", "{control}"), args...)...)
	contains(t, "complaint", complaint, filepath.Join(d.dir, "data"))
	d.remembered()
}
