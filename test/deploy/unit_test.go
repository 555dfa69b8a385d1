//go:build linux

package deploy

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pen/internal/config"
	"pen/test/rig"
)

// files is where the things under test are.
const files = "../../deploy"

// unit has the settings of [Service]; an empty value ends what came before, as
// systemd has it.
type unit map[string][]string

func readUnit(t testing.TB, names ...string) unit {
	t.Helper()
	u := unit{}
	for _, name := range names {
		f, err := os.Open(filepath.Join(files, name))
		must(t, err)
		defer f.Close()
		for in := bufio.NewScanner(f); in.Scan(); {
			key, value, ok := strings.Cut(in.Text(), "=")
			switch {
			case !ok || strings.HasPrefix(key, "#"):
			case value == "":
				delete(u, key)
			default:
				u[key] = append(u[key], value)
			}
		}
	}
	return u
}

// one is a setting that is there once.
func (u unit) one(t testing.TB, key string) string {
	t.Helper()
	if len(u[key]) != 1 {
		t.Fatalf("%s: got %q, want one value", key, u[key])
	}
	return u[key][0]
}

func (u unit) words(key string) []string { return strings.Fields(strings.Join(u[key], " ")) }

func TestUnitIsUnderstood(t *testing.T) {
	_, err := exec.LookPath("systemd-analyze")
	rig.Need(t, err == nil, "systemd-analyze")
	text, err := os.ReadFile(filepath.Join(files, "pen.service"))
	must(t, err)
	// The programs have to be there, and the user.
	mine := strings.NewReplacer("/usr/local/bin/", rig.Bin(t)+"/", "User=pen", "User=daemon", "Group=pen", "Group=daemon").Replace(string(text))
	file := filepath.Join(t.TempDir(), "pen.service")
	must(t, os.WriteFile(file, []byte(mine), 0o644))
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	// 10 is a service without any hardening, in tenths of a point.
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=25", file).CombinedOutput(); err != nil {
		t.Errorf("exposure: %v\n%s", err, out)
	}
}

// What the unit says in words has its reason in how pen works.
func TestUnitFitsThePrograms(t *testing.T) {
	u := readUnit(t, "pen.service")
	for key, want := range map[string]string{
		"Type": "notify", "KillMode": "control-group", "SystemCallErrorNumber": "EPERM",
	} {
		if got := u.one(t, key); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
	if a, b := u.words("AmbientCapabilities"), u.words("CapabilityBoundingSet"); !slices.Equal(a, b) {
		t.Errorf("ambient %v, bounding %v", a, b)
	}
	start := strings.Fields(u.one(t, "ExecStart"))
	if _, err := config.ParseArgs(start[1:]); err != nil {
		t.Errorf("ExecStart: %v", err)
	}
	if _, err := config.ParseArgs(u.words("ExecStopPost")[1:]); err != nil {
		t.Errorf("ExecStopPost: %v", err)
	}
	if got := u.words("ExecReload"); got[1] != "/run/pen/ctl" || !slices.Contains(start, got[1]) {
		t.Errorf("ExecReload=%v asks another socket than ExecStart=%v opens", got, start)
	}
	if single := readUnit(t, "pen.service", "single.conf"); slices.Contains(single.words("AmbientCapabilities"), "CAP_NET_ADMIN") {
		t.Error("single.conf leaves CAP_NET_ADMIN")
	}
}
