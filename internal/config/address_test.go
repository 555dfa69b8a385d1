package config

import (
	"net/netip"
	"strings"
	"testing"
)

func TestListenForms(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"8080", "0.0.0.0:8080"},
		{"http-alt", "0.0.0.0:8080"},
		{"10.0.0.1:80", "10.0.0.1:80"},
		{"127.0.0.1:0", "127.0.0.1:0"},
		{"*:80", "0.0.0.0:80"},
		{":::80", "[::]:80"},
		{"::1:80", "[::1]:80"},
		{"::ffff:127.0.0.1:80", "127.0.0.1:80"},
		{"www1:80", "10.0.1.1:80"},
		{"/run/pen.sock", "invalid AddrPort"},
		{"0", "port 0 out of range"},
		{"70000", "port 70000 out of range"},
		{"foo", "port foo out of range"},
		{"[::1]:80", "can't convert address [::1]: an IPv6 listen address has no brackets"},
		{":80", `can't convert address ""`},
		{"nosuch:80", "resolve nosuch: no such host"},
		{"a b:80", "a listen address with blanks or control characters"},
		{"run/pen.sock", `path "run/pen.sock" of a Unix socket is not absolute`},
		{"/" + strings.Repeat("x", 107), "path of a Unix socket longer than 107 bytes"},
		{"", "an empty listen address"},
	} {
		e := &environment{ctx: t.Context(), resolve: names}
		l, err := e.listen(c.text)
		got := l.Addr.String()
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("listen %q: got %q, want %q", c.text, got, c.want)
		}
		if err == nil && l.Text != c.text {
			t.Errorf("listen %q: text became %q", c.text, l.Text)
		}
	}
}

func TestServerFieldsEndAtTheFirstThatIsNoNumber(t *testing.T) {
	// Recorded from the original.
	for _, c := range []struct {
		text string
		want ServerSpec
	}{
		{"127.0.0.1:9:1:2:3:4", ServerSpec{Host: "127.0.0.1", Port: 9, Soft: 1, Hard: 2, Weight: 3, Prio: 4}},
		{"www3", ServerSpec{Host: "www3", Port: DefaultPort}},
		{"127.0.0.1:", ServerSpec{Host: "127.0.0.1", Port: DefaultPort}},
		{"127.0.0.1::5", ServerSpec{Host: "127.0.0.1", Port: DefaultPort}},
		{"127.0.0.1:8x:9", ServerSpec{Host: "127.0.0.1", Port: 8, Soft: 9}},
		{"127.0.0.1:80:x:5", ServerSpec{Host: "127.0.0.1", Port: 80}},
		{"127.0.0.1:80:5x:7", ServerSpec{Host: "127.0.0.1", Port: 80, Soft: 5}},
		{"127.0.0.1:80: 5:6", ServerSpec{Host: "127.0.0.1", Port: 80, Soft: 5, Hard: 6}},
		{"127.0.0.1:80:+5:6", ServerSpec{Host: "127.0.0.1", Port: 80, Soft: 5, Hard: 6}},
		{"127.0.0.1: 81:3", ServerSpec{Host: "127.0.0.1", Port: 81, Soft: 3}},
		{"127.0.0.1:http:6", ServerSpec{Host: "127.0.0.1", Port: 80, Soft: 6}},
		{"127.0.0.1:x:4", ServerSpec{Host: "127.0.0.1", Port: 0, Soft: 4}},
		{"127.0.0.1:99999", ServerSpec{Host: "127.0.0.1", Port: 34463}},
		{"127.0.0.1:-1", ServerSpec{Host: "127.0.0.1", Port: 65535}},
		{"127.0.0.1:80:-3:5:6:7:8", ServerSpec{Host: "127.0.0.1", Port: 80, Soft: -3, Hard: 5, Weight: 6, Prio: 7}},
		{"[::1]:80", ServerSpec{Host: "::1", Port: 80}},
		{"[::1]", ServerSpec{Host: "::1", Port: DefaultPort}},
		{"/run/app.sock", ServerSpec{Host: "/run/app.sock", Port: 1}},
		{"/run/app.sock:80:7", ServerSpec{Host: "/run/app.sock", Port: 1, Soft: 7}},
		{"127.1:99", ServerSpec{Host: "127.1", Port: 99}},
	} {
		got, err := ParseServer(c.text)
		c.want.Text = c.text
		if err != nil || got != c.want {
			t.Errorf("%q: got %+v, %v, want %+v", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"", "::1", ":80", "[::1", "[::1]80", "[127.0.0.1]:80", "a b:80", "80", "tmp/x", "[foo]:1"} {
		if got, err := ParseServer(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, got)
		}
	}
}

func TestSpecIsWrittenAsItIsRead(t *testing.T) {
	for _, text := range []string{"10.0.0.1", "10.0.0.1:80", "[::1]:80:1:2:3:4", "h:80:0:0:5", "/run/x", "/run/x:1:7"} {
		spec, err := ParseServer(text)
		if err != nil || spec.String() != text {
			t.Errorf("%q: got %q, %v", text, spec, err)
		}
	}
}

func TestAtonTakesWhatCTakes(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1": "127.0.0.1", "127.1": "127.0.0.1", "0x7f.1": "127.0.0.1", "010.1.2.3": "8.1.2.3", "1.2.515": "1.2.2.3",
		"16909060": "1.2.3.4", "255.255.255.255": "255.255.255.255",
		"1.2.3.4.5": "", "256.1.1.1": "", "1.2.3": "1.2.0.3", "1.2.65536": "", "a": "", "": "", "1..2": "", "-1.2": "", "0b1.1": "", "1_0.1": "", "08.1": "",
	} {
		got, ok := aton(text)
		if (want == "") == ok || (ok && got != netip.MustParseAddr(want)) {
			t.Errorf("aton(%q) = %v %v, want %q", text, got, ok, want)
		}
	}
}
