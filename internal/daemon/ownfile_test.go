package daemon

import (
	"bufio"
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pen/cluster"
	"pen/internal/config"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWordsLeaveTheClusterItsFiles: no word that writes a file writes one of the
// cluster's, by whatever name.
func TestWordsLeaveTheClusterItsFiles(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	log := filepath.Join(data, "cluster", "log")
	kept := filepath.Join(log, "segments")
	must(t, os.MkdirAll(log, 0o700))
	must(t, os.WriteFile(kept, []byte("pen segments 1"), 0o600))
	for name, to := range map[string]string{
		"file": kept, "dir": log, "data2": data, "dangling": filepath.Join("data", "cluster", "none"),
	} {
		must(t, os.Symlink(to, filepath.Join(dir, name)))
	}
	solo, err := cluster.OpenSolo("", slog.New(slog.DiscardHandler))
	must(t, err)
	for name, c := range map[string]struct {
		path string
		ok   bool
	}{
		"a file of it":      {kept, false},
		"a new one":         {filepath.Join(log, "new"), false},
		"by dots":           {data + "/cluster/../cluster/log/segments", false},
		"by a link":         {filepath.Join(dir, "file"), false},
		"by a directory":    {filepath.Join(dir, "dir", "segments"), false},
		"by the data_dir":   {filepath.Join(dir, "data2", "cluster", "log", "segments"), false},
		"a link to nothing": {filepath.Join(dir, "dangling"), false},
		"beside it":         {filepath.Join(data, "cluster.conf"), true},
		"elsewhere":         {filepath.Join(dir, "pen.conf"), true},
	} {
		d := &daemon{state: solo, log: slog.New(slog.DiscardHandler)}
		d.local.Store(&config.Local{DataDir: filepath.Join(dir, "data2")})
		for word, write := range map[string]func(q question) error{
			"write":  func(q question) error { return d.write(t.Context(), q) },
			"backup": func(q question) error { return d.backupWord(t.Context(), q) },
		} {
			os.Remove(filepath.Join(dir, "pen.conf"))
			os.Remove(filepath.Join(data, "cluster.conf"))
			var said bytes.Buffer
			w := bufio.NewWriter(&said)
			args := []config.Value{{Text: c.path}}
			if word == "backup" {
				args = append([]config.Value{{Text: "backup"}}, args...)
			}
			_ = write(question{Statement: &config.Statement{Args: args}, w: w})
			w.Flush()
			want := word + ": " + c.path + " is in " + filepath.Join(dir, "data2", "cluster") + ", where the cluster keeps what this node has promised the others: give another name"
			if got := strings.Contains(said.String(), want); got == c.ok {
				t.Errorf("%s %s: said %q", word, name, said.String())
			}
		}
	}
	if b, err := os.ReadFile(kept); err != nil || string(b) != "pen segments 1" {
		t.Errorf("the list is %q now (%v)", b, err)
	}
	if all, err := os.ReadDir(log); err != nil || len(all) != 1 {
		t.Errorf("beside it: %v (%v)", all, err)
	}
}
