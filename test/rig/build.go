//go:build linux

package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Where Debian keeps the original. Its files are never looked for on PATH: ours
// have the same names.
const (
	OriginalPen    = "/usr/bin/pen"
	OriginalPenctl = "/usr/bin/penctl"
)

var build struct {
	once sync.Once
	dir  string
	err  error
}

// Bin returns the directory with our pen and penctl, built from this checkout
// once for each test binary. PEN_BIN names a directory to use instead.
func Bin(t testing.TB) string {
	t.Helper()
	build.once.Do(func() { build.dir, build.err = buildCommands() })
	if build.err != nil {
		t.Fatalf("build the commands: %v", build.err)
	}
	return build.dir
}

func buildCommands() (string, error) {
	if dir := os.Getenv("PEN_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.MkdirTemp("", "pen-bin-")
	if err != nil {
		return "", err
	}
	// Readable by every user: the jail and -u tests run it as nobody.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	return dir, Build(dir)
}

// Build builds our commands into a directory, with more arguments for go build.
func Build(dir string, more ...string) error {
	args := append([]string{"build", "-o", dir}, more...)
	cmd := exec.Command("go", append(args, "pen/cmd/pen", "pen/cmd/penctl")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// Pen returns the path of our pen.
func Pen(t testing.TB) string { return filepath.Join(Bin(t), "pen") }

// Penctl returns the path of our penctl.
func Penctl(t testing.TB) string { return filepath.Join(Bin(t), "penctl") }

// Main runs the tests and removes what Bin has built. TestMain calls it.
func Main(m *testing.M) int {
	code := m.Run()
	if build.dir != "" && os.Getenv("PEN_BIN") == "" {
		os.RemoveAll(build.dir)
	}
	return code
}

// Need skips the test if something that this machine may lack is missing. With
// PEN_CI=1 nothing may be missing, and it fails.
func Need(t testing.TB, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("PEN_CI") == "1":
		t.Fatalf("needs %s, and PEN_CI allows no skip", what)
	default:
		t.Skipf("needs %s", what)
	}
}

// NeedRoot skips the test without the rights of root.
func NeedRoot(t testing.TB) {
	t.Helper()
	Need(t, os.Geteuid() == 0, "root")
}

// NeedOriginal skips the test where the original pen is not installed.
func NeedOriginal(t testing.TB) {
	t.Helper()
	Need(t, HasOriginal(), "Debian's pen (apt-get install pen)")
}

// HasOriginal tells whether the original pen is installed.
func HasOriginal() bool {
	_, err1 := os.Stat(OriginalPen)
	_, err2 := os.Stat(OriginalPenctl)
	return err1 == nil && err2 == nil
}
