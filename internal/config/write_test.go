package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pen/state"
	"pgregory.net/rapid"
)

// anyServer draws a slot as commands can make it.
func anyServer(t *rapid.T) state.Server {
	number := rapid.IntRange(minInt, maxInt)
	s := state.Server{Soft: number.Draw(t, "soft"), Hard: number.Draw(t, "hard"), Weight: number.Draw(t, "weight"), Prio: number.Draw(t, "prio")}
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0: // a hole, or one whose port came first
	case 1:
		s.Address = state.Address{Host: "/run/app.sock"}
		s.Port = 1
		return s
	case 2:
		s.Address = state.Address{Host: "www1", IP: netip.MustParseAddr("10.0.1.1")}
	case 3:
		a := netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip6"))).Unmap()
		s.Address = state.Address{Host: a.String(), IP: a}
	case 4:
		a := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip4")))
		s.Address = state.Address{Host: a.String(), IP: a}
	}
	s.Port = rapid.Uint16().Draw(t, "port")
	return s
}

func anyEntry(t *rapid.T) state.ACLEntry {
	e := state.ACLEntry{Permit: rapid.Bool().Draw(t, "permit")}
	switch rapid.IntRange(0, 2).Draw(t, "family") {
	case 0:
		e.Country = rapid.StringMatching("[A-Z]{2}").Draw(t, "country")
	case 1:
		e.Addr = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "addr")))
		e.Mask = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "mask")))
	case 2:
		e.Addr = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr")))
		e.Mask = maskOf(rapid.IntRange(0, 128).Draw(t, "length"), 128)
	}
	return e
}

// settingsOps draws the settings of a service.
func settingsOps(t *rapid.T, service string) []state.Op {
	var all []state.Op
	number := rapid.IntRange(minInt, maxInt)
	put := func(o state.Option, v state.Value) {
		if rapid.Bool().Draw(t, o.String()+"?") {
			all = append(all, state.Set{Service: service, Option: o, Value: v})
		}
	}
	for _, o := range []state.Option{
		state.OptRoundRobin, state.OptWeight, state.OptPrio, state.OptStubborn, state.OptNoDelay, state.OptKeepalive, state.OptTransparent, state.OptDummy,
	} {
		put(o, state.Bool(rapid.Bool().Draw(t, o.String())))
	}
	for _, o := range []state.Option{
		state.OptTimeout, state.OptBlacklist, state.OptTracking, state.OptPendingMax, state.OptAcceptMax, state.OptBacklog, state.OptIdle,
		state.OptClientACL, state.OptIdlers,
	} {
		put(o, state.Int(number.Draw(t, o.String())))
	}
	put(state.OptDirectLink, state.Text(rapid.SampledFrom([]string{"", "auto", "eth0"}).Draw(t, "dsr_if")))
	put(state.OptTarpit, state.Int(rapid.IntRange(-1, 9).Draw(t, "tarpit_acl")))
	put(state.OptTarpitList, state.Text(rapid.SampledFrom([]string{"", "dark"}).Draw(t, "tarpit_acl")))
	put(state.OptHash, state.Int(rapid.IntRange(0, 2).Draw(t, "hash")))
	put(state.OptFastclose, state.Int(rapid.IntRange(0, 3).Draw(t, "fastclose")))
	put(state.OptClientsMax, state.Int(rapid.IntRange(1, 4000).Draw(t, "clients_max")))
	put(state.OptConnMax, state.Int(rapid.IntRange(1, maxConns).Draw(t, "conn_max")))
	put(state.OptSource, state.Text(rapid.SampledFrom([]string{"", "10.0.0.9", "2001:db8::1"}).Draw(t, "source")))
	for _, o := range []state.Option{state.OptTLSCertificate, state.OptTLSKey, state.OptTLSCAFile, state.OptTLSCAPath, state.OptTLSOCSP, state.OptTLSSNIPath} {
		put(o, state.Text(rapid.SampledFrom([]string{"", "/etc/pen/x.pem"}).Draw(t, o.String())))
	}
	put(state.OptTLSClient, state.Int(rapid.IntRange(0, 2).Draw(t, "client certificate")))
	put(state.OptTLSVersions, state.Int(rapid.IntRange(0, 2).Draw(t, "versions")))
	put(state.OptTLSCiphers, state.Text(rapid.SampledFrom([]string{"", "HIGH:!aNULL"}).Draw(t, "ciphers")))
	put(state.OptListen, state.Bind(rapid.SampledFrom([]state.Listen{
		{},
		{Text: "8080", Addr: netip.MustParseAddrPort("0.0.0.0:8080")},
		{Text: "/run/pen.sock"},
		{Text: "10.0.0.10", Addr: netip.MustParseAddrPort("10.0.0.10:0")},
		{Text: ":::80", Addr: netip.MustParseAddrPort("[::]:80")},
		{Text: "www1:http", Addr: netip.MustParseAddrPort("10.0.1.1:80")},
	}).Draw(t, "listen")))
	for i := range rapid.IntRange(0, 4).Draw(t, "servers") {
		s := anyServer(t)
		s.ACL = state.Numbered(number.Draw(t, "acl"))
		fields := specFieldsSet | state.FieldACL
		all = append(all, state.SetServer{Service: service, Index: i * 2, Fields: fields, Server: s})
	}
	for _, i := range []int{state.Emergency, state.Abuse} {
		s := anyServer(t)
		if s.Host != "" {
			all = append(all, state.SetServer{Service: service, Index: i, Fields: specFieldsSet, Server: s})
		}
	}
	return all
}

func TestWhatIsWrittenReadsBackAsTheSameState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := settingsOps(t, "default")
		for i := range rapid.IntRange(0, 2).Draw(t, "services") {
			name := fmt.Sprintf("s-%d", i)
			all = append(all, state.AddService{Service: name})
			all = append(all, settingsOps(t, name)...)
		}
		for range rapid.IntRange(0, 6).Draw(t, "entries") {
			all = append(all, state.AppendACL{List: rapid.IntRange(0, 9).Draw(t, "list"), Entry: anyEntry(t)})
		}
		// A list that is named has to be there.
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"office", "home", "x.y-z_1"}), 0, 3, rapid.ID).Draw(t, "names") {
			all = append(all, state.AppendNamedACL{Name: name, Entry: anyEntry(t)}, state.AppendNamedACL{Name: name, Entry: anyEntry(t)},
				state.Set{Option: state.OptClientList, Value: state.Text(name)},
				state.SetServer{Index: 7, Fields: state.FieldACLName, Server: state.Server{ACL: state.List{Name: name}}})
		}
		number := rapid.IntRange(minInt, maxInt)
		all = append(all,
			state.Set{Option: state.OptGeoIPDB, Value: state.Text(rapid.SampledFrom([]string{"", "/var/lib/geo.mmdb"}).Draw(t, "geoip_db"))},
			state.Set{Option: state.OptControlACL, Value: state.Int(number.Draw(t, "control_acl"))},
			state.Set{Option: state.OptDrainTimeout, Value: state.Int(number.Draw(t, "drain_timeout"))})
		m := state.New()
		if r := m.Apply(state.Command{Time: state.At(noon), Ops: all}); r.Err != nil {
			t.Fatalf("%v", r.Err)
		}
		local := Local{
			ASCII: rapid.Bool().Draw(t, "ascii"), AbortOnError: rapid.Bool().Draw(t, "abort"), Debug: number.Draw(t, "debug"), Foreground: true, User: "nobody",
			WebStats: rapid.SampledFrom([]string{"", "/run/pen.html"}).Draw(t, "web_stats"),
			Filed:    map[string]string{"user": "user nobody", "foreground": "foreground"},
		}
		var b strings.Builder
		if err := Write(&b, m.View(), local, noon); err != nil {
			t.Fatal(err)
		}
		statements, err := ParseReader("written", strings.NewReader(b.String()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		p, err := planner().Plan(t.Context(), statements)
		if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		if d := state.Diff(m.View(), p.View); len(d) != 0 {
			t.Fatalf("what is missing: %v of\n%s", d, b.String())
		}
		if fmt.Sprintf("%+v", p.Local) != fmt.Sprintf("%+v", local) {
			t.Fatalf("got local %+v, want %+v", p.Local, local)
		}
		var again strings.Builder
		if err := Write(&again, p.View, p.Local, noon); err != nil || again.String() != b.String() {
			t.Fatalf("written again, it differs: %v\n%s", err, again.String())
		}
	})
}

func TestWrittenText(t *testing.T) {
	statements := read(t, `
control /run/pen/ctl
listen 8080
server 0 address www1 port 80 max 1 hard 2 weight 3 prio 4
server 2 address ::1 port 81 acl 7
acl 1 permit 10.0.0.0/8
acl 1 deny ::1
emergency [::1]:90
no foreground
service web
listen 81
hash compat
source 10.0.0.9
`)
	p := planner()
	p.Local = Local{File: "/etc/pen.conf", Foreground: true}
	got, err := p.Plan(t.Context(), statements)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "written.conf", write(t, got.View, got.Local))
}

func TestSaveReplacesTheFileWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pen.conf")
	v := plan(t, read(t, "blacklist 45\n")).View
	if err := Save(path, v, Local{}, noon); err != nil {
		t.Fatal(err)
	}
	mode := func() fs.FileMode {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	if got := mode(); got != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("a new file has mode %v", got)
	}
	os.Chmod(path, 0o640)
	if err := Save(path, v, Local{}, noon); err != nil {
		t.Fatal(err)
	}
	if got := mode(); got != 0o640 && runtime.GOOS != "windows" {
		t.Errorf("the mode became %v", got)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != write(t, v, Local{File: path}) {
		t.Errorf("got %v\n%s", err, text)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}
