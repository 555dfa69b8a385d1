//go:build linux

package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBusyTimeOfOneCPU(t *testing.T) {
	const stat = "cpu  9 9 9 9 9 9 9 9 9 9\n" +
		"cpu0 100 1 20 4000 300 3 2 5 0 0\n" +
		"cpu1 7 0 0 0 0 0 0 0 0 0\n" +
		"intr 1 2 3\n"
	got, err := busyOf(stat, 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := (100 + 1 + 20 + 3 + 2 + 5) * 10 * time.Millisecond; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := busyOf(stat, 2); err == nil {
		t.Error("a CPU that is not there: got no error, want one")
	}
}

func TestBusyTimeGrowsOnThisMachine(t *testing.T) {
	if _, err := busyTime(0); err != nil {
		t.Error(err)
	}
}

func TestRollupRSS(t *testing.T) {
	got, err := rollupRSS("00400000-7ffc ---p 00000000 00:00 0   [rollup]\nRss:                1234 kB\nPss: 12 kB\n")
	if err != nil || got != 1234 {
		t.Errorf("got %d, %v, want 1234", got, err)
	}
	if _, err := rollupRSS("Pss: 12 kB\n"); err == nil {
		t.Error("no line Rss: got no error, want one")
	}
}

func TestEntriesUsed(t *testing.T) {
	got, err := entriesUsed("# table: bench, type: ip, size:2125, used:1001\n\n")
	if err != nil || got != 1001 {
		t.Errorf("got %d, %v, want 1001", got, err)
	}
	if _, err := entriesUsed("No such table\n"); err == nil {
		t.Error("no table: got no error, want one")
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	got, err := usageOf([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	if got.RSS < 1000 || got.Files < 3 {
		t.Errorf("got %+v, want at least 1000 KiB and three files", got)
	}
}

func TestCPUTimeCountsThisProcess(t *testing.T) {
	before, err := cpuTime([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
	}
	after, err := cpuTime([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	if after <= before {
		t.Errorf("got %v after %v, want more", after, before)
	}
	if _, err := cpuTime([]int{1 << 22}); err == nil {
		t.Error("no such process: got no error, want one")
	}
}

func TestProcessor(t *testing.T) {
	model, cpus := processor("processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\n")
	if model != "AMD EPYC" || cpus != 2 {
		t.Errorf("got %q, %d, want AMD EPYC, 2", model, cpus)
	}
}

func TestConfigurationsNameEveryServer(t *testing.T) {
	p := place{Dir: t.TempDir(), Listen: listenAddr, Servers: serverAddrs, Conns: 500, Clients: 1000}
	texts := map[string]string{
		"haproxy":              haproxyConfig(haproxyPlain, p),
		"haproxy, splice":      haproxyConfig(haproxySplice, p),
		"haproxy, stick table": haproxyConfig(haproxyStick, p),
		"nginx":                nginxConfig(p),
	}
	args, err := penArguments(p)
	if err != nil {
		t.Fatal(err)
	}
	texts["pen"] = strings.Join(args, " ")
	for name, text := range texts {
		for _, addr := range append(serverAddrs, listenAddr) {
			if !strings.Contains(text, addr.String()) {
				t.Errorf("%s: no %s in\n%s", name, addr, text)
			}
		}
	}
}

func TestEveryProxyIsGivenTheCertificate(t *testing.T) {
	p := place{Dir: t.TempDir(), Listen: listenAddr, Servers: serverAddrs, Certificate: "/some/bench.pem"}
	args, err := penArguments(p)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		ours: strings.Join(args, " "), haproxy: haproxyConfig(haproxyPlain, p), nginx: nginxConfig(p),
	} {
		if !strings.Contains(text, p.Certificate) {
			t.Errorf("%s: no certificate in\n%s", name, text)
		}
	}
}

func TestPenIsAskedForDatagramsByAFlag(t *testing.T) {
	for _, udp := range []bool{false, true} {
		args, err := penArguments(place{Listen: listenAddr, Servers: serverAddrs, Conns: 500, UDP: udp})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(args, "-U"); got != udp {
			t.Errorf("UDP %v: got %q", udp, args)
		}
	}
}
