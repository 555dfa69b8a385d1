package daemon

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pen/proxy"
	"pen/state"
)

func example() *report {
	s := &state.Service{Name: state.DefaultService, Settings: state.Defaults(), Servers: []state.Server{
		{Address: state.Address{Host: "127.0.0.1", IP: netip.MustParseAddr("127.0.0.1")}, Port: 9191},
		{Address: state.Address{Host: "/run/web"}, Soft: 3, Hard: 4, Weight: 5, Prio: 6},
	}}
	now := time.Date(2026, 11, 22, 23, 18, 55, 0, time.Local)
	return &report{
		now: now, clock: state.At(now), service: s,
		stats:   proxy.ServiceStats{Current: 1, Used: 1, Last: 0, Max: 500},
		servers: []proxy.ServerStats{{Conns: 1, Sent: 78, Received: 459}, {Mark: state.At(now)}},
		clients: slices.Values([]proxy.ClientStats{
			{Client: netip.MustParseAddr("127.0.0.1"), Used: state.At(now) - 2500, Connects: 2, Sent: 459, Received: 78},
		}),
		connections: []proxy.ConnStats{{DownFD: 7, UpFD: 8}},
	}
}

// The page as the original writes it, recorded from it and shortened by the
// repetition of tags.
func TestPageHasTheOriginalsBytes(t *testing.T) {
	var b strings.Builder
	if err := example().html(&b); err != nil {
		t.Fatal(err)
	}
	stamp := example().now.Unix()
	want := strings.NewReplacer("{", `<td bgcolor="#80f080">`, "[", "<td>", "]", "</td>\n", "STAMP", itoa(stamp)).Replace(
		`<html>
<head>
<title>Pen status page</title>
</head>
<body bgcolor="#ffffff"><h1>Pen status page</h1>
Time 2026-11-22 23:18:55, 2 servers, 1 current<p>
<table bgcolor="#c0c0c0">
<tr>
{server]{address]{status]{port]{connections]{max soft]{max hard]{sent]{received]{weight]{prio]</tr>
<tr>
[0][127.0.0.1][0][9191][1][0][0][78][459][0][0]</tr>
<tr>
[1][/run/web][STAMP][1][0][3][4][0][0][5][6]</tr>
</table>
<h2>Active clients</h2>Max number of clients: 2048<p><table bgcolor="#c0c0c0">
<tr>
{client]{address]{age(secs)]{last server]{connects]{sent]{received]</tr>
<tr>
[0][127.0.0.1][2][0][2][459][78]</tr>
</table>
<h2>Active connections</h2>Number of connections: 500 max, 1 used, 0 last<p><table bgcolor="#c0c0c0">
<tr>
{connection]{downfd]{upfd]{pending data down]{pending data up]{client]{server]</tr>
<tr>
[0][7][8][0][0][0][0]</tr>
</table>
</body>
</html>
`)
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestTextReportHasOneLineForEachRow(t *testing.T) {
	var b strings.Builder
	j := newJournal(&b, 0)
	example().log(j.log)
	for _, want := range []string{
		": Time 2026-11-22 23:18:55, 2 servers, 1 current service=default\n",
		": Server 0 status: address 127.0.0.1, status 0, port 9191, 1 connections (0 soft, 0 hard), 78 sent, 459 received\n",
		": Client 0 status: address 127.0.0.1, last used " + itoa(example().now.Unix()-3) + ", last server 0, connects 2, 459 sent, 78 received\n",
		": Connection 0 status: downfd = 7, upfd = 8, pending data 0 down, 0 up, client 0, server 0\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no line %q in\n%s", want, b.String())
		}
	}
}

func itoa(n int64) string { return seconds(state.Time(n * 1000)) }

func TestPageTellsOfTLSAndDatagrams(t *testing.T) {
	r := example()
	r.service.TLS.Certificate = "/etc/pen/cert.pem"
	r.service.Servers[1].Host = "/run/<b>&web"
	r.stats.Handshakes = 2
	r.stats.Refused = map[string]uint64{"tls_timeout": 3, "full": 4, "no_server": 5}
	var b strings.Builder
	if err := r.html(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<h2>TLS</h2>", "<td>handshakes under way</td>\n<td>2</td>", "<td>refused_tls_timeout</td>\n<td>3</td>", "<td>/run/&lt;b&gt;&amp;web</td>",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "Datagrams") {
		t.Error("tells of datagrams where there are none")
	}
	r.service.Protocol = state.UDP
	b.Reset()
	_ = r.html(&b)
	if !strings.Contains(b.String(), "<td>refused_full</td>\n<td>4</td>") {
		t.Errorf("got\n%s", b.String())
	}
	var text strings.Builder
	r.log(newJournal(&text, 0).log)
	for _, want := range []string{": TLS: handshakes under way 2, refused_tls_timeout 3\n", ": Datagrams: flows_evicted 0, datagrams_dropped 0, refused_full 4,"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}
