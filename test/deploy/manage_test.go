//go:build linux

package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"pen/test/lab"
	"pen/test/rig"
)

func guide(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(files, "management.md"))
	must(t, err)
	return string(text)
}

// blocks are the texts between fences of a kind.
func blocks(t testing.TB, kind string) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```$").FindAllStringSubmatch(guide(t), -1) {
		all = append(all, m[1])
	}
	if all == nil {
		t.Fatalf("management.md has no block of %s", kind)
	}
	return all
}

// What an operator is told to type has been typed here.
func TestEveryCommandIsTried(t *testing.T) {
	var tests []byte
	for _, name := range []string{"manage_test.go", "release_test.go"} {
		text, err := os.ReadFile(name)
		must(t, err)
		tests = append(tests, text...)
	}
	for _, line := range strings.Split(strings.Join(blocks(t, "sh"), ""), "\n") {
		if strings.HasPrefix(line, "pen") && !strings.Contains(string(tests), line+"\"") {
			t.Errorf("%q is tried by nothing", line)
		}
	}
	for _, file := range regexp.MustCompile("`([a-z]+/?[a-z]*\\.(?:conf|service|yaml))`").FindAllStringSubmatch(guide(t), -1) {
		if _, err := os.Stat(filepath.Join(files, file[1])); err != nil && file[1] != "pen.conf" {
			t.Error(err)
		}
	}
}

// types does what the guide says on this machine, and returns what is to be seen.
func (m *machine) types(line string) string {
	m.site.t.Helper()
	if !strings.Contains(guide(m.site.t), "\n"+line+"\n") {
		m.site.t.Fatalf("the guide does not have %q", line)
	}
	shell := fmt.Sprintf("PATH=%s:$PATH; %s", m.site.bin, strings.Join(m.here(line), " "))
	out, err := m.Run(m.site.t.Context(), "sh", "-c", shell)
	if err != nil {
		m.site.t.Errorf("%s: %s: %v", m.Name, line, err)
	}
	return out
}

// stop is systemctl stop.
func (m *machine) stop() {
	m.site.t.Helper()
	m.pen.Signal(syscall.SIGTERM)
	if status, ended := m.pen.Wait(patience); !ended || status != 0 {
		m.site.t.Errorf("%s: status %d, ended %v", m.Name, status, ended)
	}
}

func (m *machine) kill() {
	m.pen.Signal(syscall.SIGKILL)
	m.pen.Wait(patience)
}

func TestManagingACluster(t *testing.T) {
	s := settle(t, 3, "three.conf", readUnit(t, "pen.service"))
	a := s.nodes[0]
	a.types("pen --genkey > /etc/pen/cluster.key")
	key, err := os.ReadFile(a.at("etc/cluster.key"))
	must(t, err)
	for _, m := range s.nodes {
		must(t, os.WriteFile(m.at("etc/cluster.key"), key, 0o640))
		must(t, os.Chmod(m.at("etc/cluster.key"), 0o640)) // pen has closed it to the group
		m.types("pen --check -F /etc/pen/pen.conf")
	}
	s.startAll()
	s.answers(address, "web")
	s.reads(a)
	s.changes(a)
	s.keeps(a)
	s.moves(a)
	s.upgrades()
	s.replaces(s.nodes[2])
	s.recovers()
}

func (s *site) reads(m *machine) {
	t := s.t
	t.Helper()
	for line, want := range map[string]string{
		"penctl /run/pen/ctl cluster":      "ELIGIBLE",
		"penctl /run/pen/ctl cluster json": `"quorum": true`,
		"penctl /run/pen/ctl services":     "default",
		"penctl /run/pen/ctl servers":      "10.0.1.3",
		"penctl /run/pen/ctl counters":     "cluster_moves",
	} {
		if out := m.types(line); !strings.Contains(out, want) {
			t.Errorf("%s: no %q in %q", line, want, out)
		}
	}
}

func (s *site) changes(a *machine) {
	t := s.t
	t.Helper()
	text, err := os.ReadFile(a.at("etc/pen.conf"))
	must(t, err)
	changed := strings.Replace(string(text), "10.0.1.3 port 80", "10.0.1.3 port 80 max 77", 1)
	must(t, os.WriteFile(a.at("etc/pen.conf"), []byte(changed), 0o644))
	a.types("pen --check -F /etc/pen/pen.conf")
	a.types("penctl /run/pen/ctl reload")
	for _, m := range s.others(a) {
		m.says("max 77", "servers")
		m.says("DIFFERS", "cluster")
		must(t, os.WriteFile(m.at("etc/pen.conf"), []byte(changed), 0o644))
		m.types("penctl /run/pen/ctl reload")
	}
	for _, m := range s.nodes {
		m.until("same", func() (string, error) {
			out, err := m.ask("cluster")
			return strings.ReplaceAll(out, "DIFFERS", "differs, not the "), err
		})
	}
	must(t, os.WriteFile(a.at("etc/pen.conf"), []byte("lissen 80\n"), 0o644))
	if out, err := a.ask("reload"); err == nil || !strings.Contains(out, "lissen") {
		t.Errorf("a reload with a mistake: %q, %v", out, err)
	}
	must(t, os.WriteFile(a.at("etc/pen.conf"), []byte(changed), 0o644))

	a.types("penctl /run/pen/ctl server 1 blacklist 3600")
	rests := regexp.MustCompile("Server 1 status: address 10.0.1.2, status [1-9]")
	s.nodes[1].until("true", func() (string, error) {
		s.nodes[1].pen.Signal(syscall.SIGUSR1) // it logs a report
		return fmt.Sprint(rests.MatchString(s.nodes[1].pen.Log())), nil
	})
	a.types("penctl /run/pen/ctl server 1 blacklist 0")
	a.types("penctl /run/pen/ctl write /var/lib/pen/saved.conf")
	if saved, err := os.ReadFile(a.at("state/saved.conf")); err != nil || !strings.Contains(string(saved), "max 77") {
		t.Errorf("saved: %s, %v", saved, err)
	}
}

// keeps brings back what was there before a mistake.
func (s *site) keeps(a *machine) {
	t := s.t
	t.Helper()
	if out := a.types("penctl /run/pen/ctl cluster diff"); out != "no difference\n" {
		t.Errorf("diff: %s", out)
	}
	a.says("state level 2\n", "cluster")
	a.types("penctl /run/pen/ctl cluster backup /var/lib/pen/shop.backup clients")
	if info, err := os.Stat(a.at("state/shop.backup")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v", info, err)
	}
	if _, err := a.ask("no server 2"); err != nil {
		t.Error(err)
	}
	if out := a.types("penctl /run/pen/ctl cluster restore /var/lib/pen/shop.backup"); !strings.Contains(out, "settings changed") {
		t.Errorf("restore: %s", out)
	}
	if out := a.types("penctl /run/pen/ctl cluster log"); !strings.Contains(out, "no server 2\n") || !strings.Contains(out, " restore of ") {
		t.Errorf("log: %s", out)
	}
	if out := a.types("penctl /run/pen/ctl cluster diff"); out != "no difference\n" {
		t.Errorf("diff after the restore: %s", out)
	}
	if out := a.types("penctl /run/pen/ctl cluster rehearse check"); !strings.Contains(out, "nothing was done\n") {
		t.Errorf("rehearse check: %s", out)
	}
	if out := a.types("penctl /run/pen/ctl cluster rehearse"); strings.Count(out, " ms without an answer, ") != 2 {
		t.Errorf("rehearse: %s", out)
	}
	s.well()
}

func (s *site) moves(a *machine) {
	t := s.t
	t.Helper()
	before := s.holder(s.nodes...)
	a.types("penctl /run/pen/ctl cluster transfer")
	s.holder(s.others(before)...)
	s.well()
	a.types("penctl /run/pen/ctl cluster transfer 10.0.0.12")
	s.holder(s.nodes[1])
	s.well()
	a.types("penctl /run/pen/ctl cluster drain 10.0.0.11")
	a.says("drained", "cluster")
	a.types("penctl /run/pen/ctl cluster undrain 10.0.0.11")
	s.well()
	s.answers(address, "web")
}

// well waits until all nodes could take the address, in the eyes of each.
func (s *site) well() {
	s.t.Helper()
	for _, m := range s.nodes {
		m.says(fmt.Sprintf("quorum, %d of %[1]d alive", len(s.nodes)), "cluster")
		m.until("0 not ready", func() (string, error) {
			out, err := m.ask("cluster")
			return fmt.Sprintf("%d not ready: %s", unready(out), out), err
		})
	}
}

// unready counts the members that could not take the address. What a node was
// before it lost its disk is no member.
func unready(table string) (n int) {
	for line := range strings.Lines(table) {
		if strings.Contains(line, " no: ") && !strings.Contains(line, " absent ") {
			n++
		}
	}
	return n
}

func (s *site) upgrades() {
	t := s.t
	t.Helper()
	last := s.holder(s.nodes...)
	for _, m := range append(s.others(last), last) {
		m.types("penctl /run/pen/ctl cluster")
		m.stop()
		s.answers(address, "web")
		m.start()
		s.well()
	}
	if last.holds() {
		t.Errorf("%s holds the address again without being asked", last.Name)
	}
	s.nodes[0].says("max 77", "servers")
}

func (s *site) replaces(m *machine) {
	t := s.t
	t.Helper()
	m.stop()
	must(t, os.RemoveAll(m.at("state/cluster")))
	m.start()
	s.well()
	m.says("max 77", "servers")
	s.answers(address, "web")
}

// recovers loses two nodes for good, of which one turns up again.
func (s *site) recovers() {
	t := s.t
	t.Helper()
	a, b, c := s.nodes[0], s.nodes[1], s.nodes[2]
	b.kill()
	c.kill()
	a.says("no quorum, 1 of 3 alive", "cluster")
	a.types("penctl /run/pen/ctl cluster")
	if out, err := a.ask("cluster", "recover"); err == nil || !strings.Contains(out, "cluster recover shop") {
		t.Errorf("recover without a name: %q, %v", out, err)
	}
	a.types("penctl /run/pen/ctl cluster recover shop")
	a.says("quorum, 1 of 1 alive", "cluster")
	s.answers(address, "web")
	a.says("max 77", "servers")

	must(t, os.RemoveAll(b.at("state/cluster"))) // another machine
	b.start()
	b.says("quorum, 2 of 2 alive", "cluster")
	b.says("max 77", "servers")

	c.start() // it is of before
	a.says("it is from before the cluster was recovered", "cluster")
	c.says("the cluster was recovered without this node", "cluster")
	c.stop()
	must(t, os.RemoveAll(c.at("state/cluster")))
	c.start()
	s.well()
	c.says("max 77", "servers")

	a.types("penctl /run/pen/ctl cluster remove 10.0.0.13")
	a.says("quorum, 2 of 2 alive", "cluster")
	c.says("removed by", "cluster")
	c.stop()
	c.start()
	s.well()
}

// The two configurations of the guide do the same, and one takes over from the other.
func TestComingFromKeepalivedAndHaproxy(t *testing.T) {
	for _, p := range []string{"/usr/sbin/keepalived", "/usr/sbin/haproxy"} {
		_, err := os.Stat(p)
		rig.Need(t, err == nil, p)
	}
	s := settle(t, 3, "three.conf", readUnit(t, "pen.service"))
	var before []*lab.Process
	for _, m := range s.nodes[:2] {
		before = append(before, m.startPair()...)
	}
	s.answers(address, "web")
	for _, m := range s.nodes {
		must(t, os.WriteFile(m.at("etc/pen.conf"), []byte(blocks(t, "pen")[0]), 0o644))
	}
	for _, p := range before {
		p.Signal(syscall.SIGTERM)
		if _, ended := p.Wait(patience); !ended {
			t.Fatalf("%d does not end: %s", p.Pid, p.Log())
		}
	}
	s.startAll()
	s.answers(address, "web")
}

// startPair starts what was there before.
func (m *machine) startPair() (all []*lab.Process) {
	m.site.t.Helper()
	for kind, argv := range map[string][]string{
		"haproxy":    {"/usr/sbin/haproxy", "-db", "-L", m.Name, "-f"},
		"keepalived": {"/usr/sbin/keepalived", "-n", "-l", "--vrrp", "-p", m.at("keepalived.pid"), "-r", m.at("vrrp.pid"), "-f"},
	} {
		file := m.at(kind + ".conf")
		must(m.site.t, os.WriteFile(file, []byte(blocks(m.site.t, kind)[0]), 0o644))
		p, err := m.Start(append(argv, file)...)
		must(m.site.t, err)
		all = append(all, p)
	}
	return all
}

// A classic command line is understood, and its file has the same settings.
func TestComingFromPen(t *testing.T) {
	s := settle(t, 1, "one.conf", readUnit(t, "pen.service"))
	m := s.nodes[0]
	classic := strings.Fields(blocks(t, "classic")[0])
	out, err := m.Run(t.Context(), append([]string{filepath.Join(s.bin, classic[0]), "--check"}, strings.Fields(strings.ReplaceAll(strings.Join(classic[1:], " "), "-u pen", "-u nobody"))...)...)
	if err != nil {
		t.Errorf("classic: %s, %v", out, err)
	}
	must(t, os.WriteFile(m.at("etc/pen.conf"), []byte(blocks(t, "pen")[1]), 0o644))
	s.checked(m)
}
