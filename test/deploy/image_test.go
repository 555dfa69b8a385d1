//go:build linux

package deploy

import (
	"debug/elf"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pen/test/rig"
)

func TestProgramsNeedNothing(t *testing.T) {
	for _, name := range []string{"pen", "penctl"} {
		f, err := elf.Open(filepath.Join(rig.Bin(t), name))
		must(t, err)
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s needs an interpreter: it is not static", name)
			}
		}
		if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 {
			t.Errorf("%s needs %v, %v", name, libraries, err)
		}
	}
}

// The image is a root with the two programs and what the Dockerfile copies. Three
// nodes run in such roots, as the same root without power that compose.yaml makes.
func TestImage(t *testing.T) {
	s := settle(t, 3, "three.conf", nil)
	dockerfile, err := os.ReadFile(filepath.Join(files, "Dockerfile"))
	must(t, err)
	compose, err := os.ReadFile(filepath.Join(files, "compose.yaml"))
	must(t, err)
	var argv []string
	must(t, json.Unmarshal([]byte(first(t, `(?m)^ENTRYPOINT (\[.*\])$`, dockerfile)), &argv))
	caps := capabilities(t, strings.Split(first(t, `(?m)^  cap_add: \[(.*)\]$`, compose), ", "))
	for _, m := range s.nodes {
		c := &cage{Root: m.image(), Caps: caps}
		m.startIn(c, argv...)
	}
	s.answers(address, "web")
	for _, m := range s.nodes {
		// As compose.yaml says to ask.
		m.asks("quorum, 3 of 3 alive", "/penctl", "/run/pen/ctl", "cluster")
	}
}

// image makes the root, and mounts what compose.yaml mounts.
func (m *machine) image() string {
	root := m.at("root")
	for _, dir := range []string{"etc/pen", "proc", "run/pen", "var/lib/pen"} {
		must(m.site.t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for to, from := range map[string]string{
		"pen": filepath.Join(m.site.bin, "pen"), "penctl": filepath.Join(m.site.bin, "penctl"),
		"etc/passwd": filepath.Join(files, "passwd"), "etc/group": filepath.Join(files, "group"),
		"etc/pen/pen.conf": filepath.Join(files, "examples", "three.conf"), "etc/pen/cluster.key": m.at("etc/cluster.key"),
	} {
		b, err := os.ReadFile(from)
		must(m.site.t, err)
		mode := os.FileMode(0o755)
		if strings.HasSuffix(to, ".key") {
			mode = 0o600
		}
		must(m.site.t, os.WriteFile(filepath.Join(root, to), b, mode))
	}
	return root
}

// asks runs a program in the image until it says want.
func (m *machine) asks(want string, argv ...string) {
	m.site.t.Helper()
	m.until(want, func() (string, error) {
		return m.Run(m.site.t.Context(), append([]string{"chroot", m.at("root")}, argv...)...)
	})
}

func first(t *testing.T, pattern string, text []byte) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindSubmatch(text)
	if m == nil {
		t.Fatalf("nothing matches %s", pattern)
	}
	return string(m[1])
}
