package config

import (
	"strings"
	"testing"
)

func TestCheckOfHTTP(t *testing.T) {
	const rest = "listen 8080\nserver 0 address 10.0.0.1 port 80\n"
	for text, want := range map[string]string{
		"http":                         "",
		"http\nhttp_forwarded append":  "",
		"http\nprotocol udp":           "warning: http has no effect with protocol udp",
		"http_forwarded keep":          "warning: http_forwarded has no effect without http",
		"no http\nhttp_forwarded keep": "warning: http_forwarded has no effect without http",
		"http_forwarded remove":        "",
	} {
		statements := read(t, rest+text+"\n")
		var got []string
		for _, f := range (Checker{}).Examine(plan(t, statements), statements) {
			got = append(got, f.Severity+": "+f.What)
		}
		if all := strings.Join(got, "\n"); all != want {
			t.Errorf("%q: got %s, want %s", text, all, want)
		}
	}
}
