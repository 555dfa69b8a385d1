package config

import (
	"strings"
	"testing"

	"pen/state"
)

func TestCheckOfProxyHeaders(t *testing.T) {
	const rest = "listen 8080\nserver 0 address 10.0.0.1 port 80\n"
	for text, want := range map[string]string{
		"proxy_out v1":                              "",
		"proxy_out v2\nno proxy_out":                "",
		"acl 3 permit 10.0.0.0/8\nproxy_in 3":       "",
		"acl edge permit 10.0.0.0/8\nproxy_in edge": "",
		"proxy_in nosuch":                           "error: proxy_in nosuch: there is no access list of that name, and nobody would be believed",
		"tarpit_acl nosuch":                         "error: tarpit_acl nosuch: there is no access list of that name, and nobody would be held\nwarning: tarpit_acl has no effect without dsr_if",
		"no proxy_in":                               "",
		"proxy_in 3":                                "warning: access list 3 is empty, so everybody has to say for whom he comes, and is believed",
		"protocol udp\nproxy_out v2":                "error: proxy_out is for protocol tcp: there is no connection before whose first byte a header could stand",
		"protocol udp\nacl 3 deny ::/0\nproxy_in 3": "error: proxy_in is for protocol tcp: there is no connection before whose first byte a header could stand",
	} {
		statements := read(t, rest+text+"\n")
		var got []string
		for _, f := range (Checker{}).Examine(plan(t, statements), statements) {
			got = append(got, f.Severity+": "+f.What)
		}
		if all := strings.Join(got, "\n"); all != want {
			t.Errorf("%s: got %s, want %s", text, all, want)
		}
	}
}

func TestWordsWithANoAnswer(t *testing.T) {
	v := state.New().View()
	for _, c := range []struct{ text, before, after string }{
		{"proxy_out v2", "off\n", "v2\n"},
		{"no proxy_out", "v2\n", "off\n"},
		{"proxy_in 4", "off\n", "4\n"},
		{"proxy_in edge", "4\n", "edge\n"},
		{"proxy_in 0", "edge\n", "0\n"},
		{"no proxy_in", "0\n", "off\n"},
		{"resolve 30", "off\n", "30\n"},
		{"no resolve", "30\n", "off\n"},
	} {
		question, _, _ := strings.Cut(strings.TrimPrefix(c.text, "no "), " ")
		ask := func() string {
			s, r := ParseControl(question)
			if r != nil {
				t.Fatalf("%s: got %+v", question, r)
			}
			return s.Reply(v, &Local{})
		}
		if got := ask(); got != c.before {
			t.Errorf("before %s: got %q, want %q", c.text, got, c.before)
		}
		s, r := ParseControl(c.text)
		if r != nil {
			t.Fatalf("%s: got %+v", c.text, r)
		}
		ops, err := s.Ops(t.Context(), nil, v, noon)
		if err != nil {
			t.Fatal(err)
		}
		if v, err = v.With(state.Command{Ops: ops}); err != nil {
			t.Fatal(err)
		}
		if got := s.Reply(v, &Local{}); got != "" {
			t.Errorf("%s: answers %q", c.text, got)
		}
		if got := ask(); got != c.after {
			t.Errorf("after %s: got %q, want %q", c.text, got, c.after)
		}
	}
}

func TestCheckOfResolve(t *testing.T) {
	for text, want := range map[string]string{
		"server 0 address 10.0.0.1 port 80\nresolve 5":                            "warning: resolve has no effect: no server is given by a name",
		"server 0 address /run/s\nresolve 5":                                      "warning: resolve has no effect: no server is given by a name",
		"server 0 address www1 port 80\nresolve 5":                                "",
		"server 0 address 10.0.0.1 port 80\nemergency www1:80\nresolve 5":         "",
		"server 0 address 10.0.0.1 port 80\nresolve 5\nno resolve":                "",
		"server 0 address www1 port 80\nserver 1 address www1 port 80\nresolve 5": "",
		"server 0 address www1 port 80\nserver 1 address www1 port 80":            "warning: server 1 is the same as server 0",
	} {
		statements := read(t, "listen 8080\n"+text+"\n")
		var got []string
		for _, f := range (Checker{}).Examine(plan(t, statements), statements) {
			got = append(got, f.Severity+": "+f.What)
		}
		if all := strings.Join(got, "\n"); all != want {
			t.Errorf("%s: got %s, want %s", text, all, want)
		}
	}
}
