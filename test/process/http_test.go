//go:build linux

package process

import (
	"fmt"
	"strings"
	"testing"

	"pen/test/rig"
)

// TestNginxLearnsFromHeadsWhoAsks: curl's requests, one after the other on a connection,
// with bodies of all kinds, reach nginx with the truth, over plain TCP and over TLS.
func TestNginxLearnsFromHeadsWhoAsks(t *testing.T) {
	t.Parallel()
	d := place(t)
	nginx := d.backendAddr(0)
	d.nginxWith(t, nginx, "", "$request_method $http_x_forwarded_proto $http_x_forwarded_for $connection_requests")
	cert := rig.WriteFile(t, d.dir, "cert.pem", selfSigned(t))
	body := rig.WriteFile(t, d.dir, "upload", strings.Repeat("GET / HTTP/1.1\r\n\r\n", 100000))
	secure := d.block.Addr(2, 8443)
	d.start("-H", "-F", rig.WriteFile(t, d.dir, "conf", fmt.Sprintf(
		"service secure\nhttp\nlisten %s\nssl_certificate %s\nserver 0 address %s port %s\n", secure, cert, host(nginx), port(nginx))), "{listen}", nginx)
	client := d.block.Host(77)
	for _, c := range []struct {
		proto, url string
		args       []string
	}{
		{"http", "http://" + d.block.Listen() + "/", nil},
		{"https", "https://localhost:8443/", []string{"--cacert", cert, "--connect-to", "localhost:8443:" + secure}},
	} {
		forged := []string{"--header", "X-Forwarded-For: 9.9.9.9", "--header", "X-Forwarded-Proto: ftp"}
		args := append(append([]string{"--http1.1"}, c.args...), forged...)
		got := d.curl(t, client, c.url, append(args, c.url, c.url)...)
		if want := fmt.Sprintf("GET %[1]s %[2]s 1\nGET %[1]s %[2]s 2\nGET %[1]s %[2]s 3\n", c.proto, client); got != want {
			t.Errorf("three on a connection: got %q, want %q", got, want)
		}
		for method, more := range map[string][]string{
			"POST":   {"--data-binary", "@" + body},
			"PUT":    {"--upload-file", body, "--header", "Transfer-Encoding: chunked"},
			"DELETE": {"--request", "DELETE"},
		} {
			want := fmt.Sprintf("%s %s %s ", method, c.proto, client)
			if got := d.curl(t, client, c.url, append(args, more...)...); !strings.HasPrefix(got, want) {
				t.Errorf("%s: got %q, want %q", method, got, want)
			}
		}
		want := fmt.Sprintf("GET %s %s 1\n", c.proto, client)
		if got := d.curl(t, client, c.url, append(c.args, "--http2")...); c.proto == "http" && got != want {
			t.Errorf("an offer of HTTP/2: got %q, want %q", got, want)
		}
	}
	d.tells("http_forwarded append", "")
	if got, want := d.curl(t, client, "http://"+d.block.Listen()+"/", "--header", "X-Forwarded-For: 9.9.9.9"), "GET http 9.9.9.9, "+client+" 1\n"; got != want {
		t.Errorf("append: got %q, want %q", got, want)
	}
	if got := d.curl(t, client, "http://"+d.block.Listen()+"/", "--header", "Content-Length: 1", "--header", "Transfer-Encoding: chunked"); got != "where the body ends is not certain\n" {
		t.Errorf("a request of two readings: got %q", got)
	}
	if got := d.ask("counters"); !strings.Contains(got, "refused_http_length 1\n") {
		t.Errorf("counters: %s", got)
	}
}

func host(addr string) string { h, _, _ := strings.Cut(addr, ":"); return h }
func port(addr string) string { _, p, _ := strings.Cut(addr, ":"); return p }
