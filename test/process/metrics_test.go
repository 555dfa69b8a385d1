//go:build linux

package process

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pen/internal/metrics/metricstest"
	"pen/test/rig"
)

// scrape asks as Prometheus does, and reads as strictly.
func scrape(t testing.TB, addr string) map[string]*metricstest.Family {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second}
	r, err := client.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%s, %q, %v", r.Status, r.Header.Get("Content-Type"), err)
	}
	families, err := metricstest.Parse(string(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return families
}

// value is that of the series that has these labels, in pairs.
func value(t testing.TB, families map[string]*metricstest.Family, name string, labels ...string) float64 {
	t.Helper()
	f := families[name]
	if f == nil {
		t.Fatalf("there is no %s", name)
	}
	for _, s := range f.Samples {
		fits := true
		for i := 0; i < len(labels); i += 2 {
			fits = fits && s.Labels[labels[i]] == labels[i+1]
		}
		if fits {
			return s.Value
		}
	}
	t.Fatalf("%s has no %q", name, labels)
	return 0
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	d := place(t)
	d.backend(0)
	port := strconv.Itoa(rig.NewPort(t))
	d.start("--metrics", port, "--conn-max", "40", "-e", "{b}", "{listen}", "{a}:7")
	d.fetch(3)
	m := scrape(t, "127.0.0.1:"+port)
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"pen_service_connections_max", []string{"service", "default"}, 40},
		{"pen_service_refused_total", []string{"service", "default", "reason", "no_server"}, 0},
		{"pen_server_info", []string{"service", "default", "server", "0", "address", d.backendAddr(0)}, 1},
		{"pen_server_info", []string{"server", "emergency", "address", d.backendAddr(1)}, 1},
		{"pen_server_connections_max", []string{"server", "0"}, 7},
		{"pen_server_blacklisted", []string{"server", "0"}, 0},
		{"pen_build_info", nil, 1},
	} {
		if got := value(t, m, tt.name, tt.labels...); got != tt.want {
			t.Errorf("%s %q is %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	for _, name := range []string{"pen_service_accepted_total", "pen_start_time_seconds", "pen_server_connects_total"} {
		if got := value(t, m, name); got < 1 {
			t.Errorf("%s is %v", name, got)
		}
	}
	// What the word counters tells is all there.
	for line := range strings.Lines(d.ask("counters")) {
		name, _, _ := strings.Cut(line, " ")
		if _, ok := strings.CutPrefix(name, "refused_"); ok {
			name = "refused"
		}
		name = strings.Replace(name, "_ms", "_age_seconds", 1)
		found := false
		for _, prefix := range []string{"pen_", "pen_service_"} {
			found = found || m[prefix+name] != nil || m[prefix+name+"_total"] != nil
		}
		if !found {
			t.Errorf("counters has %s, the metrics do not", name)
		}
	}
	guide, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range m {
		if strings.HasPrefix(name, "pen_server_") && !strings.Contains(string(guide), "`"+name+"`") {
			t.Errorf("the guide does not have %s", name)
		}
	}
	if got := d.ask("metrics"); got != port+"\n" {
		t.Errorf("metrics is %q", got)
	}
	for _, host := range otherAddresses(t) {
		if c, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), time.Second); err == nil {
			c.Close()
			t.Errorf("the metrics are on %s", host)
		}
	}
}

// TestMetricsObeyTheList: an open address is refused without one, and with one the
// list decides, also after a change.
func TestMetricsObeyTheList(t *testing.T) {
	t.Parallel()
	d := place(t)
	addr := "0.0.0.0:" + strconv.Itoa(rig.NewPort(t))
	contains(t, "complaint", d.fails(1, append(rig.AsRoot("-f", "-C", "{control}", "--metrics", addr), "{listen}", "{a}")...), "open to the network")
	file := rig.WriteFile(t, d.dir, "pen.conf", "acl 1 permit 127.0.0.1\nacl 1 deny 0.0.0.0/0\ncontrol_acl 1\nmetrics "+addr+"\n")
	d.start("-F", file, "{listen}", "{a}")
	scrape(t, strings.Replace(addr, "0.0.0.0", "127.0.0.1", 1))
	for _, from := range []string{"127.0.0.2", "127.0.0.3"} {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 30 * time.Second}
		c, err := dialer.Dial("tcp", strings.Replace(addr, "0.0.0.0", "127.0.0.1", 1))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET /metrics HTTP/1.0\r\n\r\n")
		if b, _ := io.ReadAll(c); len(b) > 0 {
			t.Errorf("%s got %q", from, b)
		}
		c.Close()
	}
	// It is for the start, and write keeps it.
	saved := filepath.Join(d.dir, "saved.conf")
	d.ask("write " + saved)
	if text, err := os.ReadFile(saved); err != nil || !strings.Contains(string(text), "\nmetrics "+addr+"\n") {
		t.Errorf("write saved %q, %v", text, err)
	}
	if n := value(t, scrape(t, strings.Replace(addr, "0.0.0.0", "127.0.0.1", 1)), "pen_metrics_denied_total"); n != 2 {
		t.Errorf("%v were denied", n)
	}
}
