//go:build linux

package main

import (
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
	UDP     bool // datagrams, which only the pens are asked for
	HTTP    bool // the proxy tells the servers of the clients in the heads of requests
	// Certificate is the file of the certificate and its key with which TLS of the
	// clients is ended; empty: it is none of the proxy's business.
	Certificate string
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

// proxies are all that are compared, ours first. program is the path of ours.
// All of them send a client to the server that it had before.
func proxies(program string) []proxy {
	return []proxy{
		{ours, "defaults", "", program, penArguments},
		{original, "defaults", "pen", "pen", penArguments},
		{haproxy, "tcp mode, one thread, balance source", "haproxy", "haproxy", haproxyArguments(haproxyPlain)},
		{spliced, "the same with splice-request and splice-response", "haproxy", "haproxy", haproxyArguments(haproxySplice)},
		{nginx, "stream, one worker, hash $remote_addr", "nginx libnginx-mod-stream", "nginx", nginxArguments},
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
	return "", fmt.Errorf("%s is not installed (Debian: apt-get install %s)", p.Program, p.Package)
}

// version is the version of the package, or what ours says of itself.
func (p proxy) version(path string) string {
	query := []string{path, "--version"}
	if p.Package != "" {
		first, _, _ := strings.Cut(p.Package, " ")
		query = []string{"dpkg-query", "-W", "-f", "${Version}", first}
	}
	out, err := exec.Command(query[0], query[1:]...).Output()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || line == "" {
		return "unknown"
	}
	return strings.TrimPrefix(line, "pen ")
}

// penArguments are the same for ours and for the original, which has no data
// directory.
func penArguments(p place) ([]string, error) {
	args := []string{"-f", "-x", strconv.Itoa(p.Conns)}
	if p.UDP {
		args = append(args, "-U")
	}
	if p.HTTP {
		args = append(args, "-H")
	}
	if p.Certificate != "" {
		args = append(args, "-E", p.Certificate, "-K", p.Certificate)
	}
	if p.Clients > 0 {
		args = append(args, "-c", strconv.Itoa(p.Clients))
	}
	if p.Data != "" {
		args = append(args, "--data-dir", p.Data)
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
