//go:build linux

package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

const address = "10.0.0.10:80"

// Every sample is tried.
func TestEverySampleHasATest(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(files, "examples", "*.conf"))
	must(t, err)
	text, err := os.ReadFile("samples_test.go")
	must(t, err)
	for _, name := range found {
		if !strings.Contains(string(text), `"`+filepath.Base(name)+`"`) {
			t.Errorf("%s is tried by nothing", name)
		}
	}
}

// checked looks at the file on a node with --check, which may warn.
func (s *site) checked(m *machine) string {
	s.t.Helper()
	out, err := m.Run(s.t.Context(), filepath.Join(s.bin, "pen"), "--check", "-F", m.at("etc/pen.conf"))
	if err != nil {
		s.t.Errorf("--check on %s: %v", m.Name, err)
	}
	return out
}

func (s *site) startAll() {
	s.t.Helper()
	for _, m := range s.nodes {
		s.checked(m)
		m.start() // one after the other: none waits for the next
	}
	// A majority forms the cluster, and the rest joins a moment later.
	for _, m := range s.nodes {
		m.says(fmt.Sprintf("quorum, %d of %[1]d alive", len(s.nodes)), "cluster")
	}
}

func TestOneNode(t *testing.T) {
	s := settle(t, 1, "one.conf", readUnit(t, "pen.service", "single.conf"))
	m := s.nodes[0]
	s.checked(m)
	m.start()
	if !strings.Contains(m.heard, "STATUS=serving") {
		t.Errorf("heard %q", m.heard)
	}
	s.answers("10.0.0.11:80", "web")
	m.says("10.0.1.2", "servers")

	m.pen.Signal(syscall.SIGHUP)
	m.hear("RELOADING=1")
	m.hear("READY=1")
	m.pen.Signal(syscall.SIGTERM)
	m.hear("STOPPING=1")
	if status, ended := m.pen.Wait(10 * time.Second); !ended || status != 0 {
		t.Errorf("TERM: status %d, ended %v", status, ended)
	}
}

func TestThreeNodes(t *testing.T) {
	s := settle(t, 3, "three.conf", readUnit(t, "pen.service"))
	s.startAll()
	s.answers(address, "web")
	first := s.holder(s.nodes...)
	first.hear("STATUS=holds the address")
	for _, m := range s.others(first) {
		m.hear("STATUS=stands by; " + first.Name + " holds the address")
	}
	if first.pen.Guard() == 0 {
		t.Error("no guard was started")
	}
	// The fences stand with what the unit leaves, and it leaves no more.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", first.pen.Pid))
	must(t, err)
	const admin, raw, bind = 1 << 12, 1 << 13, 1 << 10
	for _, want := range []string{fmt.Sprintf("CapEff:\t%016x", admin|raw|bind), fmt.Sprintf("CapBnd:\t%016x", admin|raw|bind), "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want+"\n") {
			t.Errorf("no %q in %s", want, status)
		}
	}
	first.says(`"NFT": true`, "cluster", "json")
	first.says(`"Guard": true`, "cluster", "json")

	first.pen.Signal(syscall.SIGKILL)
	s.answers(address, "web")
	second := s.holder(s.others(first)...)
	if first.left("10.0.0.10") {
		t.Errorf("the guard of %s has left the address", first.Name)
	}
	first.start()
	first.hear("STATUS=stands by; " + second.Name)

	second.pen.Signal(syscall.SIGTERM)
	second.hear("STOPPING=1")
	if status, ended := second.pen.Wait(10 * time.Second); !ended || status != 0 {
		t.Errorf("TERM: status %d, ended %v", status, ended)
	}
	s.answers(address, "web")
}

func TestTwoNodesAndAWitness(t *testing.T) {
	s := settle(t, 3, "witness.conf", readUnit(t, "pen.service"))
	s.startAll()
	witness := s.nodes[2]
	witness.hear("STATUS=a witness")
	s.answers(address, "web")
	// Any of the three may fail: the holder, ...
	holder := s.holder(s.nodes[:2]...)
	holder.pen.Signal(syscall.SIGKILL)
	s.answers(address, "web")
	holder.start()
	holder.hear("STATUS=stands by")
	// ... and the witness.
	witness.pen.Signal(syscall.SIGKILL)
	s.answers(address, "web")
	s.holder(s.nodes[:2]...)
}

func TestTwoNodes(t *testing.T) {
	s := settle(t, 2, "two.conf", readUnit(t, "pen.service"))
	first := s.nodes[0]
	const unasked = "gateway auto: no default route on the interface of the address, and so nobody would hold it when the two peers lose each other; say gateway ADDR"
	if out := s.checked(first); !strings.Contains(out, "warning: two peers") || strings.Contains(out, unasked) {
		t.Errorf("--check warns of the wrong things: %q", out)
	}
	text, err := os.ReadFile(first.at("etc/pen.conf"))
	must(t, err)
	auto := strings.Replace(string(text), "\ngateway 10.0.0.100\n", "\n", 1)
	must(t, os.WriteFile(first.at("etc/pen.conf"), []byte(auto), 0o644))
	if out := s.checked(first); !strings.Contains(out, "warning: "+unasked) {
		t.Errorf("--check does not warn that nobody can be asked: %q", out)
	}
	first.start()
	if log := first.pen.Log(); !strings.Contains(log, unasked) {
		t.Errorf("the start does not warn that nobody can be asked: %q", log)
	}
	first.pen.Signal(syscall.SIGTERM)
	first.pen.Wait(10 * time.Second)
	must(t, os.WriteFile(first.at("etc/pen.conf"), text, 0o644))

	s.startAll()
	s.answers(address, "web")
	first = s.holder(s.nodes...)
	second := s.others(first)[0]
	first.hear("STATUS=holds")
	second.hear("STATUS=stands by")
	if out, err := first.ask("cluster", "transfer"); err != nil || out != "" {
		t.Errorf("transfer: %q, %v", out, err)
	}
	s.answers(address, "web")
	s.holder(second)

	first.pen.Signal(syscall.SIGKILL)
	second.says("HOLDER(fallback)", "cluster")
	s.answers(address, "web")
	first.start()
	second.says("HOLDER(quorum)", "cluster")
	s.answers(address, "web")
}

func TestIPv6(t *testing.T) {
	s := settle(t, 3, "ipv6.conf", readUnit(t, "pen.service"))
	const on = "echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip addr add $0/64 dev eth0 nodad"
	for i, m := range s.nodes {
		_, err := m.Run(t.Context(), "sh", "-c", on, []string{"2001:db8::11", "2001:db8::12", "2001:db8::13"}[i])
		must(t, err)
	}
	_, err := s.RunClient(t.Context(), "sh", "-c", on, "2001:db8::100")
	must(t, err)
	s.startAll()
	s.answers("[2001:db8::10]:80", "web")
	holder := s.holder(s.nodes...)
	holder.pen.Signal(syscall.SIGKILL)
	s.answers("[2001:db8::10]:80", "web")
	if holder.left("2001:db8::10") {
		t.Error("the guard has left the address")
	}
}

func TestSeveralServices(t *testing.T) {
	s := settle(t, 3, "services.conf", readUnit(t, "pen.service"))
	s.serveAlso("10.0.1.1:443", "10.0.1.2:443", "10.0.1.2:25", "10.0.1.3:25")
	s.startAll()
	s.answers(address, "web")
	s.answers("10.0.0.10:443", ":443")
	s.answers("10.0.0.10:25", ":25")
	s.nodes[0].says("mail", "services")
}

// serveAlso starts more servers on the machines of the web servers.
func (s *site) serveAlso(addrs ...string) {
	s.t.Helper()
	self, err := os.Executable()
	must(s.t, err)
	web := strings.TrimSuffix(s.ClientNamespace(), "client") + "web"
	for _, addr := range addrs {
		rig.StartCmd(s.t, s.Dir, exec.Command("ip", "netns", "exec", web, self, "serve", addr))
	}
}
