package daemon

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pen/internal/spool"
	"pen/proxy"
	"pen/state"
)

func visit() proxy.Visit {
	return proxy.Visit{
		Service: "web", Client: netip.MustParseAddrPort("10.0.0.7:51234"), Server: 0, Backend: netip.MustParseAddrPort("[fd00::1]:80"),
		Cause: proxy.ClientClosed, Remembered: true, Began: time.Date(2026, 3, 1, 10, 15, 4, 123456789, time.UTC),
		Connect: 812 * time.Microsecond, First: 4210 * time.Microsecond, Total: 61204311 * time.Microsecond, Received: 812, Sent: 40231,
	}
}

func TestAccessLine(t *testing.T) {
	whole := visit()
	nowhere := visit()
	nowhere.Server, nowhere.Backend, nowhere.Cause, nowhere.Connect, nowhere.First = state.None, netip.AddrPort{}, proxy.ConnectFailed, 0, 0
	nowhere.Failovers, nowhere.Client = 2, netip.AddrPort{}
	secure := visit()
	secure.Server, secure.Path, secure.Remembered, secure.Protocol = state.Emergency, "/run/my app", false, state.TCP
	secure.TLS = &proxy.Secured{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Name: "shop.example", Protocol: "h2", Resumed: true}
	for _, c := range []struct {
		name string
		v    proxy.Visit
		want string
	}{
		{"whole", whole, "time=2026-03-01T10:15:04.123456Z node=n1 service=web protocol=tcp client=10.0.0.7:51234 server=0 backend=[fd00::1]:80 " +
			"end=client_closed choice=remembered failovers=0 connect=0.000812 first=0.004210 total=61.204311 received=812 sent=40231\n"},
		{"no server", nowhere, "time=2026-03-01T10:15:04.123456Z node=n1 service=web protocol=tcp client=unix " +
			"end=connect_failed failovers=2 total=61.204311 received=812 sent=40231\n"},
		{"TLS", secure, "time=2026-03-01T10:15:04.123456Z node=n1 service=web protocol=tcp client=10.0.0.7:51234 server=emergency backend=\"/run/my app\" " +
			"end=client_closed choice=new failovers=0 connect=0.000812 first=0.004210 total=61.204311 received=812 sent=40231 " +
			"tls=\"TLS 1.3\" tls_cipher=TLS_AES_128_GCM_SHA256 tls_name=shop.example tls_alpn=h2 tls_resumed=true\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := visitFormat{node: "n1"}
			if got := string(f.append(nil, &c.v)); got != c.want {
				t.Errorf("got  %swant %s", got, c.want)
			}
			f.json.Store(true)
			var facts map[string]any
			line := f.append(nil, &c.v)
			if err := json.Unmarshal(line, &facts); err != nil {
				t.Fatalf("%v of %s", err, line)
			}
			if len(facts) != strings.Count(strings.ReplaceAll(strings.ReplaceAll(c.want, "my app", ""), "TLS 1.3", ""), "=") {
				t.Errorf("got %s", line)
			}
			if facts["service"] != "web" || facts["total"] != 61.204311 || facts["end"] != c.v.Cause.String() {
				t.Errorf("got %s", line)
			}
		})
	}
}

func TestEveryCauseHasAName(t *testing.T) {
	seen := map[string]bool{}
	for c := proxy.Cause(0); c <= proxy.ListenerClosed; c++ {
		if name := c.String(); name == "" || seen[name] {
			t.Errorf("cause %d is called %q", c, name)
		} else {
			seen[name] = true
		}
	}
}

// Whatever a client says, his line is one line, reads back, and is not too long.
func FuzzAccessLine(f *testing.F) {
	f.Add("shop.example", "h2")
	f.Add("a\nb \"c\" \\ \xff\x00\u2028", strings.Repeat("é", 200))
	f.Fuzz(func(t *testing.T, name, alpn string) {
		v := visit()
		v.TLS = &proxy.Secured{Version: tls.VersionTLS12, Name: name, Protocol: alpn}
		for _, asJSON := range []bool{false, true} {
			var form visitFormat
			form.json.Store(asJSON)
			line := form.append(nil, &v)
			if len(line) > spool.LineMost || bytes.IndexByte(line, '\n') != len(line)-1 || !utf8.Valid(line) {
				t.Errorf("%d bytes: %q", len(line), line)
			}
			var facts map[string]any
			if asJSON {
				if err := json.Unmarshal(line, &facts); err != nil {
					t.Errorf("%v: %q", err, line)
				}
			}
		}
	})
}

func TestAccessLineAllocatesNothing(t *testing.T) {
	l := newLogs(nil, nil, nil)
	l.access.now.Store(spool.New(spool.Stream(&bytes.Buffer{}), &l.access.counts, nil))
	v := visit()
	if n := testing.AllocsPerRun(1000, func() { l.putVisit(&v) }); n > 1 { // the queue grows
		t.Errorf("%v allocations a line", n)
	}
}

func BenchmarkAccessLine(b *testing.B) {
	var form visitFormat
	var room [visitRoom]byte
	v := visit()
	b.ReportAllocs()
	for b.Loop() {
		form.append(room[:0], &v)
	}
}
