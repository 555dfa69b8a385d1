package control

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		text  string
		want  string // addresses, or the path
		local bool
	}{
		{"8888", "127.0.0.1:8888 [::1]:8888", true},
		{"localhost:8888", "127.0.0.1:8888 [::1]:8888", true},
		{"http", "127.0.0.1:80 [::1]:80", true},
		{"127.0.0.1:8888", "127.0.0.1:8888", true},
		{"::1:8888", "[::1]:8888", true},
		{"[::1]:8888", "[::1]:8888", true},
		{"::ffff:127.0.0.1:80", "127.0.0.1:80", true},
		{"10.0.0.1:8888", "10.0.0.1:8888", false},
		{"*:8888", "[::]:8888", false},
		{":::8888", "[::]:8888", false},
		{"0.0.0.0:8888", "0.0.0.0:8888", false},
		{"fe80::1%eth0:1", "[fe80::1%eth0]:1", false},
		{"/run/pen/ctl", "/run/pen/ctl", true},
		{"./ctl:1", "./ctl:1", true},
	} {
		a, err := Resolve(t.Context(), tt.text)
		var parts []string
		for _, p := range a.TCP {
			parts = append(parts, p.String())
		}
		if a.Path != "" {
			parts = append(parts, a.Path)
		}
		if got := strings.Join(parts, " "); got != tt.want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", tt.text, got, err, tt.want)
		}
		if a.Local() != tt.local {
			t.Errorf("%s: local %v", tt.text, a.Local())
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "port",
		":8888":            "no host",
		"127.0.0.1:":       "no port given",
		"::1":              "no IPv6 address",
		"a:b:80":           "no IPv6 address",
		"[::1:80":          "brackets",
		"[127.0.0.1]x:80":  "brackets",
		"70000":            "port",
		"127.0.0.1:no-svc": "port",
	} {
		if a, err := Resolve(t.Context(), text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want an error with %q", text, a, err, want)
		}
	}
}

func TestGuard(t *testing.T) {
	for _, tt := range []struct {
		text       string
		restricted bool
		ok         bool
	}{
		{"8888", false, true},
		{"/run/ctl", false, true},
		{"127.0.0.2:8888", false, true},
		{"*:8888", false, false},
		{"10.0.0.1:8888", false, false},
		{"10.0.0.1:8888", true, true},
	} {
		a, err := Resolve(t.Context(), tt.text)
		if err != nil {
			t.Fatal(err)
		}
		err = a.Guard(tt.restricted)
		if (err == nil) != tt.ok {
			t.Errorf("%s, restricted %v: %v", tt.text, tt.restricted, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "control_acl") || !strings.Contains(err.Error(), tt.text)) {
			t.Errorf("message does not help: %v", err)
		}
	}
	if s, err := Listen(t.Context(), "0.0.0.0:0", Options{Handler: echo}); err == nil {
		s.Close()
		t.Error("listens on every address without an access list")
	}
}

func TestBarePortIsLoopbackOfBothFamilies(t *testing.T) {
	s := start(t, "0", Options{})
	port := netip.MustParseAddrPort(s.Addr()).Port()
	hosts := []netip.Addr{loopback[0]}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		hosts = loopback
	} else {
		t.Log("no IPv6 here: trying IPv4 only")
	}
	for _, h := range hosts {
		got, err := Ask(t.Context(), netip.AddrPortFrom(h, port).String(), "mode")
		if string(got) != "<mode>\n" || err != nil {
			t.Errorf("%v: got %q, %v", h, got, err)
		}
	}
	if len(s.listeners) != len(hosts) {
		t.Errorf("listens on %d addresses, want %d", len(s.listeners), len(hosts))
	}
}

func TestTakenPortIsAnError(t *testing.T) {
	s := start(t, "0", Options{})
	_, port, _ := net.SplitHostPort(s.Addr())
	if again, err := Listen(t.Context(), port, Options{Handler: echo}); err == nil {
		again.Close()
		t.Error("two servers on one port")
	} else if !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"8888", "::1:80", "[::1]:80", "a:b", ":", "[:", "[]:1", "%:1", "fe80::1%e:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host, port, err := split(text)
		if err != nil {
			return
		}
		if strings.Contains(port, ":") {
			t.Errorf("%q: port %q", text, port)
		}
		whole := []string{port, host + ":" + port, "[" + host + "]:" + port}
		if !slices.Contains(whole, text) {
			t.Errorf("%q became %q and %q", text, host, port)
		}
	})
}
