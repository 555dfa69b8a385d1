package main

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"pen/cluster"
)

func TestGenkeyMakesAFileThatIsAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o666) // as a shell does
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Chmod(0o644); err != nil {
		t.Fatal(err)
	}
	if status := genkey(file); status != ok {
		t.Fatalf("status %d", status)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.ReadKey(path); err != nil {
		t.Error(err)
	}
}

func TestGenkeyLeavesTheModeOfWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes")
	if err := os.WriteFile(path, []byte("notes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if status := genkey(file); status != ok {
		t.Fatalf("status %d", status)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode != 0o644 {
		t.Errorf("the mode became %v", mode)
	}
}
