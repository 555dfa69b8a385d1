//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// haproxyKind is one of the ways in which haproxy takes part.
type haproxyKind int

const (
	haproxyPlain haproxyKind = iota
	haproxySplice
	haproxyStick
)

// stickTableSocket is where haproxy is told the clients to know, in its directory.
const stickTableSocket = "stats"

func haproxyArguments(kind haproxyKind) func(place) ([]string, error) {
	return func(p place) ([]string, error) {
		file := filepath.Join(p.Dir, "haproxy.cfg")
		if err := os.WriteFile(file, []byte(haproxyConfig(kind, p)), 0o600); err != nil {
			return nil, err
		}
		return []string{"-db", "-q", "-f", file}, nil
	}
}

func haproxyConfig(kind haproxyKind, p place) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("global")
	line("  nbthread 1")
	line("  maxconn %d", p.Conns)
	switch kind {
	case haproxySplice:
		line("  maxpipes 128")
	case haproxyStick:
		line("  stats socket %s level admin", filepath.Join(p.Dir, stickTableSocket))
	}
	line("defaults")
	if p.HTTP {
		line("  mode http")
	} else {
		line("  mode tcp")
	}
	line("  timeout connect 3s")
	line("  timeout client 1h")
	line("  timeout server 1h")
	if kind == haproxySplice {
		line("  option splice-request")
		line("  option splice-response")
	}
	line("listen bench")
	if p.Certificate != "" {
		line("  bind %s ssl crt %s ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256", p.Listen, p.Certificate)
	} else {
		line("  bind %s", p.Listen)
	}
	if p.HTTP {
		line("  http-request del-header x-forwarded-for")
		line("  http-request set-header x-forwarded-proto http")
		line("  option forwardfor")
	}
	if kind == haproxyStick {
		line("  balance roundrobin")
		// A full table of haproxy's throws out a part of its entries: leave room.
		line("  stick-table type ip size %d", p.Clients+p.Clients/8+1000)
		line("  stick on src")
	} else {
		line("  balance source")
	}
	for i, s := range p.Servers {
		line("  server s%d %s", i+1, s)
	}
	return b.String()
}

func nginxArguments(p place) ([]string, error) {
	file := filepath.Join(p.Dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(nginxConfig(p)), 0o600); err != nil {
		return nil, err
	}
	return []string{"-e", "stderr", "-p", p.Dir, "-c", file}, nil
}

// nginxConfig counts both sockets of a connection, and a few of nginx's own.
func nginxConfig(p place) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("load_module %s;", nginxStream())
	line("daemon off;")
	line("worker_processes 1;")
	if os.Getuid() == 0 {
		line("user root;")
	}
	line("pid %s;", filepath.Join(p.Dir, "nginx.pid"))
	line("error_log stderr;")
	line("events { worker_connections %d; }", 2*p.Conns+32)
	line("stream {")
	line("  upstream servers {")
	line("    hash $remote_addr;")
	for _, s := range p.Servers {
		line("    server %s;", s)
	}
	line("  }")
	line("  server {")
	if p.Certificate != "" {
		line("    listen %s ssl;", p.Listen)
		line("    ssl_certificate %s;", p.Certificate)
		line("    ssl_certificate_key %s;", p.Certificate)
		line("    ssl_protocols TLSv1.3;")
		line("    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;")
	} else {
		line("    listen %s;", p.Listen)
	}
	line("    proxy_pass servers;")
	line("    proxy_connect_timeout 3s;")
	line("    proxy_timeout 1h;")
	line("  }")
	line("}")
	return b.String()
}

// nginxStream is the module of Debian's libnginx-mod-stream.
func nginxStream() string { return "/usr/lib/nginx/modules/ngx_stream_module.so" }
