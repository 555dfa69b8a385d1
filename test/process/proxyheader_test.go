//go:build linux

package process

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pen/test/rig"
)

// peer is a program that speaks the PROXY protocol.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	rig.Need(t, err == nil, "Debian's "+name+" (apt-get install "+name+")")
	return path
}

// up waits until somebody listens at an address.
func (d *daemon) up(p *rig.Process, at string) {
	d.t.Helper()
	if !rig.Eventually(rig.Patience, func() bool {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
		}
		return err == nil || p.Exited()
	}) || p.Exited() {
		d.t.Fatalf("%s: nobody listens at %s: %s", p.Cmd.Path, at, p.Stderr())
	}
}

// haproxy runs one with frontends and backends, and waits for those at addresses.
func (d *daemon) haproxy(t *testing.T, config string, at ...string) {
	t.Helper()
	file := rig.WriteFile(t, d.dir, "haproxy.cfg", `defaults
    timeout connect 10s
    timeout client 20s
    timeout server 20s
`+config)
	p := rig.Start(t, d.dir, peer(t, "haproxy"), "-db", "-f", file)
	for _, a := range at {
		d.up(p, a)
	}
}

// nginx runs one that answers with what it was told of its client.
func (d *daemon) nginx(t *testing.T, at string) {
	t.Helper()
	d.nginxWith(t, at, "proxy_protocol", "$proxy_protocol_addr to $proxy_protocol_server_addr:$proxy_protocol_server_port")
}

// nginxWith runs one that listens as it is told to and gives an answer.
func (d *daemon) nginxWith(t *testing.T, at, listening, answer string) {
	t.Helper()
	file := rig.WriteFile(t, d.dir, "nginx.conf", fmt.Sprintf(`daemon off;
pid %[1]s/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    server {
        listen %[2]s %[3]s;
        client_max_body_size 100m;
        return 200 "%[4]s\n";
    }
}
`, d.dir, at, listening, answer))
	d.up(rig.Start(t, d.dir, peer(t, "nginx"), "-p", d.dir, "-e", "stderr", "-c", file), at)
}

// tells is a question with the answer that it has to get.
func (d *daemon) tells(question, want string) {
	d.t.Helper()
	if got := d.ask(question); got != want {
		d.t.Errorf("%s: got %q, want %q", question, got, want)
	}
}

// curl fetches a page from one of the block's addresses.
func (d *daemon) curl(t *testing.T, from, url string, args ...string) string {
	t.Helper()
	args = append([]string{"--silent", "--show-error", "--max-time", "20", "--interface", from}, append(args, url)...)
	cmd := exec.CommandContext(t.Context(), peer(t, "curl"), args...)
	cmd.Env = rig.Env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return string(out)
}

// TestServersUnderstandOurProxyHeaders: haproxy and nginx read what we send them, over
// plain TCP and for clients who talk TLS to us.
func TestServersUnderstandOurProxyHeaders(t *testing.T) {
	t.Parallel()
	d := place(t)
	haproxy, nginx := d.backendAddr(0), d.backendAddr(1)
	d.haproxy(t, `frontend told
    mode http
    bind `+haproxy+` accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src] to %[dst]:%[dst_port] asked for %[fc_pp_authority]\n"
`, haproxy)
	d.nginx(t, nginx)
	cert := rig.WriteFile(t, d.dir, "cert.pem", selfSigned(t))
	secure := d.block.Addr(2, 8443)
	d.start("-F", rig.WriteFile(t, d.dir, "conf", fmt.Sprintf(
		"blacklist 0\nroundrobin\nservice secure\nlisten %s\nssl_certificate %s\n", secure, cert)), "{listen}")
	told := func(version, server, want, asked string) {
		t.Helper()
		at, port, _ := net.SplitHostPort(server)
		for _, service := range []string{"default", "secure"} {
			d.tells("service "+service+" proxy_out "+version, "")
			d.tells("service "+service+" server 0 address "+at+" port "+port, "")
		}
		client := d.block.Host(77)
		got := d.curl(t, client, "http://"+d.block.Listen()+"/")
		if want := fmt.Sprintf(want, client, d.block.Listen()) + "\n"; got != want {
			t.Errorf("proxy_out %s, %s: got %q, want %q", version, server, got, want)
		}
		got = d.curl(t, client, "https://localhost:8443/", "--cacert", cert, "--connect-to", "localhost:8443:"+secure)
		if want := fmt.Sprintf(want, client, secure) + asked + "\n"; got != want {
			t.Errorf("proxy_out %s, %s, TLS: got %q, want %q", version, server, got, want)
		}
	}
	told("v1", haproxy, "%s to %s asked for ", "")
	told("v2", haproxy, "%s to %s asked for ", "localhost")
	told("v1", nginx, "%s to %s", "")
	told("v2", nginx, "%s to %s", "")
}

// TestWeUnderstandProxyHeadersOfOthers: haproxy and curl say for whom they come, a
// real client's address goes all the way, and we know the client by it.
func TestWeUnderstandProxyHeadersOfOthers(t *testing.T) {
	t.Parallel()
	d := place(t)
	client, front1, front2, nginx := d.block.Host(88), d.block.Addr(3, 8081), d.block.Addr(4, 8082), d.backendAddr(0)
	d.nginx(t, nginx)
	balancer := d.block.Host(5) // haproxy's own connections come from there
	d.start("-F", rig.WriteFile(t, d.dir, "conf", "blacklist 0\nacl 4 permit "+balancer+"\nproxy_in 4\nproxy_out v1\n"), "{listen}", "{a}")
	d.haproxy(t, fmt.Sprintf(`listen v1
    mode tcp
    bind %s
    server pen %s send-proxy source %s
listen v2
    mode tcp
    bind %s
    server pen %s send-proxy-v2 proxy-v2-options crc32c,unique-id source %s
`, front1, d.block.Listen(), balancer, front2, d.block.Listen(), balancer), front1, front2)
	for _, front := range []string{front1, front2} {
		if got, want := d.curl(t, client, "http://"+front+"/"), client+" to "+front+"\n"; got != want {
			t.Errorf("through haproxy at %s: got %q, want %q", front, got, want)
		}
	}
	got := d.curl(t, balancer, "http://"+d.block.Listen()+"/", "--haproxy-protocol")
	if want := balancer + " to " + d.block.Listen() + "\n"; got != want {
		t.Errorf("curl --haproxy-protocol: got %q, want %q", got, want)
	}
	known := d.ask("recent")
	for _, who := range []string{client, balancer} {
		if !strings.Contains(known, who+" ") {
			t.Errorf("%s is not known: %q", who, known)
		}
	}
	// A trusted peer who does not say it, and one whom nobody has named.
	if got := d.curl(t, balancer, "http://"+d.block.Listen()+"/"); !strings.Contains(got, "exit status") {
		t.Errorf("without a header: got %q", got)
	}
	contains(t, "counters", d.ask("counters"), "refused_proxy_header 1\n", "refused_proxy_timeout 0\n", "refused_proxy_crowded 0\n")
	got = d.curl(t, d.block.Host(99), "http://"+d.block.Listen()+"/", "--haproxy-protocol")
	if !strings.Contains(got, "400 Bad Request") { // what he says is data, which nginx gets behind our header
		t.Errorf("from somebody else: got %q", got)
	}
	file := filepath.Join(d.dir, "saved")
	d.tells("write "+file, "")
	saved, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "saved", string(saved), "\nproxy_out v1\n", "\nproxy_in 4\n")
}

func TestProxyHeaderWordsRefuse(t *testing.T) {
	t.Parallel()
	d := serve(t, "-F", "/dev/null", "{listen}", "{a}")
	d.tells("proxy_out v3", "error: \"v3\" for proxy_out, expected v1 or v2, did you mean \"v1\"\n")
	d.tells("proxy_in 10", "error: \"10\" for proxy_in, expected a number from 0 to 9, or a name of letters, digits, '-', '_' and '.' that begins with a letter\n")
	d.tells("proxy_out v2", "")
	d.tells("protocol udp", "error: proxy_out is for protocol tcp: there is no connection before whose first byte a header could stand\n")
	d.tells("resolve 0", "error: \"0\" for resolve, expected a number, 1 or more\n")
}
