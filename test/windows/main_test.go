//go:build linux

package windows

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pen/test/rig"
)

// Wine makes a whole Windows of a new directory when it is first used, which takes
// minutes where the machine has other things to do.
const (
	bootPatience    = 5 * time.Minute
	commandPatience = 2 * time.Minute
)

// box is a Windows with pen.exe in a folder of its own.
type box struct {
	t      *testing.T
	wine   string
	server string
	env    []string
	folder string
	exe    string
}

// unpack makes a Windows, or skips the test. No run of the tests has to have wine,
// which is a large thing to install for one system among four: also with PEN_CI=1 the
// test skips without it.
func unpack(t *testing.T) *box {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("pen.exe for amd64 runs under wine on amd64 only")
	}
	b := &box{t: t, wine: find("wine64", "wine", "/usr/lib/wine/wine64"), server: find("wineserver", "wineserver64", "/usr/lib/wine/wineserver64")}
	if b.wine == "" || b.server == "" {
		t.Skip("no wine here (apt-get install wine64), so pen.exe is built by go vet only and not tried; PEN_CI does not ask for it")
	}
	dir := rig.Dir(t)
	b.folder = filepath.Join(dir, "a folder")
	b.exe = filepath.Join(b.folder, "pen.exe")
	b.env = append(rig.Env(), "WINEPREFIX="+filepath.Join(dir, "prefix"), "WINEDEBUG=-all", "WINEDLLOVERRIDES=mscoree,mshtml,winemenubuilder.exe=")
	for i, v := range b.env {
		if strings.HasPrefix(v, "HOME=") {
			b.env[i] = "HOME=" + dir
		}
	}
	b.boot(filepath.Join(dir, "prefix"))
	b.build()
	return b
}

func find(names ...string) string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// boot makes the Windows and starts it once more: while it is made there are two
// service managers, one of which knows nothing of what the other is told. It stays
// until the test ends: else it would end with the last program, and its services with
// it.
func (b *box) boot(prefix string) {
	b.t.Helper()
	if err := os.Mkdir(prefix, 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if out, err := b.command(commandPatience, b.server, "-k"); err != nil {
			b.t.Logf("end wine: %v\n%s", err, out)
		}
	})
	for _, step := range [][]string{{b.wine, "wineboot", "--init"}, {b.server, "-k"}, {b.server, "-w"}, {b.server, "-p"}} {
		if out, err := b.command(bootPatience, step[0], step[1:]...); err != nil {
			b.t.Skipf("wine does not start here: %v: %v\n%s", step, err, out)
		}
	}
	library := filepath.Join(prefix, "drive_c/windows/system32/bcryptprimitives.dll")
	if _, err := os.Stat(library); err == nil {
		return
	}
	if err := os.WriteFile(library, prng(), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) build() {
	b.t.Helper()
	if err := os.Mkdir(b.folder, 0o755); err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", b.folder, "pen/cmd/pen")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=windows", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("build pen.exe: %v\n%s", err, out)
	}
}

// command runs a program of this system to its end.
func (b *box) command(limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit) // also when the test is over
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = b.env, filepath.Dir(b.folder)
	cmd.WaitDelay = time.Second // services of Windows may keep the pipes
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return strings.ReplaceAll(out.String(), "\r", ""), err
}

// windows runs a program of the Windows to its end.
func (b *box) windows(name string, args ...string) (string, error) {
	return b.command(commandPatience, b.wine, append([]string{name}, args...)...)
}

// pen runs pen.exe, which has to succeed.
func (b *box) pen(args ...string) string {
	b.t.Helper()
	out, err := b.windows(b.exe, args...)
	if err != nil {
		b.t.Fatalf("pen %q: %v\n%s", args, err, out)
	}
	return out
}

// refuses runs pen.exe, which has to refuse.
func (b *box) refuses(want string, args ...string) {
	b.t.Helper()
	out, err := b.windows(b.exe, args...)
	if _, status := errors.AsType[*exec.ExitError](err); !status || !strings.Contains(out, want) {
		b.t.Errorf("pen %q: got %v\n%s\nwant %q in it", args, err, out, want)
	}
}

// reaches waits until a service is in a state.
func (b *box) reaches(service, state string) {
	b.t.Helper()
	var out string
	ok := rig.Eventually(commandPatience, func() bool {
		out, _ = b.windows("sc", "query", service)
		return strings.Contains(out, state)
	})
	if !ok {
		log, _ := os.ReadFile(filepath.Join(b.folder, "syslog.txt"))
		b.t.Fatalf("the service does not become %s: %s\nIts log:\n%s", state, out, log)
	}
}

func (b *box) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.folder, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// logged waits until the log of the service has a text.
func (b *box) logged(want string) {
	b.t.Helper()
	var log []byte
	if !rig.Eventually(commandPatience, func() bool {
		log, _ = os.ReadFile(filepath.Join(b.folder, "syslog.txt"))
		return strings.Contains(string(log), want)
	}) {
		b.t.Errorf("syslog.txt has no %q:\n%s", want, log)
	}
}
