//go:build linux

package main

import (
	"debug/buildinfo"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// place is where a proxy listens, and what for.
type place struct {
	Dir     string // its own, for configuration
	Listen  netip.AddrPort
	Servers []netip.AddrPort
	Conns   int // connections it must be able to hold
	Clients int // clients it must remember; 0: its default
	Data    string
}

// proxy is one of the programs that are compared.
type proxy struct {
	Name string
	How  string // in what configuration, in a few words
	// Package is the Debian package; empty for ours.
	Package string
	Program string
	// Arguments writes the configuration, if it takes one, and returns the arguments.
	Arguments func(p place) ([]string, error)
}

// The names that other files ask for.
const (
	ours      = "pen"
	original  = "original pen"
	haproxy   = "haproxy"
	spliced   = "haproxy, splice"
	remembers = "haproxy, stick table"
	nginx     = "nginx"
	direct    = "no proxy"
)

// proxies are all that are compared, ours first. program is the path of ours.
// All of them send a client to the server that it had before.
func proxies(program string) []proxy {
	return []proxy{
		{ours, "defaults", "", program, penArguments},
		{original, "defaults", "pen", "pen", originalArguments},
		{haproxy, "tcp mode, one thread, balance source", "haproxy", "haproxy", haproxyArguments(haproxyPlain)},
		{spliced, "the same with splice-request and splice-response", "haproxy", "haproxy", haproxyArguments(haproxySplice)},
		{nginx, "stream, one worker, hash $remote_addr", "nginx, libnginx-mod-stream", "nginx", nginxArguments},
	}
}

// stickTable is the haproxy that remembers its clients. It takes part only where
// that is the question.
func stickTable() proxy {
	return proxy{
		remembers, "the same with a table of clients", "haproxy", "haproxy",
		haproxyArguments(haproxyStick),
	}
}

// find returns the path of the program, or says what to install.
func (p proxy) find() (string, error) {
	if p.Package == "" {
		if _, err := os.Stat(p.Program); err != nil {
			return "", fmt.Errorf("%s: %w (built by: make build)", p.Name, err)
		}
		return filepath.Abs(p.Program)
	}
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"} {
		path := filepath.Join(dir, p.Program)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed (Debian: apt-get install %s)",
		p.Program, strings.ReplaceAll(p.Package, ",", ""))
}

// version is the version of the package, or the revision that ours was built
// from.
func (p proxy) version(path string) string {
	if p.Package == "" {
		return builtFrom(path)
	}
	first, _, _ := strings.Cut(p.Package, ",")
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", first).Output()
	if err != nil {
		return "unknown version"
	}
	return strings.TrimSpace(string(out))
}

func builtFrom(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "unknown version"
	}
	version := info.GoVersion
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			version = s.Value[:min(12, len(s.Value))] + ", " + version
		case s.Key == "vcs.modified" && s.Value == "true":
			version += ", with changes"
		}
	}
	return version
}

func penArguments(p place) ([]string, error) {
	args := []string{"-f", "-x", strconv.Itoa(p.Conns)}
	if p.Clients > 0 {
		args = append(args, "-c", strconv.Itoa(p.Clients))
	}
	if p.Data != "" {
		args = append(args, "--data-dir", p.Data)
	}
	return append(args, words(p)...), nil
}

// originalArguments asks for poll only where the default, epoll, cannot serve:
// it can everywhere here.
func originalArguments(p place) ([]string, error) {
	args := []string{"-f", "-x", strconv.Itoa(p.Conns)}
	if p.Clients > 0 {
		args = append(args, "-c", strconv.Itoa(p.Clients))
	}
	return append(args, words(p)...), nil
}

// words are the listener and the servers as both pens take them.
func words(p place) []string {
	words := []string{p.Listen.String()}
	for _, s := range p.Servers {
		words = append(words, s.String())
	}
	return words
}
