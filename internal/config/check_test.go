package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pen/state"
)

// checked is the report on a file with a command line before it.
func checked(t *testing.T, text string, args ...string) Report {
	t.Helper()
	put(t, map[string]string{"pen.conf": text})
	line, err := ParseArgs(append(args, "-F", "pen.conf"))
	if err != nil {
		t.Fatal(err)
	}
	geo := func(file string) error { return fmt.Errorf("read %s: is no database", file) }
	opaque := func(*state.Service) []error { return []error{errors.New("no way back")} }
	return Checker{Resolve: names, Fits: atMost2000, GeoIP: geo, Transparent: opaque}.Check(t.Context(), line)
}

func atMost2000(v *state.View) error {
	for _, s := range v.Services {
		if s.ConnMax > 2000 {
			return fmt.Errorf("conn_max %d: at most 2000 fit", s.ConnMax)
		}
	}
	return nil
}

const goodConf = "listen 8080\nserver 0 address 10.0.0.1 port 80\n"

func TestCheckFindsNothingInWhatIsGood(t *testing.T) {
	if r := checked(t, goodConf+"control 8888\n"); len(r) != 0 {
		t.Errorf("got %v", r)
	}
	if r := checked(t, "", "8080", "10.0.0.1:80", "/run/app.sock"); len(r) != 0 {
		t.Errorf("got %v", r)
	}
}

func TestCheckFinds(t *testing.T) {
	for _, c := range []struct{ conf, want string }{
		{"server 0 address 10.0.0.1 port 80\n", "error: no listener: nothing says where clients are waited for"},
		{"listen 8080\n", "pen.conf:1:1: warning: no servers: clients will be closed"},
		{goodConf + "service web\nlisten 127.0.0.1:8080\nserver 0 address 10.0.0.1 port 80\n", "pen.conf:4:1: error: service web: 127.0.0.1:8080 is where service default listens already"},
		{goodConf + "service web\nserver 0 address 10.0.0.1 port 80\n", "warning: service web: servers but no listener"},
		{goodConf + "weight\n", "pen.conf:3:1: warning: weight is on and no server has a weight: none will be chosen"},
		{goodConf + "server 0 weight 1\nweight\nprio\n", "pen.conf:4:1: warning: weight has no effect while prio is on"},
		{goodConf + "hash\nprio\n", "pen.conf:3:1: warning: hash has no effect while weight or prio is on"},
		{goodConf + "server 1 address 10.0.0.1 port 80\n", "pen.conf:3:1: warning: server 1 is the same as server 0"},
		{goodConf + "server 1 max 3\n", "pen.conf:3:1: warning: server 1 has no address"},
		{goodConf + "server 1 address 10.0.0.2\n", "pen.conf:3:1: warning: server 1 has port 0 and is never used"},
		{goodConf + "server 1 address 127.0.0.1 port 8080\n", "pen.conf:3:1: error: server 1 is pen's own listener 8080"},
		{goodConf + "control 8888\nserver 1 address 127.0.0.1 port 8888\n", "pen.conf:4:1: error: server 1 is pen's own control port 8888"},
		{goodConf + "control /run/c\nemergency /run/c\n", "pen.conf:4:1: error: the emergency server is pen's own control port /run/c"},
		{goodConf + "control 10.0.0.1:8888\n", "pen.conf:3:1: error: control 10.0.0.1:8888 is open to the network, and control_acl is list 0, which is empty"},
		{goodConf + "control 8080\n", "pen.conf:3:1: error: control 8080 is where service default listens"},
		{goodConf + "metrics 9100\nserver 1 address 127.0.0.1 port 9100\n", "pen.conf:4:1: error: server 1 is pen's own port for metrics 9100"},
		{goodConf + "metrics 10.0.0.1:9100\n", "pen.conf:3:1: error: metrics 10.0.0.1:9100 is open to the network, and control_acl is list 0, which is empty"},
		{goodConf + "metrics 8080\n", "pen.conf:3:1: error: metrics 8080 is where service default listens"},
		{goodConf + "control *:8888\ncontrol_acl 1\nacl 1 permit 10.0.0.1\nmetrics 8888\n", "pen.conf:6:1: error: metrics 8888 is where the control port is"},
		{goodConf + "metrics /run/m\n", "pen.conf:3:9: error: metrics: \"/run/m\" is a path, expected [HOST:]PORT"},
		{goodConf + "metrics 10.0.0.1\n", "pen.conf:3:9: error: metrics: \"10.0.0.1\" has no port, expected [HOST:]PORT"},
		{goodConf + "control foo\n", "pen.conf:3:9: error: control: port foo out of range, expected [HOST:]PORT or a path"},
		{goodConf + "client_acl 3\n", "pen.conf:3:1: warning: access list 3 is empty, so it permits everybody"},
		{goodConf + "server 0 acl 11\n", "pen.conf:3:1: warning: server 0 acl 11: there are lists 0 to 9, and those with names"},
		{goodConf + "server 0 max -1\n", "pen.conf:3:1: warning: server 0 max -1: it counts as always full"},
		{goodConf + "abuse 10.0.0.9:80\n", "pen.conf:3:1: warning: the abuse server is never used: client_acl is list 0, which denies nobody"},
		{goodConf + "stubborn\nemergency 10.0.0.9:80\n", "pen.conf:4:1: warning: the emergency server is never used while stubborn is on"},
		{goodConf + "acl 1 permit country SE\n", "pen.conf:3:1: warning: access list 1: country entries match nobody without a database: name one with `geoip_db FILE`"},
		{goodConf + "acl 1 permit country uk\n", "pen.conf:3:1: warning: access list 1: country UK is no country's code, did you mean GB?"},
		{goodConf + "acl 1 permit country ZZ\n", "pen.conf:3:1: warning: access list 1: country ZZ is no country's code (ISO 3166-1)"},
		{goodConf + "acl 1 permit country SE\ngeoip_db /bad.mmdb\n", "pen.conf:4:1: warning: geoip_db: read /bad.mmdb: is no database: country entries match nobody on this machine"},
		{goodConf + "acl office permit 10.0.0.0/8\nclient_acl ofice\n", "pen.conf:4:1: error: client_acl ofice: there is no access list of that name, and nobody would be let in"},
		{goodConf + "control_acl office\n", "pen.conf:3:1: error: control_acl office: there is no access list of that name, and nobody would be let in"},
		{goodConf + "server 0 acl office\n", "pen.conf:3:1: error: server 0 acl office: there is no access list of that name, and nobody would be let in"},
		{goodConf + "acl of,fice permit 10.0.0.0/8\n", `pen.conf:3:5: error: "of,fice" for acl, expected a number from 0 to 9, or a name of letters, digits, '-', '_' and '.' that begins with a letter`},
		{goodConf + "transparent\nsource 10.0.0.9\n", "pen.conf:3:1: warning: transparent has no effect: source comes first, and the servers see 10.0.0.9"},
		{goodConf + "transparent\n", "pen.conf:3:1: warning: transparent: no way back"},
		{goodConf + "conn_max 3000\n", "pen.conf:3:1: error: conn_max 3000: at most 2000 fit"},
		{goodConf + "timeout 0\n", "pen.conf:3:1: warning: timeout 0: no server can accept in time"},
		{goodConf + "block\n", `pen.conf:3:1: warning: "block" does nothing; remove it`},
		{goodConf + "server 1 address nosuch port 80\n", "pen.conf:3:1: error: server 1 address nosuch: resolve nosuch: no such host"},
		{goodConf + "tiemout 3\n", `pen.conf:3:1: error: unknown word "tiemout", did you mean "timeout"`},
	} {
		var b strings.Builder
		r := checked(t, c.conf)
		if err := r.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains("\n"+b.String(), "\n"+c.want+"\n") {
			t.Errorf("%q: want %q in\n%s", c.conf, c.want, b.String())
		}
		if r.OK() == strings.Contains(c.want, "error:") {
			t.Errorf("%q: OK is %v", c.conf, r.OK())
		}
	}
}

func TestCheckReportsEverythingInOneRun(t *testing.T) {
	r := checked(t, "foo\nlisten 8080\nserver 0 address nosuch port 80\ntimeout x\nweight\nserver 1 address 10.0.0.1 port 80\n")
	var got []string
	for _, f := range r {
		got = append(got, f.String())
	}
	equal(t, "report", got, []string{
		`pen.conf:1:1: error: unknown word "foo"`,
		`pen.conf:4:9: error: "x" for timeout, expected a number`,
		`pen.conf:3:1: error: server 0 address nosuch: resolve nosuch: no such host`,
		`pen.conf:3:1: warning: server 0 has no address`,
		`pen.conf:5:1: warning: weight is on and no server has a weight: none will be chosen`,
	})
}

func TestReportForPrograms(t *testing.T) {
	var b bytes.Buffer
	if err := checked(t, goodConf+"tiemout 3\n").WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	equal(t, "JSON", got, []map[string]any{{
		"file": "pen.conf", "line": 3.0, "column": 1.0, "severity": "error", "what": `unknown word "tiemout"`, "hint": "timeout",
	}})
	b.Reset()
	if err := checked(t, goodConf).WriteJSON(&b); err != nil || b.String() != "[]\n" {
		t.Errorf("nothing: got %q, %v", b.String(), err)
	}
}

func TestCheckOfAFileThatIsNotThere(t *testing.T) {
	line, _ := ParseArgs([]string{"-F", "/nonexistent/pen.conf", "8080"})
	r := Checker{Resolve: names}.Check(t.Context(), line)
	if r.OK() || r[0].String() != "/nonexistent/pen.conf: error: no such file or directory" {
		t.Errorf("got %v", r)
	}
}
